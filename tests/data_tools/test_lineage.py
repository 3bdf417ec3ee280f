"""Manifests, and the way back over them: by the commands that write them, and by hand where they are broken."""

import json
import os
import shutil
import threading
from pathlib import Path

import polars as pl
import pytest

from data_tools import ancestry, artifact, ingest, lineage, passes
from data_tools.commands._shared import write_tables
from data_tools.errors import UserError
from data_tools.memory import DEFAULT
from data_tools.schema import JUDGMENT, PREFERENCE, conform
from tests.data_tools.test_cli import fails, runs


def pairs(n=12, name="p"):
    turns = [[{"role": "user", "content": f"{name} question {i}"}] for i in range(n)]
    frame = pl.DataFrame(
        {
            "pair_id": [f"{name}{i}" for i in range(n)],
            "source": name,
            "prompt": turns,
            "chosen": "yes",
            "rejected": "no",
        }
    )
    return conform(frame, PREFERENCE)


@pytest.fixture
def chain(tmp_path, monkeypatch, capsys):
    """raw.jsonl -> pairs/train.parquet -> split.parquet -> prompts.jsonl, in the folder that is worked in."""
    monkeypatch.chdir(tmp_path)
    raw = tmp_path / "raw.jsonl"
    raw.write_text('{"anything": 1}\n')
    key = {"stage": "ingest", "version": 1, "max_chars": 6000, "rows": None}
    counts = {"read": 15, "dropped": {"empty": 0, "too long": 3}, "written": {"train": 12}}
    write_tables(tmp_path / "pairs", {"train": pairs()}, ("train", "test"), key, inputs=[raw], counts=counts)
    runs(capsys, "split", "pairs/train.parquet", "--out", "split.parquet", "--test", "0.3")
    runs(capsys, "prompts", "split.parquet", "--out", "prompts.jsonl", "--told", "wrong")
    return tmp_path


def names(root):
    return [(node.name, node.command) for node in root]


def test_the_way_back_to_the_raw_file(chain, capsys):
    assert names(ancestry.trace("prompts.jsonl")) == [
        ("prompts.jsonl", "prompts"),
        ("split.parquet", "split"),
        ("pairs/train.parquet", "ingest"),
        ("raw.jsonl", ""),
    ]
    said = runs(capsys, "lineage", "prompts.jsonl", "--check")
    raw = artifact.digest(chain / "raw.jsonl")
    for part in ("told wrong", "read 12, written 24", "test 0.3", "dropped.too long 3", "max_chars 6,000", "polars "):
        assert part in said, part
    assert "empty" not in said  # nothing was dropped for that
    assert f"raw.jsonl  {raw[:8]}  (no manifest: a raw file, or made elsewhere)" in said
    listed = json.loads(runs(capsys, "lineage", "prompts.jsonl", "--json"))
    assert [step["inputs"] for step in listed] == [[1], [2], [3], []]
    assert listed[3]["digest"] == raw and listed[0]["settings"] == {"told": "wrong", "template": "mt_bench"}


def test_every_file_of_a_folder_and_the_manifests_themselves_lead_back(chain):
    way = names(ancestry.trace("pairs/train.parquet"))[1:]
    assert way == names(ancestry.trace("pairs"))[1:] == names(ancestry.trace("pairs/manifest.json"))[1:]
    assert names(ancestry.trace("split.parquet.manifest.json")) == names(ancestry.trace("split.parquet"))
    assert names(ancestry.trace("raw.jsonl")) == [("raw.jsonl", "")]
    # What lies beside the tables was not made with them.
    shutil.copy("raw.jsonl", "pairs/other.jsonl")
    assert names(ancestry.trace("pairs/other.jsonl")) == [("pairs/other.jsonl", "")]


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda: Path("raw.jsonl").write_text('{"anything": 2}\n'), "raw.jsonl (changed since)"),
        (lambda: Path("raw.jsonl").write_text('{"anything": 22}\n'), "raw.jsonl (changed since)"),
        (lambda: pairs(11).write_parquet("pairs/train.parquet"), "pairs/train.parquet (changed since)"),
        (lambda: Path("raw.jsonl").unlink(), "raw.jsonl (no longer there)"),
        (lambda: Path("prompts.jsonl").write_text("{}"), "prompts.jsonl (changed since)"),
        (lambda: Path("split.parquet").unlink(), "split.parquet (no longer there)"),
        (lambda: Path("pairs/manifest.json").write_text("{"), "pairs/train.parquet (its manifest cannot be read)"),
    ],
)
def test_check_says_what_is_not_as_it_was(chain, capsys, spoil, said):
    spoil()
    from data_tools.__main__ import main

    assert main(["lineage", "prompts.jsonl", "--check"]) == 2
    err = capsys.readouterr().err
    assert err == f"error: prompts.jsonl: not made of what is there now: {said}\n"
    assert main(["lineage", "prompts.jsonl"]) == 0  # to look at it is no error


