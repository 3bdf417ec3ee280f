"""The commands study and label, on real judges."""

import json
import shutil

import polars as pl
import pytest

from data_tools.__main__ import main as data_tools
from data_tools.artifact import read_json, read_table
from data_tools.schema import PREFERENCE
from genrm_lightning import label_command
from genrm_lightning.__main__ import main
from genrm_lightning.labelling.labels import LABELS

FLAGS = ["--dtype", "float32"]


@pytest.fixture(scope="module")
def place(tmp_path_factory, judges):
    """A judge, pairs that people labelled, and pairs that nobody did."""
    folder = tmp_path_factory.mktemp("label")
    data_tools(["verifiable", "--rows", "30", "--test-rows", "30", "--out", str(folder)])
    shutil.copytree(judges / "BradleyTerry", folder / "judge")
    pairs = read_table(folder / "train.parquet", PREFERENCE)
    rows = [
        {
            "id": row["pair_id"],
            "prompt": row["prompt"],
            "responses": [row["chosen"], row["rejected"]][:: 1 - 2 * (i % 2)],
        }
        for i, row in enumerate(pairs.to_dicts())
    ]
    (folder / "new.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + "{broken\n")
    argv = ["--judge", str(folder / "judge"), "--data", str(folder / "test.parquet"), "--out", str(folder / "held")]
    assert main(["evaluate", *argv, *FLAGS]) == 0
    return folder


def label(place, out, *flags):
    argv = ["--judge", place / "judge", "--data", place / "new.jsonl", "--out", out, *FLAGS, *flags]
    return main(["label", *map(str, argv)])


def test_labels(tmp_path, capsys, place):
    out = tmp_path / "labels.parquet"
    flags = ["--confidence", "0.51", "--ties", "0.005", "--heldout", place / "held", "--export", "trl", "llama-factory"]
    assert label(place, out, *flags) == 0
    said = capsys.readouterr().out
    assert "held-out pairs promise" in said
    report = read_json(tmp_path / "labels.report.json")
    tables = {
        name: read_table(file, LABELS) if file.exists() else LABELS.to_frame()
        for name, file in (("labels", out), *((n, tmp_path / f"labels.{n}.parquet") for n in ("ties", "abstained")))
    }
    assert {name: len(table) for name, table in tables.items()} == {n: report["counts"][n] for n in tables}
    assert sum(map(len, tables.values())) == 30 and report["counts"]["broken"] == 1
    assert tables["labels"]["p"].min() >= 0.51 and report["promise"]["confidence"] == 0.51
    broken = [json.loads(line) for line in (tmp_path / "labels.broken.jsonl").read_text().splitlines()]
    assert [row["row"] for row in broken] == [31]
    trl = pl.read_ndjson(tmp_path / "labels.trl.jsonl")
    assert trl.height == len(tables["labels"]) and (tmp_path / "labels.llama-factory.jsonl").exists()
    # Labels are what the judge's scores say, whichever response a row names first.
    scored = {row["pair_id"]: row for row in read_table(place / "train.parquet", PREFERENCE).to_dicts()}
    assert all({row["chosen"], row["rejected"]} == {scored[row["pair_id"]][k] for k in ("chosen", "rejected")}
               for row in tables["labels"].to_dicts())  # fmt: skip
    capsys.readouterr()
    assert label(place, out, *flags) == 0  # again: nothing is judged again
    assert "verdicts" not in capsys.readouterr().err
    data_tools(["lineage", str(out)])
    assert "new.jsonl" in capsys.readouterr().out


def test_labels_agree_with_evaluate(tmp_path, place):
    """Both commands read the same scores: labels agree with people as evaluate's accuracy says."""
    rows = read_table(place / "test.parquet", PREFERENCE).to_dicts()
    lines = (
        json.dumps({"id": r["pair_id"], "prompt": r["prompt"], "response_a": r["rejected"], "response_b": r["chosen"]})
        for r in rows
    )
    (tmp_path / "x.jsonl").write_text("\n".join(lines))
    argv = ["--judge", place / "judge", "--data", tmp_path / "x.jsonl", "--out", tmp_path / "x.parquet", *FLAGS]
    assert main(["label", *map(str, argv)]) == 0
    labels = read_table(tmp_path / "x.parquet", LABELS)
    right = {row["pair_id"]: row["chosen"] for row in rows}
    agreed = sum(row["chosen"] == right[row["pair_id"]] for row in labels.to_dicts())
    scores = read_json(place / "held/scores.json")["sets"]["test"]
    assert agreed / len(rows) == pytest.approx(scores["accuracy"])


def test_study(tmp_path, capsys, place):
    assert main(["study", str(place / "held"), "--out", str(tmp_path / "study.json")]) == 0
    rows = read_json(tmp_path / "study.json")[f"{place / 'held'}/test"]["promises"]
    scores = read_json(place / "held/scores.json")["sets"]["test"]
    assert rows[0]["confidence"] == 0.5 and rows[0]["agreement"] == pytest.approx(scores["accuracy"])
    assert "agreement with people" in capsys.readouterr().out
    assert main(["study", str(tmp_path)]) == 2
    assert "no evaluation" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--agreement", "0.9"], "--agreement: needs pairs that people labelled"),
        (["--agreement", "0.9", "--confidence", "0.6"], "--agreement: finds the confidence"),
        (["--agreement", "0.99", "--heldout", "held"], "is not shown by the held-out pairs"),
        (["--dtype", "bfloat16", "--heldout", "held"], "was judged with another 'dtype'"),
        (["--confidence", "2"], "--confidence: 2.0"),
        (["--export", "excel"], "--export: 'excel' is unknown"),
        (["--out", "labels"], "ends in .parquet"),
    ],
)
def test_mistakes(tmp_path, capsys, place, flags, said):
    flags = [str(place / "held") if flag == "held" else flag for flag in flags]
    assert label(place, tmp_path / "labels.parquet", *flags) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and said in error and error.count("\n") == 1
    assert not any(tmp_path.iterdir())


