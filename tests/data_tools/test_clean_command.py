"""The commands clean, decontaminate and check, from files to files."""

import json

import polars as pl
import pytest

from data_tools import __main__ as cli
from data_tools import artifact, lineage, removal
from data_tools.schema import PREFERENCE, conform

TEN = "a b c d e f g h i j"


def write(path, rows):
    """rows: (pair_id, prompt, chosen, rejected, split)"""
    names = ("pair_id", "prompt", "chosen", "rejected", "split")
    records = [dict(zip(names, (i, [{"role": "user", "content": q}], *rest), strict=True)) for i, q, *rest in rows]
    frame = conform(pl.DataFrame(records, schema={name: PREFERENCE[name] for name in names}), PREFERENCE)
    artifact.write_table(frame, path, PREFERENCE)
    return path


def call(capsys, *argv):
    status = cli.main([str(argument) for argument in argv])
    return status, capsys.readouterr()


def runs(capsys, *argv):
    status, said = call(capsys, *argv)
    assert status == 0 and said.err == ""
    return said.out


def fails(capsys, *argv):
    status, said = call(capsys, *argv)
    assert status == 2 and said.err.startswith("error: ") and said.err.count("\n") == 1
    return said.err


def ids(path):
    return artifact.read_table(path, PREFERENCE)["pair_id"].to_list()


@pytest.fixture
def evaluation(tmp_path):
    return write(tmp_path / "evaluation.parquet", [("e", f"{TEN} x y", "x", "y", None), ("f", "short", "x", "y", None)])


def test_all_flags_of_clean(tmp_path, capsys, evaluation):
    tokenizers = pytest.importorskip("tokenizers")
    pytest.importorskip("numpy")
    pytest.importorskip("lingua")
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    made.save(str(tmp_path / "tokenizer.json"))
    english = "Which of the cities that lie beside the sea would you like to visit most, and why"
    german = "Welche der Städte, die am Meer liegen, möchtest du am liebsten besuchen, und warum"
    rows = [
        ("near", f"{english}?", "Lisbon, I think, because of its light", "no", "train"),
        ("kept", f"{english}!", "Lisbon, I think, because of its light", "No", "train"),
        ("German", german, "Lissabon, glaube ich, wegen seines Lichtes", "nein", "train"),
        ("evaluated", f"{TEN} and more", "x", "y", "train"),
        ("long", "q", "1 " * 60, "y", "train"),
        ("empty", "q", "", "y", "train"),
        ("won", "w", "x", "y", "train"),
        ("lost", "w", "y", "x", "train"),
        ("won again", "w", "x", "y", "train"),
    ]
    file, out, told = write(tmp_path / "raw.parquet", rows), tmp_path / "out.parquet", tmp_path / "gone.jsonl"
    flags = ["--near-duplicates", "--languages", "en", "--conflicts", "majority", "--against", evaluation]
    flags += ["--max-tokens", 50, "--tokenizer", tmp_path, "--report", told]
    shown = runs(capsys, "clean", file, "--out", out, *flags)
    assert ids(out) == ["kept", "won"]
    assert artifact.read_table(out, PREFERENCE).equals(artifact.read_table(file, PREFERENCE)[[1, 6]])
    manifest = artifact.read_json(lineage.manifest_of(out))
    dropped = {reason: n for reason, n in manifest["counts"]["dropped"].items() if n}
    assert dropped == {
        "outvoted": 1,
        "empty prompt or response": 1,
        "repeat": 1,
        "too many tokens": 1,
        "other language": 1,
        "overlaps an evaluation prompt": 1,
        "near duplicate": 1,
    }
    assert manifest["counts"]["kept, of no certain language"] == 2  # evaluated, won
    assert (manifest["counts"]["read"], manifest["counts"]["written"]) == (9, 2)
    assert [entry["file"] for entry in manifest["inputs"]] == ["raw.parquet", "evaluation.parquet"]
    assert "dropped: near duplicate" in shown and "kept, of no certain language" in shown
    report = [json.loads(line) for line in told.read_text().splitlines()]
    assert [list(row) for row in report] == [list(removal.REPORT)] * 7
    assert [[row["pair_id"], row["reason"], row["match"], row["score"], row["words"]] for row in report] == [
        ["lost", "outvoted", None, 1 / 3, None],
        ["empty", "empty prompt or response", None, None, None],
        ["won again", "repeat", None, None, None],
        ["long", "too many tokens", None, 61.0, None],
        ["German", "other language", None, None, "de"],
        ["evaluated", "overlaps an evaluation prompt", "e", 10 / 12, TEN],
        ["near", "near duplicate", "kept", 1.0, None],
    ]
    assert report[5]["file"] == str(evaluation)