def test_what_moves_together_stays_found_and_what_moves_alone_is_looked_for(chain, tmp_path_factory, capsys):
    there = tmp_path_factory.mktemp("elsewhere") / "deeper" / "data"
    shutil.copytree(chain, there)
    shutil.rmtree(chain / "pairs")
    assert not any(node.state for node in ancestry.trace(there / "prompts.jsonl", check=True))
    (there.parent / "away").mkdir()
    (there / "raw.jsonl").rename(there.parent / "away" / "raw.jsonl")
    assert [node.state for node in ancestry.trace(there / "prompts.jsonl")][3] == ancestry.GONE
    found = list(ancestry.trace(there / "prompts.jsonl", True, [there.parent / "away"]))[3]
    assert found.path == there.parent / "away" / "raw.jsonl" and not found.state and "moved from" in found.note
    (there.parent / "away" / "raw.jsonl").write_text("the name is not enough")
    assert list(ancestry.trace(there / "prompts.jsonl", True, [there.parent]))[3].state == ancestry.GONE


def test_inputs_are_found_through_links(tmp_path):
    (tmp_path / "big" / "disk").mkdir(parents=True)
    (tmp_path / "raw.jsonl").write_text("{}")
    (tmp_path / "out").symlink_to(tmp_path / "big" / "disk")
    (tmp_path / "out" / "t.txt").write_text("t")
    lineage.write(tmp_path / "out" / "t.txt", "x", [tmp_path / "raw.jsonl"], {"folder": Path("a")}, {})
    for folder in ("out", "big/disk"):
        assert not any(node.state for node in ancestry.trace(tmp_path / folder / "t.txt", check=True))


def test_an_input_that_was_overwritten_is_said_to_be_gone(chain, capsys):
    runs(capsys, "split", "split.parquet", "--out", "split.parquet", "--redo")
    nodes = list(ancestry.trace("split.parquet", check=True))
    assert [(node.name, node.state) for node in nodes] == [
        ("split.parquet", ""),
        ("split.parquet", ancestry.REPLACED),
    ]
    assert "split.parquet (replaced by what was made of it)" in runs_to_2(capsys, "lineage", "split.parquet", "--check")


def runs_to_2(capsys, *argv):
    from data_tools.__main__ import main

    assert main([str(argument) for argument in argv]) == 2
    return capsys.readouterr().err


def test_the_examples_of_star(tmp_path, capsys):
    table = pairs(6)
    artifact.write_table(table, tmp_path / "train.parquet", PREFERENCE)
    votes = [
        {"pair_id": f"p{i}", "swapped": swapped, "iteration": 0, "sample_index": 0, "rationale": f"since {i}",
         "verdict": "A", "vote": "A", "p_a": 0.9, "mean_token_prob": 0.5}
        for i in range(6) for swapped in (False, True)
    ]  # fmt: skip
    (tmp_path / "sample").mkdir()
    judged = tmp_path / "sample" / "judgments.parquet"
    artifact.write_table(conform(pl.DataFrame(votes), JUDGMENT), judged, JUDGMENT)
    out = tmp_path / "sft.parquet"
    given = ["--judgments", judged.parent, "--preferences", tmp_path / "train.parquet", "--objective", "sft"]
    runs(capsys, "star", *given, "--out", out, "--filter", "min_words:words=1")
    root = ancestry.trace(out, check=True)
    assert [node.path.name for node in root] == ["sft.parquet", "judgments.parquet", "train.parquet"]
    assert root.settings["filters"] == ["min_words:words=1"] and root.counts["kept"] == root.counts["right"]
    assert not any(node.state for node in root)


