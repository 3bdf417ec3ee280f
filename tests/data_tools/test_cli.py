import json
import os
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from data_tools import __main__ as cli
from data_tools import artifact, sources
from data_tools.judging import parse
from data_tools.order import chosen_is_a, hash64
from data_tools.schema import EXAMPLE, JUDGMENT, PREFERENCE, conform

ROOT = Path(__file__).parents[2]


def write(path, n=60, **same):
    rows = [
        {
            "id": f"{path.stem}-{i}",
            "source": path.stem,
            "prompt": [{"role": "user", "content": f"{path.stem} {i}"}],
            "chosen": f"good {i}" + "!" * i,
            "rejected": "bad",
            "label_kind": "human",
            "split": ("train", "validation", "test")[min(i % 4, 2)],
            **same,
        }
        for i in range(n)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def fails(capsys, *argv):
    """Runs a command that should fail; returns its one line."""
    assert cli.main([str(argument) for argument in argv]) == 2
    said = capsys.readouterr()
    assert said.err.startswith("error: ") and said.err.count("\n") == 1 and said.out == ""
    return said.err.removeprefix("error: ").strip()


def runs(capsys, *argv):
    assert cli.main([str(argument) for argument in argv]) == 0
    said = capsys.readouterr()
    # What ingest says of the formats it found is no warning.
    assert all(line.startswith("format ") for line in said.err.splitlines())
    return said.out


def files(folder):
    return sorted(path.name for path in folder.iterdir())


def test_ingest(tmp_path, capsys):
    one, two = write(tmp_path / "one.jsonl"), write(tmp_path / "two.jsonl")
    out = tmp_path / "out"
    assert "120" in runs(capsys, "ingest", one, two, "--out", out)
    assert files(out) == ["manifest.json", "test.parquet", "train.parquet", "validation.parquet"]
    manifest = artifact.read_json(out / "manifest.json")
    assert manifest["counts"]["read"] == 120
    assert manifest["counts"]["written"] == {"train": 30, "validation": 30, "test": 60}
    for split, rows in manifest["counts"]["written"].items():
        frame = artifact.read_table(out / f"{split}.parquet", PREFERENCE)
        assert frame["split"].to_list() == [split] * rows


def test_a_second_ingest_does_nothing_and_other_settings_are_refused(tmp_path, capsys):
    raw, out = write(tmp_path / "one.jsonl"), tmp_path / "out"
    runs(capsys, "ingest", raw, "--out", out)
    before = (out / "train.parquet").stat().st_mtime_ns
    assert "already complete" in runs(capsys, "ingest", raw, "--out", out)
    assert (out / "train.parquet").stat().st_mtime_ns == before
    assert "made with another 'rows' (null, now 3)" in fails(capsys, "ingest", raw, "--out", out, "--rows", 3)
    write(raw, 61)
    assert "made with another 'inputs'" in fails(capsys, "ingest", raw, "--out", out)


def test_tables_that_were_removed_are_made_again(tmp_path, capsys):
    raw, out = write(tmp_path / "one.jsonl"), tmp_path / "out"
    for argv in (["ingest", raw], ["verifiable", "--rows", 8, "--test-rows", 8]):
        out = tmp_path / argv[0]
        runs(capsys, *argv, "--out", out)
        before = {path.name: path.read_bytes() for path in out.glob("*.parquet")}
        (out / "validation.parquet").unlink()
        assert "already complete" not in runs(capsys, *argv, "--out", out)
        assert {path.name: path.read_bytes() for path in out.glob("*.parquet")} == before
        assert "already complete" in runs(capsys, *argv, "--out", out)


def test_an_ingest_of_files_of_other_names_is_another(tmp_path, capsys):
    """Rows in TRL's form take their source from the file's name."""
    raw, out = tmp_path / "one.jsonl", tmp_path / "out"
    raw.write_text('{"prompt": "q", "chosen": "c", "rejected": "r"}\n')
    runs(capsys, "ingest", raw, "--out", out)
    assert "made with another 'inputs'" in fails(capsys, "ingest", raw.rename(tmp_path / "two.jsonl"), "--out", out)
    other = tmp_path / "other"
    other.mkdir()
    moved = (tmp_path / "two.jsonl").rename(other / "one.jsonl")
    assert "already complete" in runs(capsys, "ingest", moved, "--out", out)


def test_errors_name_the_files_at_fault(tmp_path, capsys):
    fine, first, second = (tmp_path / f"{name}.jsonl" for name in ("fine", "first", "second"))
    write(fine)
    for path in (first, second):
        write(path, 1, id="same")
    said = fails(capsys, "ingest", fine, first, second, "--out", tmp_path / "out")
    assert said.startswith(f"{first}, {second}: id 'same' stands for different pairs")
    for path in (first, second):
        write(path, rejected=" ")
    said = fails(capsys, "ingest", first, second, "--out", tmp_path / "out", "--max-broken", 1)
    assert said.startswith(f"{first}, {second}: none of 120 rows is left (empty prompt or response: 120)")


def test_rows_are_a_fair_sample_of_each_split(tmp_path, capsys):
    raw, out = write(tmp_path / "one.jsonl"), tmp_path / "out"
    runs(capsys, "ingest", raw, "--out", out, "--rows", 5)
    train = [f"one-{i}" for i in range(0, 60, 4)]
    found = artifact.read_table(out / "train.parquet", PREFERENCE)["pair_id"]
    assert set(found) == set(sorted(train, key=lambda pair: hash64("sample", pair))[:5]) != set(train[:5])
    assert artifact.read_json(out / "manifest.json")["counts"]["written"] == {"train": 5, "validation": 5, "test": 5}


def test_max_chars(tmp_path, capsys):
    raw, out = write(tmp_path / "one.jsonl", 8), tmp_path / "out"  # "one i" + "good i" + i: 11 + i characters
    runs(capsys, "ingest", raw, "--out", out, "--max-chars", 14, "--redo", "--validation", 0, "--test", 0)
    assert artifact.read_table(out / "train.parquet", PREFERENCE)["pair_id"].to_list() == [f"one-{i}" for i in range(4)]
    assert artifact.read_json(out / "manifest.json")["counts"]["dropped"]["too long"] == 4


def test_a_missing_split_is_said(tmp_path, capsys):
    out = tmp_path / "out"
    said = runs(capsys, "ingest", write(tmp_path / "one.jsonl", split="test"), "--out", out)
    assert "no rows for: train, validation" in said
    assert files(out) == ["manifest.json", "test.parquet"]


@pytest.mark.parametrize(
    ("more", "arguments", "said"),
    [
        ({}, ["--max-chars", 1], "none of 60 rows is left (too long: 60)"),
        (
            {"rejected": " "},
            [],
            "one.jsonl: line 1: the prompt or a response is empty (60 of 60 rows cannot be used (empty prompt or "
            "response: 60), more than --max-broken 0.05: correct them, or allow more)",
        ),
        ({"id": "same"}, [], "id 'same' stands for different pairs"),
        ({"chosen": None}, [], "line 1: 'chosen' is missing, or does not end with an assistant turn"),
        ({}, ["--rows", 0], "--rows 0: must be at least 1"),
        ({}, ["--rows", "x"], "argument --rows: invalid int value: 'x'; see: python -m data_tools ingest --help"),
        ({}, ["--max-chars", 0], "--max-chars 0: must be at least 1"),
        ({}, ["--format", "csv"], "format 'csv' is unknown; there are: auto, chat_arena, "),
        ({}, ["--test", 1], "split shares"),
    ],
)
def test_an_ingest_that_fails_writes_nothing(tmp_path, capsys, more, arguments, said):
    raw, out = write(tmp_path / "one.jsonl", **more), tmp_path / "out"
    assert said in fails(capsys, "ingest", raw, "--out", out, *arguments)
    assert not out.exists()


def test_broken_rows_are_put_away_with_their_lines(tmp_path, capsys):
    good = [json.loads(line) for line in write(tmp_path / "good.jsonl").read_text().splitlines()]
    raw, out = tmp_path / "one.jsonl", tmp_path / "out"
    lines = [json.dumps(row).encode() for row in good]
    lines[3:3] = [b'{"id": "x", ', b"", b"[1]"]
    lines[20:20] = [
        json.dumps({**good[0], "chosen": ["a", "b"]}).encode(),
        json.dumps({**good[0], "prompt": [{"role": "assistant", "content": "a"}]}).encode(),
        json.dumps({**good[0], "rejected": " "}).encode(),
        json.dumps({**good[0], "chosen": "\ud83d!"}).encode(),
        b'{"id": "\xff"}',
        json.dumps({**good[0], "split": "dev"}).encode(),
    ]
    raw.write_bytes(b"\n".join(lines))
    said = runs(capsys, "ingest", raw, "--out", out, "--max-broken", 0.2)
    assert "broken: not JSON" in said and str(out / "quarantine.jsonl") in said
    put = [json.loads(line) for line in (out / "quarantine.jsonl").read_text().splitlines()]
    assert [(row["line"], row["reason"]) for row in put] == [
        (4, "not JSON"),
        (6, "not an object"),
        (21, "wrong type"),
        (22, "prompt does not end in a user turn"),
        (23, "empty prompt or response"),
        (24, "invalid Unicode"),
        (25, "invalid Unicode"),
        (26, "unknown split"),
    ]
    assert put[0]["text"] == '{"id": "x",' and put[2]["detail"].startswith("line 21: key 'chosen' should be a string")
    assert {row["file"] for row in put} == {str(raw)}
    kept = pl.concat(pl.read_parquet(file) for file in out.glob("*.parquet"))
    assert set(kept["pair_id"]) == {row["id"] for row in good}
    counts = json.loads((out / "manifest.json").read_text())["counts"]
    assert counts["read"] == 68 and sum(counts["broken"].values()) == 8
    assert sum(counts["kept"].values()) == 60


def test_few_broken_rows_are_no_error_and_many_are(tmp_path, capsys):
    raw = write(tmp_path / "one.jsonl")
    with open(raw, "a") as handle:
        handle.write("{broken\n" * 3)
    runs(capsys, "ingest", raw, "--out", tmp_path / "a")
    assert "3 of 63 rows" in fails(capsys, "ingest", raw, "--out", tmp_path / "b", "--max-broken", 0.04)
    assert not (tmp_path / "b").exists()


def test_ties_are_kept_on_demand(tmp_path, capsys):
    rows = [
        {
            "context": [{"role": "user", "content": f"q{i}"}],
            "response1": f"a{i}",
            "response2": "b",
            "overall_preference": p,
        }
        for i, p in enumerate([-1, 0, 2, 0, 3])
    ]
    raw = tmp_path / "steer.jsonl"
    raw.write_text("".join(json.dumps(row) + "\n" for row in rows))
    said = runs(capsys, "ingest", raw, "--out", tmp_path / "a", "--validation", 0, "--test", 0)
    assert "left out: tie" in said and not (tmp_path / "a/ties.parquet").exists()
    runs(capsys, "ingest", raw, "--out", tmp_path / "b", "--ties", "--validation", 0, "--test", 0)
    ties = artifact.read_table(tmp_path / "b/ties.parquet", PREFERENCE)
    assert ties.select("chosen", "rejected", "margin").rows() == [("a1", "b", None), ("a3", "b", None)]
    assert artifact.read_table(tmp_path / "b/train.parquet", PREFERENCE).height == 3


def test_chunks_and_pieces_change_nothing(tmp_path, capsys, monkeypatch):
    raw = write(tmp_path / "one.jsonl", 700, split=None)
    with open(raw, "a") as handle:  # repeats, and the other way round
        for i, line in enumerate(raw.read_text().splitlines()[:300]):
            row = json.loads(line)
            row |= {"id": f"again{i}"} | ({"chosen": row["rejected"], "rejected": row["chosen"]} if i % 3 == 0 else {})
            handle.write(json.dumps(row) + "\n")
    runs(capsys, "ingest", raw, "--out", tmp_path / "a")
    monkeypatch.setattr(
        "data_tools.memory.Memory.of", classmethod(lambda cls, gib: cls(bytes=1, rows=37, chunk=1, threads=3, text=1))
    )
    runs(capsys, "ingest", raw, "--out", tmp_path / "b")  # 256 rows a chunk, 37 decided at once
    for name in ("train", "validation", "test"):
        a, b = (artifact.read_table(tmp_path / out / f"{name}.parquet", PREFERENCE) for out in "ab")
        assert a.height > 20 and a.equals(b)
    a, b = (json.loads((tmp_path / out / "manifest.json").read_text())["counts"] for out in "ab")
    assert a == b and a["dropped"]["repeat"] == 200 and a["dropped"]["both orders occur"] == 200


def test_an_input_is_never_overwritten(tmp_path, capsys):
    out = tmp_path / "out"
    out.mkdir()
    raw = out / "train.parquet"
    pl.DataFrame({"prompt": ["q", "p"], "chosen": ["c", "d"], "rejected": ["r", "s"]}).write_parquet(raw)
    before = raw.read_bytes()
    assert fails(capsys, "ingest", raw, "--out", out).startswith(f"{raw}: is an input and would be overwritten")
    assert raw.read_bytes() == before and files(out) == ["train.parquet"]
    assert "is given twice" in fails(capsys, "ingest", raw, out, "--out", tmp_path / "other")


def test_margins_of_a_folder_have_one_scale(tmp_path, capsys):
    folder = tmp_path / "raw"
    folder.mkdir()
    for name, margins in (("a", [1, 4]), ("b", [4, 8]), ("c", [None, float("inf")])):
        rows = {"prompt": [f"{name}{i}" for i in range(2)], "chosen": "c", "rejected": "r", "margin": margins}
        pl.DataFrame(rows, schema_overrides={"margin": pl.Float64}).write_parquet(folder / f"{name}.parquet")
    none = ["--validation", 0, "--test", 0, "--max-broken", 0.5]
    runs(capsys, "ingest", folder, "--out", tmp_path / "out", *none)
    found = pl.read_parquet(tmp_path / "out/train.parquet")
    assert found["margin"].to_list() == [0.125, 0.5, 0.5, 1.0, None]
    put = json.loads((tmp_path / "out/quarantine.jsonl").read_text())
    assert put["reason"] == "margin out of range" and put["file"].endswith("c.parquet")


def test_the_quarantine_names_files_of_one_name_apart(tmp_path, capsys):
    paths = [tmp_path / part / "x.jsonl" for part in "ab"]
    for path, lines in zip(paths, (["{"], ["", "[]", "{}"]), strict=True):
        path.parent.mkdir()
        write(path, prompt=[{"role": "user", "content": str(path)}])
        rows = [line.replace("x-", f"{path.parent.name}-") for line in path.read_text().splitlines()]
        path.write_text("\n".join([*rows, *lines]))
    runs(capsys, "ingest", *paths, "--out", tmp_path / "out")
    put = [json.loads(line) for line in (tmp_path / "out/quarantine.jsonl").read_text().splitlines()]
    assert [(row["file"], row["line"], row["reason"]) for row in put] == [
        (str(paths[0]), 61, "not JSON"),
        (str(paths[1]), 62, "not an object"),
        (str(paths[1]), 63, "missing value"),
    ]
    with open(paths[1], "a") as handle:
        handle.write("\n" + "no\n" * 30)
    said = fails(capsys, "ingest", *paths, "--out", tmp_path / "other")
    assert said.startswith(f"{paths[1]}: line 62 is not a JSON object")
    (tmp_path / "out/quarantine.jsonl").unlink()


def test_a_folder_tells_what_it_passes_over(tmp_path, capsys):
    folder = tmp_path / "raw"
    (folder / "sub").mkdir(parents=True)
    write(folder / "a.jsonl")
    write(folder / "b.ndjson")
    for name in ("c.tsv", "d.jsonl.bz2", "e.txt"):
        (folder / name).write_text("x")
    assert cli.main(["ingest", str(folder), "--out", str(tmp_path / "out")]) == 0
    said = capsys.readouterr()
    assert f"passed over in {folder}: c.tsv, d.jsonl.bz2, e.txt and 1 more" in said.err and "120" in said.out


def test_a_line_without_an_end_is_refused(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("data_tools.sources._jsonl.LONGEST", 1 << 20)
    (tmp_path / "one.jsonl").write_text('{"data": "' + "x" * (3 << 20))
    assert "a line is longer than 1 MiB" in fails(capsys, "ingest", tmp_path / "one.jsonl", "--out", tmp_path / "out")


@pytest.mark.parametrize("share", ["nan", "-1", "5"])
def test_max_broken_is_a_share(tmp_path, capsys, share):
    raw = write(tmp_path / "one.jsonl")
    assert "is a share of the rows" in fails(capsys, "ingest", raw, "--out", tmp_path / "out", f"--max-broken={share}")


def test_a_file_of_nothing_but_broken_rows(tmp_path, capsys):
    """Its first row shows the format, and fits it no more than the others."""
    raw = tmp_path / "one.jsonl"
    turn = {"role": "assistant", "content": True}
    raw.write_text("".join(json.dumps({"prompt": [], "chosen": [turn], "rejected": [turn]}) + "\n" for _ in range(3)))
    said = fails(capsys, "ingest", raw, "--out", tmp_path / "out", "--max-broken", 1)
    assert "none of 3 rows is left (wrong type: 3)" in said


def test_split_refuses_left_over_parts_and_too_many(tmp_path, capsys):
    table = tmp_path / "t.parquet"
    artifact.write_table(sources.read(write(tmp_path / "one.jsonl")), table, PREFERENCE)
    runs(capsys, "split", table, "--parts", 3, "--out", tmp_path / "parts")
    said = fails(capsys, "split", table, "--parts", 2, "--out", tmp_path / "parts")
    assert "part-3.parquet: is left from another split" in said
    assert "must be at most 1000" in fails(capsys, "split", table, "--parts", 70000, "--out", tmp_path / "many")
    assert "must be at least 0.25" in fails(capsys, "split", table, "--memory", "inf", "--out", tmp_path / "x.parquet")


def test_a_report_never_replaces_a_table(tmp_path, capsys):
    table, out = tmp_path / "t.parquet", tmp_path / "out.parquet"
    artifact.write_table(sources.read(write(tmp_path / "one.jsonl")), table, PREFERENCE)
    for report in (table, out):
        assert "name another file for --report" in fails(capsys, "clean", table, "--out", out, "--report", report)
    assert artifact.read_table(table, PREFERENCE).height == 60 and not out.exists()


def test_ingest_errors_about_files(tmp_path, capsys):
    raw, out = write(tmp_path / "one.jsonl"), tmp_path / "out"
    assert fails(capsys, "ingest", tmp_path / "nope", "--out", out) == f"{tmp_path / 'nope'}: no such file"
    assert "name another file for --out" in fails(capsys, "ingest", raw, "--out", raw)
    assert "name a folder for --out" in fails(capsys, "ingest", raw, "--out", write(tmp_path / "other.jsonl"))
    out.mkdir()
    (out / "test.parquet").write_text("left")
    train = write(tmp_path / "train.jsonl", split="train")
    assert "test.parquet: is left from another run" in fails(capsys, "ingest", train, "--out", out)
    assert files(out) == ["test.parquet"]


def test_clean_and_split(tmp_path, capsys):
    raw, out = write(tmp_path / "one.jsonl", rejected="good 0", split=None), tmp_path / "table.parquet"
    frame = sources.read(raw)
    artifact.write_table(frame, out, PREFERENCE)
    assert "dropped: chosen equals rejected" in runs(capsys, "clean", out, "--out", tmp_path / "clean.parquet")
    runs(capsys, "split", tmp_path / "clean.parquet", "--out", tmp_path / "split.parquet", "--test", 0.5)
    done = artifact.read_table(tmp_path / "split.parquet", PREFERENCE)
    assert done.height == 59 and 15 < (done["split"] == "test").sum() < 45
    assert "is a folder" in fails(capsys, "split", out, "--out", tmp_path)
    assert "for raw rows run: python -m data_tools ingest" in fails(capsys, "clean", raw, "--out", out)
    assert artifact.read_table(out, PREFERENCE).equals(frame)
    assert "--max-chars 0: must be at least 1" in fails(capsys, "clean", out, "--out", out, "--max-chars", 0)
    artifact.write_table(frame.with_columns(pair_id=pl.lit("p")), out, PREFERENCE)
    assert fails(capsys, "clean", out, "--out", out).startswith(f"{out}: id 'p' stands for 59 rows")


def test_parts_are_stable_under_further_rows(tmp_path, capsys):
    def parts(n, rows):
        raw = tmp_path / f"{rows}.jsonl"
        pairs = ({"id": str(i), "prompt": f"q {i // 2}", "chosen": "c", "rejected": "r"} for i in range(rows))
        raw.write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
        artifact.write_table(sources.read(raw), tmp_path / f"{rows}.parquet", PREFERENCE)
        runs(capsys, "split", tmp_path / f"{rows}.parquet", "--parts", n, "--out", tmp_path / f"parts{rows}")
        found = [artifact.read_table(tmp_path / f"parts{rows}/part-{i + 1}.parquet", PREFERENCE) for i in range(n)]
        return [{int(pair) for pair in part["pair_id"]} for part in found]

    few, many = parts(3, 200), parts(3, 300)
    assert set.union(*few) == set(range(200)) and sum(map(len, many)) == 300
    assert all({pair for pair in b if pair < 200} == a and 40 < len(a) < 95 for a, b in zip(few, many, strict=True))
    assert all(pair ^ 1 in part for part in many for pair in part)  # both rows of a prompt
    assert "would be empty; use fewer parts" in fails(
        capsys, "split", tmp_path / "200.parquet", "--parts", 500, "--out", tmp_path / "none"
    )


def test_split_says_which_labels_disagree(tmp_path, capsys):
    frame = sources.read(write(tmp_path / "one.jsonl", 6, prompt=[{"role": "user", "content": "the same"}]))
    file, out = tmp_path / "table.parquet", tmp_path / "split.parquet"
    artifact.write_table(frame, file, PREFERENCE)
    assert f"on more than one side: 1 prompts, whose labels in {file} disagree" in runs(
        capsys, "split", file, "--out", out
    )
    assert "more than one side" not in runs(capsys, "split", file, "--out", out, "--redo")
    artifact.write_table(frame.with_columns(split=pl.lit("dev")), file, PREFERENCE)
    assert fails(capsys, "split", file, "--out", out).startswith(f"{file}: row 1: split 'dev' is unknown")


@pytest.fixture
def judged(tmp_path):
    """Preferences, and judgments of which every second is right."""
    preferences = sources.read(write(tmp_path / "one.jsonl", 20))
    artifact.write_table(preferences, tmp_path / "preferences.parquet", PREFERENCE)
    rows = [
        {
            "pair_id": pair,
            "swapped": swapped,
            "sample_index": k,
            "rationale": f"because of {k}",
            "vote": "A" if chosen_is_a(pair, swapped) == (k % 2 == 0) else "B",
        }
        for pair in preferences["pair_id"]
        for swapped in (False, True)
        for k in range(4)
    ]
    names = {name: JUDGMENT[name] for name in rows[0]}
    artifact.write_table(conform(pl.DataFrame(rows, schema=names), JUDGMENT), tmp_path / "judgments.parquet", JUDGMENT)
    return ["star", "--judgments", tmp_path / "judgments.parquet", "--preferences", tmp_path / "preferences.parquet"]


def test_star(tmp_path, capsys, judged):
    out = tmp_path / "examples.parquet"
    said = runs(
        capsys, *judged, "--objective", "dpo", "--out", out, "--per-prompt", 2, "--template", "brief",
        "--filter", "both_orders", "--filter", "min_words:words=2",
    )  # fmt: skip
    assert "sampled" in said and "160" in said
    frame = artifact.read_table(out, EXAMPLE)
    assert frame.height == 80
    assert all(parse(c) != parse(r) for c, r in frame.select("completion", "rejected_completion").iter_rows())


def test_a_star_that_fails_writes_nothing(tmp_path, capsys, judged):
    out = tmp_path / "examples.parquet"
    assert "objective 'ppo' is unknown" in fails(capsys, *judged, "--objective", "ppo", "--out", out)
    argv = [*judged, "--objective", "sft", "--out", out, "--filter"]
    assert "filter 'x' is unknown" in fails(capsys, *argv, "x")
    assert "min_words: 80" in fails(capsys, *argv, "min_words:words=9")
    argv[2] = argv[4]
    assert "column 'swapped' is missing; a JUDGMENT table has" in fails(capsys, *argv, "balance")
    assert not out.exists()


def test_star_takes_files_and_folders(tmp_path, capsys, judged):
    whole, rest = tmp_path / "whole.parquet", ["--objective", "dpo", "--pairing", "all", "--ranking", "r_star"]
    said = runs(capsys, *judged, *rest, "--out", whole)
    table, shards = artifact.read_table(judged[2], JUDGMENT), tmp_path / "shards"
    for number in range(4):
        artifact.write_table(table.slice(number * 40, 40), shards / f"shard-{number:05d}.parquet", JUDGMENT)
    (shards / ".shard-4.01234567.tmp.parquet").write_text("half written")
    parted = tmp_path / "parted.parquet"
    assert runs(capsys, "star", "--judgments", shards, *judged[3:], *rest, "--out", parted) == said
    assert artifact.read_table(parted, EXAMPLE).equals(artifact.read_table(whole, EXAMPLE))
    # The folder of a finished stage holds its shards' sum besides.
    artifact.write_table(table, shards / "judgments.parquet", JUDGMENT)
    assert runs(capsys, "star", "--judgments", shards, *judged[3:], *rest, "--out", parted) == said
    empty = tmp_path / "empty"
    empty.mkdir()
    said = fails(capsys, "star", "--judgments", empty, *judged[3:], *rest, "--out", parted)
    assert said.startswith(f"{empty}: no parquet files in this folder")


def test_star_shows_what_each_step_kept(tmp_path, capsys, judged):
    said = runs(
        capsys, *judged, "--objective", "sft", "--out", tmp_path / "examples.parquet", "--filter", "hardest:pairs=10",
    )  # fmt: skip
    rows = {
        line.split("│")[1].strip(): [cell.strip() for cell in line.split("│")[2:-1]]
        for line in said.splitlines()
        if "│" in line
    }
    given, kept, dropped = rows["hardest"][1:]
    assert rows["hardest"][0] == "examples" and int(kept) == int(rows["kept"][2]) <= 20
    assert dropped == f"{int(given) - int(kept)} ({1 - int(kept) / int(given):.1%})"


def test_star_refuses_an_id_of_two_pairs_by_the_files(tmp_path, capsys, judged):
    argv = [*judged, judged[-1], "--objective", "sft", "--out", tmp_path / "examples.parquet"]
    said = fails(capsys, *argv)
    assert said.startswith(f"{judged[-1]}, {judged[-1]}: id 'one-0' stands for 2 rows")


def test_what_data_says_is_shown_and_does_nothing(tmp_path, capsys):
    evil = "[/]x[red]\x1b[31m\u202e"
    raw = write(tmp_path / "one.jsonl", 3, source=evil, label_kind=evil)
    said = runs(capsys, "stats", raw)
    assert said.count("[/]x[red]\ufffd[31m\ufffd") == 3  # source, labels of the source, labels of all
    assert "\x1b" not in said and "\u202e" not in said
    said = fails(capsys, "ingest", write(tmp_path / "two.jsonl", 1, split=evil), "--out", tmp_path / "out")
    assert "split is '[/]x[red]\ufffd[31m\ufffd'" in said


def test_stats(tmp_path, capsys):
    one = write(tmp_path / "one.jsonl", 4)  # chosen longer in all
    two = write(tmp_path / "two.jsonl", 4, chosen="xyz", label_kind="gpt-4")  # as long as "bad": half each
    said = runs(capsys, "stats", one, two)
    row = {
        line.split("│")[1].strip(): [cell.strip() for cell in line.split("│")[2:-1]]
        for line in said.splitlines()
        if "│" in line
    }
    assert row["one"][:4] == ["4", "1 / 1 / 2", "4", "human 4"] and row["one"][5] == "100%"
    assert row["two"][5] == "50%" and row["two"][4] == "8 / 8"
    assert row["all"][0] == "8" and row["all"][3] == "gpt-4 4, human 4" and row["all"][5] == "75%"
    assert "no such file" in fails(capsys, "stats", tmp_path / "x.parquet")
    artifact.write_table(pl.DataFrame(schema=PREFERENCE), tmp_path / "e.parquet", PREFERENCE)
    assert "has no rows" in fails(capsys, "stats", tmp_path / "e.parquet")


def test_verifiable(tmp_path, capsys):
    out = tmp_path / "out"
    argv = ["verifiable", "--rows", 40, "--seed", 3, "--test-rows", 10, "--out", out]
    runs(capsys, *argv)
    assert files(out) == ["manifest.json", "ood.parquet", "test.parquet", "train.parquet", "validation.parquet"]
    assert artifact.read_table(out / "train.parquet", PREFERENCE).height == 40
    assert artifact.read_table(out / "ood.parquet", PREFERENCE).height == 10
    assert "already complete" in runs(capsys, *argv)
    argv[2] = 0
    fails(capsys, *argv[:-1], tmp_path / "none")
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("argv", [[], ["bake"], ["ingest"], ["stats", "--nope", "x"]])
def test_a_wrong_command_line_is_one_line(capsys, argv):
    assert "see: python -m data_tools" in fails(capsys, *argv)


@pytest.mark.parametrize("command", ["ingest", "clean", "split", "star", "stats", "probe", "verifiable"])
def test_every_command_has_help(capsys, command):
    with pytest.raises(SystemExit) as left:
        cli.main([command, "--help"])
    assert left.value.code == 0
    said = capsys.readouterr().out
    assert f"usage: python -m data_tools {command}" in said and len(said) > 300


def test_ctrl_c(monkeypatch, capsys, tmp_path):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(sources, "read", interrupted)
    assert cli.main(["stats", str(write(tmp_path / "one.jsonl", 1))]) == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_an_error_of_the_file_system_is_one_line(monkeypatch, capsys, tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("")
    raw = write(tmp_path / "one.jsonl")
    assert str(blocked) in fails(capsys, "ingest", raw, "--out", blocked / "out")


def python(*argv, **more):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "data_tools", *map(str, argv)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False, **more)


def test_as_a_process(tmp_path):
    raw = write(tmp_path / "one.jsonl")
    with open(raw, "a") as handle:
        handle.write("{broken\n" * 4)
    done = python("ingest", raw, "--out", tmp_path / "out")
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith(f"error: {raw}: line 61 is not valid JSON") and done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_reader_that_leaves_is_left_in_peace(tmp_path):
    raw = write(tmp_path / "one.jsonl", 5)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "data_tools", "stats", str(raw)]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    running.stdout.close()
    assert running.stderr.read() == "" and running.wait() == 1


def test_real_pairs(pairs_folder, tmp_path, capsys):
    raw = sorted(pairs_folder.glob("*.jsonl.gz"))[:3]
    runs(capsys, "ingest", *raw, "--out", tmp_path / "out", "--rows", 50)
    counts = artifact.read_json(tmp_path / "out" / "manifest.json")["counts"]
    assert counts["read"] == sum(counts["kept"].values()) + sum(counts["dropped"].values())
    assert max(counts["written"].values()) == 50