def test_a_second_call_leaves_nothing_of_the_first(tmp_path, capsys, place):
    out = tmp_path / "labels.parquet"
    assert label(place, out, "--export", "trl") == 0
    first = len(read_table(out, LABELS))
    assert label(place, out, "--confidence", "0.9") == 0
    report = read_json(tmp_path / "labels.report.json")
    assert len(read_table(out, LABELS)) == report["counts"]["labels"] < first
    assert not (tmp_path / "labels.trl.jsonl").exists()
    (tmp_path / "labels.trl.jsonl").mkdir()  # an export that fails leaves no labels beside another's report
    assert label(place, out, "--export", "trl") == 2 and not out.exists()


def test_the_promise_is_of_labels_without_ties(tmp_path, place):
    """On the very pairs that promise: what is promised is what comes out."""
    rows = read_table(place / "test.parquet", PREFERENCE).to_dicts()
    lines = (
        json.dumps({"id": r["pair_id"], "prompt": r["prompt"], "responses": [r["rejected"], r["chosen"]]}) for r in rows
    )
    (tmp_path / "x.jsonl").write_text("\n".join(lines))
    argv = [
        "--judge",
        place / "judge",
        "--data",
        tmp_path / "x.jsonl",
        "--out",
        tmp_path / "x.parquet",
        "--ties",
        "0.02",
    ]
    assert main(["label", *map(str, argv), "--heldout", str(place / "held"), *FLAGS]) == 0
    promise, labels = read_json(tmp_path / "x.report.json")["promise"], read_table(tmp_path / "x.parquet", LABELS)
    right = {row["pair_id"]: row["chosen"] for row in rows}
    agreed = sum(row["chosen"] == right[row["pair_id"]] for row in labels.to_dicts())
    assert promise["n_pairs"] == len(labels) < len(rows) and promise["agreement"] == pytest.approx(agreed / len(labels))


def test_the_same_judge_by_another_path(tmp_path, capsys, place):
    assert label(place, tmp_path / "l.parquet") == 0
    capsys.readouterr()
    argv = ["--judge", f"{place}/./judge", "--data", place / "new.jsonl", "--out", tmp_path / "l.parquet", *FLAGS]
    assert main(["label", *map(str, argv)]) == 0 and "verdicts" not in capsys.readouterr().err


def test_a_second_call_leaves_no_export_of_the_first(tmp_path, place):
    out = tmp_path / "labels.parquet"
    assert label(place, out, "--export", "datasets", "llama-factory") == 0
    assert (tmp_path / "labels.datasets").is_dir() and (tmp_path / "dataset_info.json").exists()
    assert label(place, out) == 0
    assert not (tmp_path / "labels.datasets").exists() and not (tmp_path / "dataset_info.json").exists()