@pytest.fixture
def run_of_star(tmp_path):
    """A run as its stages write it: data -> sample -> select -> fit -> the next sample; a judge in the fit."""
    raw = tmp_path / "train.parquet"
    artifact.write_table(pairs(), raw, PREFERENCE)
    of, run = artifact.digest_of, tmp_path / "runs" / "star"
    keys = {"data": {"stage": "data", "source": {"train": artifact.digest(raw)}}}
    keys["one/sample"] = {"stage": "sample", "data": of(keys["data"]), "judge": "2edba279b5ab36cc8f15a8af9cfe1959"}
    keys["one/select"] = {"stage": "select", "samples": of(keys["one/sample"]), "objective": "sft"}
    keys["one/fit"] = {"stage": "fit", "examples": of(keys["one/select"]), "seed": 3}
    keys["two/sample"] = {"stage": "sample", "data": of(keys["data"]), "judge": of(keys["one/fit"])}
    for name, key in keys.items():
        inputs = {"inputs": lineage.inputs_of([raw], run / "data")} if name == "data" else {}
        artifact.write_manifest(run / name, key, seconds=1.0, facts={"rows": 7}, **inputs)
    (run / "one" / "fit" / "judge").mkdir()
    (run / "one" / "fit" / "judge" / "model.safetensors").write_text("weights")
    return run


def test_stages_are_found_by_their_keys(run_of_star, capsys):
    for judge in ("one/fit", "one/fit/judge", "one/fit/judge/model.safetensors"):
        root = ancestry.trace(run_of_star / judge, check=True)
        assert [node.command for node in root] == ["fit", "select", "sample", "data", "", ""]
        assert [node.note for node in root][1:4] == ["examples", "samples", "data"]
        assert not any(node.state for node in root)
        assert root.settings == {"seed": 3} and root.counts == {"rows": 7}
    again = list(ancestry.trace(run_of_star / "two" / "sample"))
    assert [node.again for node in again if node.command == "data"] == [False, True]
    # The pairs are named, so the way goes on; a model's folder is not.
    assert [node.path and node.path.name for node in root][4:] == ["train.parquet", None]
    shutil.rmtree(run_of_star / "one" / "sample")
    assert "samples (no longer there)" in runs_to_2(capsys, "lineage", run_of_star / "one" / "fit", "--check")


def test_a_stage_under_way(run_of_star):
    folder = run_of_star / "one" / "fit"
    artifact.write_json(folder / "started.json", {"key": artifact.read_json(folder / "manifest.json")["key"]})
    (folder / "manifest.json").unlink()
    root = ancestry.trace(folder / "judge")
    assert (root.command, root.note, len(list(root))) == ("fit", "not finished", 6)


def test_a_circle_ends(tmp_path):
    for name, other in (("a", "b"), ("b", "a")):
        (tmp_path / name).write_text(name)
        said = {"command": "x", "inputs": [{"file": other}, {"file": name}, {"file": "."}]}
        artifact.write_json(lineage.manifest_of(tmp_path / name), said)
    nodes = list(ancestry.trace(tmp_path / "a", check=True))
    assert len(nodes) == 7 and sum(node.again for node in nodes) == 3


def test_a_way_too_long_for_a_tree_is_shown_in_several(tmp_path, capsys):
    for i in range(300):
        (tmp_path / f"f{i}").write_text("x")
        artifact.write_json(
            lineage.manifest_of(tmp_path / f"f{i}"), {"command": "x", "inputs": [{"file": f"f{i + 1}"}]}
        )
    (tmp_path / "f300").write_text("x")
    said = runs(capsys, "lineage", tmp_path / "f0")
    shown = [line for line in said.splitlines() if "/f" in line and "see below" not in line]
    assert len(shown) == 301 and max(map(len, said.splitlines())) <= 160
    assert len(json.loads(runs(capsys, "lineage", tmp_path / "f0", "--json"))) == 301


def test_many_raw_files_are_counted(tmp_path, capsys):
    entries = [{"file": f"raw-{i}", "digest": "0" * 32} for i in range(50)]
    for entry in entries:
        (tmp_path / entry["file"]).write_text("x")
    (tmp_path / "f").write_text("x")
    artifact.write_json(lineage.manifest_of(tmp_path / "f"), {"command": "x", "inputs": entries})
    said = runs(capsys, "lineage", tmp_path / "f")
    assert "and 30 more like these" in said and said.count("raw-") == 20
    assert "raw-0 (changed since)" in runs_to_2(capsys, "lineage", tmp_path / "f", "--check")


