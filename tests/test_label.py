"""The commands study and label, on real judges."""

import json
import shutil

import polars as pl
import pytest

from data_tools.__main__ import main as data_tools
from data_tools.artifact import read_json, read_table
from data_tools.schema import PREFERENCE
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


def test_raw_pairs_are_not_written_over(tmp_path, capsys, place):
    shutil.copy(place / "new.jsonl", tmp_path / "x.broken.jsonl")
    argv = ["--judge", place / "judge", "--data", tmp_path / "x.broken.jsonl", "--out", tmp_path / "x.parquet"]
    assert main(["label", *map(str, argv)]) == 2 and "would write over" in capsys.readouterr().err