def test_what_is_read_is_not_written_into(tmp_path, capsys, place):
    (tmp_path / "data").mkdir()
    shutil.copy(place / "new.jsonl", tmp_path / "data/x.jsonl")
    argv = ["label", "--judge", str(place / "judge"), "--data", str(tmp_path / "data"), "--out"]
    assert main([*argv, str(tmp_path / "data/labels.parquet")]) == 2 and "would write into" in capsys.readouterr().err
    scores = tmp_path / "scores.parquet"
    scores.touch()
    argv = ["label", "--judge", str(scores), "--data", str(place / "new.jsonl"), "--out", str(scores)]
    assert main(argv) == 2 and "would write over" in capsys.readouterr().err


def test_raw_pairs_are_not_written_over(tmp_path, capsys, place):
    shutil.copy(place / "new.jsonl", tmp_path / "x.broken.jsonl")
    argv = ["--judge", place / "judge", "--data", tmp_path / "x.broken.jsonl", "--out", tmp_path / "x.parquet"]
    assert main(["label", *map(str, argv)]) == 2 and "would write over" in capsys.readouterr().err


TABLES = ("labels.parquet", "labels.ties.parquet", "labels.abstained.parquet")
RULES = ["--confidence", "0.51", "--ties", "0.005", "--export", "trl"]


@pytest.fixture
def in_blocks(monkeypatch):
    """Pairs are judged seven at a time."""
    monkeypatch.setattr(label_command, "AT_ONCE", 7)


def written(folder):
    """What a call of label left in a folder, by name; manifests and times apart."""
    tables = {name: read_table(folder / name, LABELS) for name in TABLES if (folder / name).exists()}
    texts = {name: (folder / f"labels.{name}").read_text() for name in ("trl.jsonl", "broken.jsonl", "report.json")}
    assert not list(folder.glob(".*")), "nothing of the work is left"
    return tables, texts


def same(one, other):
    assert one[0].keys() == other[0].keys() and one[1] == other[1]
    assert all(table.equals(other[0][name]) for name, table in one[0].items())


def test_blocks_change_nothing(tmp_path, place, capsys, in_blocks, monkeypatch):
    """By scores of a file: what a model says has other last digits in another batch."""
    ids = read_table(place / "train.parquet", PREFERENCE).select("pair_id")
    scores = pl.Series([(7 * i % 11 - 5) / 4 + (i % 3 == 0) / 1000 for i in range(len(ids))])
    ids.with_columns(chosen_reward=scores, rejected_reward=pl.lit(0.0)).write_parquet(tmp_path / "scores.parquet")
    rules = ["--confidence", "0.6", "--ties", "0.02", "--export", "trl", "--judge", tmp_path / "scores.parquet"]
    folder, out = tmp_path / "blocks/labels.judging", tmp_path / "blocks/labels.parquet"
    assert label(place, out, *rules) == 0
    made = {path: path.stat().st_mtime_ns for path in folder.glob("block-*/*")}
    assert [path.parent.name for path in sorted(made) if path.name == "manifest.json"] == [
        f"block-0000{i}" for i in range(5)
    ]
    first = written(tmp_path / "blocks")
    assert label(place, out, *rules, "--confidence", "0.7") == 0  # another threshold: nothing is judged again
    assert len(read_table(out, LABELS)) < len(first[0]["labels.parquet"])
    assert {path: path.stat().st_mtime_ns for path in folder.glob("block-*/*")} == made
    monkeypatch.undo()
    assert label(place, tmp_path / "one/labels.parquet", *rules) == 0
    same(first, written(tmp_path / "one"))
    assert len(first[0]) == 3 and first[0]["labels.parquet"]["pair_id"].is_sorted()
    # What was judged as one stays one, also where it is more than a block now; what was judged in blocks is refused.
    capsys.readouterr()
    assert (
        label(place, out, *rules) == 2 and "labels.judging: holds what was judged of other" in capsys.readouterr().err
    )
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("block-*/*")} == made
    monkeypatch.setattr(label_command, "AT_ONCE", 7)
    judged = tmp_path / "one/labels.judging/manifest.json"
    before = judged.stat().st_mtime_ns
    assert label(place, tmp_path / "one/labels.parquet", *rules) == 0 and judged.stat().st_mtime_ns == before
    assert [path.name for path in judged.parent.iterdir() if path.is_dir()] == []
    same(first, written(tmp_path / "one"))