HOSTILE = [
    "", "[]", "{}", "null", '"x"', "\x00", "{" * 50, "[" * 200_000, '{"a":' * 100_000, "9" * 10_000, '{"key": 3}',
    '{"command": ["x"]}', '{"command": ""}', '{"key": [], "inputs": []}', '{"command": "x"} trailing',
]  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_a_manifest_that_is_none_is_one_line(text, tmp_path, capsys):
    (tmp_path / "f").write_text("x")
    lineage.manifest_of(tmp_path / "f").write_text(text)
    assert "f.manifest.json: " in fails(capsys, "lineage", tmp_path / "f")
    # On the way back it is said, and the rest is shown.
    (tmp_path / "g").write_text("x")
    artifact.write_json(lineage.manifest_of(tmp_path / "g"), {"command": "x", "inputs": [{"file": "f"}]})
    assert "its manifest cannot be read" in runs(capsys, "lineage", tmp_path / "g")


ODD = [
    None, 3, True, "x", [], {}, [3], [[]], ["x", 3], {"file": 3}, {"file": ""}, {"file": "\x00"}, {"file": "n" * 5000},
    {"file": "../" * 500}, {"file": "/dev/zero", "digest": "0" * 32}, {"file": ".", "bytes": 1},
    {"file": "pipe", "digest": "0" * 32, "bytes": 0}, {"file": "raw", "digest": 5, "bytes": "1"},
    {"file": "\x1b[31m\u202e", "replaced": 1}, {"file": "raw", "bytes": 10**30},
]  # fmt: skip
HEXED = {"a\x07": "a" * 32, "stage": "x", "judged": "../x", "\ud800": "\ud800" * 3}
FIELDS = ("inputs", "settings", "counts", "versions", "made", "key", "facts", "tables", "digest")


@pytest.mark.timeout(60)
def test_fields_of_other_types_are_passed_over(tmp_path, capsys):
    """Nor is a device or a pipe read, or a control character shown."""
    from data_tools.__main__ import main

    (tmp_path / "f").write_text("x")
    (tmp_path / "raw").write_text("x")
    os.mkfifo(tmp_path / "pipe")
    values = [ODD, {"a": ODD}, HEXED, {"stage": {}, "inputs": ODD}, {"source": HEXED, "inputs": [["x", 1]]}, "x", 3]
    for field in FIELDS:
        for value in values:
            said = {"command": "x", "inputs": ODD, field: value}
            lineage.manifest_of(tmp_path / "f").write_text(json.dumps(said))
            for more in (("--check", "--look-in", str(tmp_path)), ("--json",)):
                assert main(["lineage", str(tmp_path / "f"), *more]) in (0, 2)
                out, err = capsys.readouterr()
                assert err.count("\n") == err.count("error: ") <= 1
                assert not any(bad in out + err for bad in "\x00\x07\x1b\u202e\ud800")