def test_clean_without_flags_reports_each_row_and_keeps_ties_out(tmp_path, capsys):
    rows = [(name, "w", *sides, "train") for name, sides in (("a", "xy"), ("b", "yx"), ("c", "xy"), ("d", "xz"))]
    rows += [("e", "one " * 9, "x", "y", "train"), ("f", "held", "x", "y", "test"), ("g", "Held", "x", "z", "train")]
    rows += [("h", "v", "x", " x", None), ("i", "u", "x", "y", None), ("j", "u", "x", "y", None)]
    file, out, told = write(tmp_path / "raw.parquet", rows), tmp_path / "out.parquet", tmp_path / "gone.parquet"
    runs(capsys, "clean", file, "--out", out, "--report", told, "--max-chars", 30)
    assert ids(out) == ["d", "f", "i"]
    report = pl.read_parquet(told)
    assert report.schema == removal.REPORT
    assert report.select("pair_id", "reason").rows() == [
        *((name, "both orders occur") for name in "abc"),
        ("e", "too long"),
        ("g", "prompt of a test row"),
        ("h", "chosen equals rejected"),
        ("j", "repeat"),
    ]
    assert report.drop("pair_id", "reason").null_count().sum_horizontal().item() == 4 * 7
    runs(capsys, "clean", out, "--out", tmp_path / "again.parquet", "--report", told)
    assert pl.read_parquet(told).is_empty() and pl.read_parquet(told).schema == removal.REPORT


def test_a_report_has_as_many_rows_as_went(tmp_path, capsys):
    rows = [(f"p{i:05}", f"q{i % 700}", "x" * (i % 5), "y", "train") for i in range(5000)]
    file, out, told = write(tmp_path / "raw.parquet", rows), tmp_path / "out.parquet", tmp_path / "gone.jsonl"
    runs(capsys, "clean", file, "--out", out, "--report", told)
    report = pl.read_ndjson(told)
    dropped = artifact.read_json(lineage.manifest_of(out))["counts"]["dropped"]
    assert dict(report["reason"].value_counts().iter_rows()) == {name: n for name, n in dropped.items() if n}
    assert sorted(report["pair_id"].to_list() + ids(out)) == sorted(row[0] for row in rows)
    runs(capsys, "clean", file, "--out", file, "--report", tmp_path / "in place.jsonl")
    assert pl.read_ndjson(tmp_path / "in place.jsonl").equals(report) and ids(file) == ids(out)