def test_a_killed_call_goes_on_at_its_block(tmp_path, place, in_blocks, monkeypatch):
    assert label(place, tmp_path / "whole/labels.parquet", *RULES) == 0
    judge_pairs, seen = label_command.judge_pairs, []

    def killed(judge, pairs, folder, *arguments, **options):
        seen.append(folder.name)
        if len(seen) == 3:
            raise KeyboardInterrupt
        return judge_pairs(judge, pairs, folder, *arguments, **options)

    monkeypatch.setattr(label_command, "judge_pairs", killed)
    out = tmp_path / "killed/labels.parquet"
    assert label(place, out, *RULES) == 130
    monkeypatch.setattr(label_command, "judge_pairs", judge_pairs)
    assert [path.name for path in out.parent.iterdir()] == ["labels.judging"]
    done = {path: path.stat().st_mtime_ns for path in out.parent.glob("labels.judging/block-*/manifest.json")}
    assert sorted(path.parent.name for path in done) == seen[:2]
    left = out.parent / ".labels.pairs/.pairs.01234567.tmp"  # of a call that had no time to clear up
    left.mkdir(parents=True)
    (left / "block-00003.parquet").write_bytes(b"half")
    assert label(place, out, *RULES) == 0
    assert {path: path.stat().st_mtime_ns for path in done} == done
    same(written(out.parent), written(tmp_path / "whole"))


def test_processes_divide_the_shards_of_every_block(tmp_path, place, judges, capsys, in_blocks):
    """A judge that writes: who draws the last shard of a block ends the block, and who ends the last one writes."""
    flags = [*FLAGS, "--sampling.rationale_tokens", "6", "--shard_size", "4", "--seed", "3", "--rows", "9"]
    argv = ["label", "--judge", str(judges / "STaRSFT"), "--data", str(place / "new.jsonl"), *flags]
    whole, out = tmp_path / "whole/labels.parquet", tmp_path / "divided/labels.parquet"
    assert main([*argv, "--out", str(whole)]) == 0
    capsys.readouterr()
    assert main([*argv, "--out", str(out), "--shard", "1/2"]) == 0
    said = capsys.readouterr().out
    assert "part 1/2 is drawn, still missing: block-00000/shard-" in said and said.count("\n") == 1 and not out.exists()
    assert main([*argv, "--out", str(out), "--shard", "2/2"]) == 0
    labels = read_table(out, LABELS)
    assert labels.equals(read_table(whole, LABELS)) and labels["n_tokens"].min() > 0


def test_blocks_that_others_end_meanwhile(tmp_path, place, judges, capsys, in_blocks, monkeypatch):
    """Part 1 works while part 2 stands between its blocks: part 2 has the last shard of all, and writes."""
    flags = [*FLAGS, "--sampling.rationale_tokens", "6", "--shard_size", "4", "--rows", "14", "--out"]
    argv = ["label", "--judge", str(judges / "STaRSFT"), "--data", str(place / "new.jsonl"), *flags]
    out = tmp_path / "labels.parquet"
    judge_pairs, calls = label_command.judge_pairs, []

    def between(*arguments, **options):
        calls.append(arguments)
        if len(calls) == 2:  # block 1; of block 0 part 1 was missing
            monkeypatch.setattr(label_command, "judge_pairs", judge_pairs)
            assert main([*argv, str(out), "--shard", "1/2"]) == 0 and not out.exists()
            monkeypatch.setattr(label_command, "judge_pairs", between)
        return judge_pairs(*arguments, **options)

    monkeypatch.setattr(label_command, "judge_pairs", between)
    assert main([*argv, str(out), "--shard", "2/2"]) == 0 and len(calls) == 3
    assert len(read_table(out, LABELS)) == 14
    written_at = out.stat().st_mtime_ns
    assert main([*argv, str(out), "--shard", "1/2"]) == 0 and out.stat().st_mtime_ns == written_at
    assert not (tmp_path / "labels.judging/writing").exists()


def test_a_block_in_which_nothing_fits(tmp_path, place, capsys, in_blocks):
    rows = [
        {
            "id": f"{'ab'[i > 8]}{i:02d}",
            "prompt": "Hi",
            "response_a": "yes",
            "response_b": "no " * (3000 if i < 9 else 1),
        }
        for i in range(20)
    ]
    (tmp_path / "x.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    argv = ["--judge", str(place / "judge"), "--data", str(tmp_path / "x.jsonl"), "--out", str(tmp_path / "x.parquet")]
    assert main(["label", *argv, *FLAGS]) == 0
    counts = read_json(tmp_path / "x.report.json")["counts"]
    assert counts["did not fit"] == 9 and sum(counts[name] for name in ("labels", "ties", "abstained")) == 11
    (tmp_path / "x.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows[:9]))
    argv[-1] = str(tmp_path / "y.parquet")
    capsys.readouterr()
    assert main(["label", *argv, *FLAGS]) == 2 and "no row fits" in capsys.readouterr().err