def test_a_manifest_larger_than_any(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(ancestry, "MAX_BYTES", 1000)
    (tmp_path / "f").write_text("x")
    artifact.write_json(lineage.manifest_of(tmp_path / "f"), {"command": "x" * 1000})
    assert "is larger than any manifest" in fails(capsys, "lineage", tmp_path / "f")
    monkeypatch.setattr(ancestry, "MAX_NODES", 3)
    artifact.write_json(lineage.manifest_of(tmp_path / "f"), {"command": "x", "inputs": [{}] * 4})
    assert "names more than 3 inputs" in fails(capsys, "lineage", tmp_path / "f")


@pytest.mark.parametrize(
    ("name", "said"), [("none", "no such file or folder"), ("", "the folder has no manifest.json")]
)
def test_nothing_to_trace(name, said, tmp_path, capsys):
    assert said in fails(capsys, "lineage", tmp_path / name)


def test_a_file_is_read_once_while_it_stays_as_it_is(tmp_path, monkeypatch):
    read = []

    def counted(path, real=artifact.digest):
        read.append(Path(path).name)
        return real(path)

    monkeypatch.setattr(artifact, "digest", counted)
    file = tmp_path / "f"
    file.write_text("one")
    assert lineage.digest(file) == lineage.digest(file) and len(read) == 2  # written just now: it may change again
    os.utime(file, (1e9, 1e9))
    lineage.begin([file, file, tmp_path / "none"])
    threads = [threading.Thread(target=lineage.digest, args=(file,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    first = lineage.digest(file)
    assert first == artifact.digest(file) and len(read) == 4
    file.write_text("two")
    os.utime(file, (1e9 + 1, 1e9 + 1))
    assert lineage.digest(file) != first
    with pytest.raises(UserError, match="no such file"):
        lineage.digest(tmp_path / "none")


def test_inputs_of_a_folder_are_its_files(tmp_path):
    for name in ("b/x.jsonl", "a.jsonl", ".hidden/y", "manifest.json", "a.jsonl.manifest.json"):
        (tmp_path / "raw" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "raw" / name).write_text("x")
    given = lineage.inputs_of([tmp_path / "raw", tmp_path / "raw" / "a.jsonl"], tmp_path / "out")
    assert [entry["file"] for entry in given] == ["../raw/a.jsonl", "../raw/b/x.jsonl"]


def test_a_table_of_a_folder_that_was_changed_is_noticed(chain, capsys):
    said = artifact.read_json("pairs/manifest.json")["outputs"]["train.parquet"]
    assert said == {
        "digest": artifact.digest("pairs/train.parquet"),
        "bytes": Path("pairs/train.parquet").stat().st_size,
    }
    runs(capsys, "lineage", "pairs", "--check")
    raw = bytearray(Path("pairs/train.parquet").read_bytes())
    raw[len(raw) // 2] ^= 1  # of the same size
    Path("pairs/train.parquet").write_bytes(raw)
    for name in ("pairs", "pairs/train.parquet"):
        assert f"not made of what is there now: {name} (changed since)" in runs_to_2(capsys, "lineage", name, "--check")
        assert not ancestry.trace(name).state  # which only sizes tell
    Path("pairs/train.parquet").unlink()
    assert ancestry.trace("pairs").state == ancestry.CHANGED


def test_an_input_that_is_changed_while_it_is_read_is_refused(chain, capsys, monkeypatch):
    def changed(*arguments, real=passes.write, **named):
        real(*arguments, **named)
        with open("pairs/train.parquet", "ab") as handle:
            handle.write(b"more")

    monkeypatch.setattr(passes, "write", changed)
    said = fails(capsys, "split", "pairs/train.parquet", "--out", "other.parquet")
    assert said == "pairs/train.parquet: was changed while it was read; run the command again"
    assert not Path("other.parquet.manifest.json").exists()


def longer(raw):
    with open(raw, "a") as handle:
        handle.write("{}\n")


def of_the_same_size(raw):
    raw.write_text(raw.read_text().replace("q3", "Q3"))


def another(raw):
    Path("beside").write_text(raw.read_text())
    Path("beside").replace(raw)


@pytest.mark.parametrize("change", [longer, of_the_same_size, another, Path.unlink])
@pytest.mark.parametrize(("when", "left"), [("_in_order", 0), ("_decide", 0), ("_write", 1)])
def test_a_raw_file_that_is_changed_while_it_is_read_is_refused(chain, capsys, monkeypatch, change, when, left):
    raw = Path("new.jsonl")
    rows = [{"prompt": f"q{i}", "chosen": "c", "rejected": "r"} for i in range(20)]
    raw.write_text("".join(json.dumps(row) + "\n" for row in rows))

    real = getattr(ingest, when)

    def changed(*arguments):
        found = real(*arguments)
        found = list(found) if when == "_in_order" else found  # all chunks have been read
        change(raw)
        return found

    monkeypatch.setattr(ingest, when, changed)
    said = fails(capsys, "ingest", raw, "--out", "out", "--validation", 0, "--test", 0)
    gone = change == Path.unlink and left
    assert said.startswith("new.jsonl: no such file" if gone else "new.jsonl: was changed while it was read; run the")
    # Changed only while the tables were written, they have no manifest: the next run refuses them.
    assert [path.name for path in Path("out").glob("*")] == ["train.parquet"] * left


def test_the_function_refuses_a_raw_file_that_is_changed_while_it_is_read(chain, monkeypatch):
    raw = Path("new.jsonl")
    raw.write_text('{"prompt": "q3", "chosen": "c", "rejected": "r"}\n')

    def changed(*arguments, real=ingest._decide):
        of_the_same_size(raw)
        return real(*arguments)

    monkeypatch.setattr(ingest, "_decide", changed)
    with pytest.raises(UserError, match="new.jsonl: was changed while it was read"):
        ingest.ingest([ingest.Raw(raw)], Path("out"), ingest.Settings(), DEFAULT)