def test_what_the_flags_drop_is_said_when_nothing_is_left(tmp_path, capsys, evaluation):
    rows = [("a", TEN, "x", "y", "train"), ("b", "q", "", "y", "train")]
    file, out = write(tmp_path / "raw.parquet", rows), tmp_path / "out.parquet"
    said = fails(capsys, "clean", file, "--out", out, "--against", evaluation)
    assert "none of 2 rows is left (empty prompt or response: 1, overlaps an evaluation prompt: 1)" in said
    assert not out.exists()


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--max-tokens", 5], "--max-tokens and --tokenizer go together"),
        (["--max-tokens", 0, "--tokenizer", "x"], "--max-tokens 0: must be at least 1"),
        (["--max-tokens", 5, "--tokenizer", "none.json"], "none.json: no such file"),
        (["--near-duplicates", 0], "--near-duplicates 0.0: must be above 0"),
        (["--languages", "qq"], "language 'qq' is unknown"),
        (["--conflicts", "keep"], "argument --conflicts: invalid choice"),
        (["--coverage", 0], "--coverage 0.0: must be above 0"),
        (["--ngram", 1], "--ngram 1: must be at least 2"),
        (["--report", "x.csv"], "x.csv: a report is one of: *.parquet, *.jsonl"),
        (["--against", "none.parquet"], "none.parquet: no such file"),
    ],
)
def test_wrong_flags(tmp_path, capsys, flags, said):
    file = write(tmp_path / "raw.parquet", [("a", "q", "x", "y", "train")])
    assert said in fails(capsys, "clean", file, "--out", tmp_path / "out.parquet", *flags)
    assert not (tmp_path / "out.parquet").exists()


def test_decontaminate(tmp_path, capsys, evaluation):
    rows = [(f"t{i}", text, "x", "y", "train") for i, text in enumerate(["fine", TEN, "Short ", "shorter"])]
    file, out, told = write(tmp_path / "raw.parquet", rows), tmp_path / "out.parquet", tmp_path / "gone.jsonl"
    raw = tmp_path / "other.jsonl"
    raw.write_text('{"prompt": "shorter", "chosen": "c", "rejected": "r"}\n')
    shown = runs(capsys, "decontaminate", file, "--against", evaluation, raw, "--out", out, "--report", told)
    assert ids(out) == ["t0"]
    manifest = artifact.read_json(lineage.manifest_of(out))
    assert manifest["counts"] == {
        "read": 4,
        "dropped": {"overlaps an evaluation prompt": 3},
        "by_file": {str(evaluation): 2, str(raw): 1},
        "written": 1,
    }
    assert manifest["settings"] == {"ngram": 8, "coverage": 0.5} and "written" in shown
    report = [json.loads(line) for line in told.read_text().splitlines()]
    assert [(row["pair_id"], row["file"], row["match"], row["score"]) for row in report[:2]] == [
        ("t1", str(evaluation), "e", 10 / 12),
        ("t2", str(evaluation), "f", 1.0),
    ]
    assert [row["words"] for row in report] == [TEN, "short", "shorter"]
    strict = ["--coverage", 0.9, "--ngram", 3]
    runs(capsys, "decontaminate", file, "--against", evaluation, raw, "--out", out, *strict)
    assert ids(out) == ["t0", "t1"]
    alone = write(tmp_path / "alone.parquet", rows[1:3])
    out.unlink()
    said = fails(capsys, "decontaminate", alone, "--against", evaluation, "--out", out)
    assert "none of 2 rows is left" in said and not out.exists()


def test_check(tmp_path, capsys, evaluation):
    train = write(tmp_path / "train.parquet", [("t0", "fine", "x", "y", "train"), ("t1", TEN, "x", "y", "train")])
    held_out = write(tmp_path / "test.parquet", [("h", "also fine", "x", "y", "test")])
    assert runs(capsys, "check", train, held_out, evaluation) == (
        f"no prompt crosses: train 2, test 1, {evaluation} (no split) 2 rows\n"
    )
    said = fails(capsys, "check", train, held_out, evaluation, "--near")
    assert f"1 rows of train have a prompt of {evaluation} (no split)" in said
    assert "no prompt crosses" in runs(capsys, "check", train, evaluation, "--near", "--coverage", 0.9)
    again = write(tmp_path / "again.parquet", [("r", "FINE", "x", "y", "train")])
    assert "no prompt crosses" in runs(capsys, "check", train, again)
    status, told = call(capsys, "check", train, again, "--by-file")
    assert status == 2 and "the same" in told.out and "t0, r: fine" in " ".join(told.out.split())
