"""The same rows in every kind of file, and what is wrong in one, named with its row."""

import gzip
import json
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from data_tools import sources
from tests.data_tools.raw import error

FIXTURES = Path(__file__).with_name("fixtures")
KINDS = ("jsonl", "jsonl.gz", "jsonl.zst", "json", "parquet", "arrow", "ipc", "stream.arrow")


def turns(*texts):
    return [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(texts)]


ROWS = [
    {"chosen": turns(f"q{i}", "ä", f"and {i}?", f"c {i}"), "rejected": turns(f"q{i}", "ä", f"and {i}?", "r"), "id": i}
    for i in range(5)
]
FLAT = [
    {"prompt": 'say "a, b"\nand c', "chosen": "c", "rejected": "r", "margin": 0.5, "id": "x1"},
    {"prompt": "[not JSON", "chosen": "0", "rejected": "true", "margin": None, "id": "x2"},
]


def write(path, rows):
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    frame = pl.DataFrame(rows, infer_schema_length=None)
    kind = path.name.partition(".")[2]
    if kind == "jsonl.gz":
        path.write_bytes(gzip.compress(lines.encode()))
    elif kind == "jsonl.zst":
        pl.DataFrame(rows, infer_schema_length=None).lazy().sink_ndjson(path, compression="zstd")
    elif kind == "json":
        path.write_text(json.dumps(rows, indent=2, ensure_ascii=False))
    elif kind == "parquet":
        frame.write_parquet(path)
    elif kind == "stream.arrow":
        frame.write_ipc_stream(path)
    elif kind in ("arrow", "ipc"):
        frame.write_ipc(path)
    elif kind == "csv":
        frame.with_columns(pl.col(pl.List).map_elements(_json, return_dtype=pl.String)).write_csv(path)
    else:
        path.write_text(lines)
    return path


def _json(turns):
    return json.dumps(turns.to_list())


@pytest.mark.parametrize("kind", [*KINDS, "csv"])
def test_a_kind(tmp_path, kind):
    frame = sources.read(write(tmp_path / f"odd [1]* name.{kind}", ROWS))
    assert frame.select("pair_id", "prompt", "chosen", "rejected", "source").rows() == [
        (str(i), turns(f"q{i}", "ä", f"and {i}?"), f"c {i}", "r", "odd [1]* name") for i in range(5)
    ]


@pytest.mark.parametrize("kind", [*KINDS, "csv"])
def test_flat_rows(tmp_path, kind):
    frame = sources.read(write(tmp_path / f"x.{kind}", FLAT))
    assert frame.select("prompt", "chosen", "rejected", "margin", "pair_id").rows() == [
        (turns('say "a, b"\nand c'), "c", "r", 0.5, "x1"),
        (turns("[not JSON"), "0", "true", None, "x2"),
    ]


@pytest.mark.parametrize("kind", ["json", "parquet", "arrow"])
@pytest.mark.parametrize("name", sorted(sources.formats().keys() - {"openrlhf", "pairs", "trl"}))
def test_every_format_in_another_kind(tmp_path, name, kind):
    rows = [json.loads(line) for line in (FIXTURES / f"{name}.jsonl").read_text().splitlines()]
    found = sources.load(write(tmp_path / f"{name}.{kind}", rows))
    expected = sources.load(FIXTURES / f"{name}.jsonl")
    assert (found.format, found.left_out) == (name, expected.left_out)
    assert found.frame.equals(expected.frame)


def test_a_label_in_csv(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text("prompt,completion,label\nq,c,True\nq,r,false\n")
    assert sources.read(path).select("chosen", "rejected").rows() == [("c", "r")]
    path.write_text("prompt,completion,label\nq,c,True\nq,r,maybe\n")
    assert error(path) == "line 3: key 'label' should be true or false, found \"maybe\""


@pytest.mark.parametrize("kind", ["json", "csv"])
@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"chosen": "c"}, "row 3: key 'chosen' should be a list of"),
        ({"chosen": [{"role": "user", "content": True}]}, "row 3: key 'chosen' should be a list of"),
        ({"chosen": [{"role": "user", "content": "\ud800"}]}, "row 3 holds half a character"),
        ({"chosen": turns("q2", "ä", "and 2?")}, "row 3: 'chosen' is missing, or does not end with an assistant turn"),
    ],
)
def test_a_bad_row(tmp_path, kind, row, said):
    rows = [*ROWS[:2], {**ROWS[2], **row}, *ROWS[3:]]
    path = tmp_path / f"x.{kind}"
    if kind == "json":
        path.write_text(json.dumps(rows))
    else:
        cells = [{key: json.dumps(value) for key, value in of.items()} for of in rows]
        pl.DataFrame(cells).write_csv(path)
        said = said.replace("row 3", "line 4")  # behind the header
    assert error(path).startswith(said)


@pytest.mark.parametrize("kind", ["parquet", "arrow"])
def test_a_bad_row_of_columns(tmp_path, kind):
    rows = [*ROWS[:2], {**ROWS[2], "chosen": turns("q2")}]
    assert error(write(tmp_path / f"x.{kind}", rows)).startswith("row 3: 'chosen' is missing, or does not end with")


@pytest.mark.parametrize("kind", ["parquet", "arrow"])
@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"rejected": [[1]]}, 'column \'rejected\' should be a list of {"role", "content"} turns, found List(Int64)'),
        ({"rejected": [True]}, "column 'rejected' should be a string, found Boolean"),
        ({"margin": ["1"]}, "column 'margin' should be a number, found String"),
        ({"prompt": [[{"role": "user"}]]}, 'column \'prompt\' should be a list of {"role", "content"} turns, found'),
    ],
)
def test_columns_of_another_type(tmp_path, kind, values, said):
    path = tmp_path / f"x.{kind}"
    frame = pl.DataFrame({"prompt": ["q"], "chosen": ["c"], "rejected": ["r"], "margin": [0.5]} | values)
    getattr(frame, "write_parquet" if kind == "parquet" else "write_ipc")(path)
    assert error(path).startswith(said)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("x.json", "[1, 2]", "row 1 is not a JSON object"),
        ("x.json", " []", "the array is empty"),
        ("x.json", '[{"chosen": "c"', "is not valid JSON (Expecting ',' delimiter, line 1, column 16)"),
        ("x.json", '[{"margin": NaN}]', "the array is not valid JSON (NaN is no JSON number); write null instead"),
        ("x.json", "[" * 100_000, "the array is nested too deeply"),
        ("x.json", '[{"chosen": "c", "rejected": "r", "margin": 1e400, "prompt": "q"}]', "row 1 holds a number out of"),
        ("x.json", f'[{{"chosen": "c", "rejected": "r", "id": {"1" * 400}}}]', "row 1 holds a number out of range"),
        ("x.csv", "", "cannot be read as CSV"),
        ("x.csv", "chosen,rejected\n", "the table has no rows"),
        ("x.parquet", "PAR1 and no more", "cannot be read as parquet"),
        ("x.arrow", "none", "cannot be read as arrow"),
        ("x.ipc", "ARROW1 and no more", "cannot be read as ipc"),
        ("x.parquet", "", "cannot be read as parquet"),
    ],
)
def test_a_damaged_file(tmp_path, name, text, said):
    (tmp_path / name).write_text(text)
    assert error(tmp_path / name).startswith(said)


@pytest.mark.parametrize("name", ["x.json", "x.csv", "x.parquet", "x.arrow"])
def test_a_file_that_is_not_there(tmp_path, name):
    assert error(tmp_path / name) == "no such file"


def test_a_table_without_rows(tmp_path):
    pl.DataFrame({"chosen": [], "rejected": []}).write_parquet(tmp_path / "x.parquet")
    assert error(tmp_path / "x.parquet") == "the table has no rows"


def test_json_lines_named_json(tmp_path):
    (tmp_path / "x.json").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    assert sources.read(tmp_path / "x.json").height == 5


def test_a_folder(tmp_path):
    for i, kind in enumerate(("jsonl.gz", "parquet", "json")):
        write(tmp_path / f"part{i}.{kind}", [{**row, "id": f"{i}-{row['id']}"} for row in ROWS])
    (tmp_path / "README.md").write_text("# Not a row")
    (tmp_path / ".hidden.jsonl").write_text("{")
    frame = sources.read(tmp_path)
    assert frame["pair_id"].to_list() == [f"{i}-{j}" for i in range(3) for j in range(5)]
    assert [file.name for file in sources.files(tmp_path)] == ["part0.jsonl.gz", "part1.parquet", "part2.json"]


def test_a_folders_counts_are_sums(tmp_path):
    for name in ("a", "b"):
        (tmp_path / f"{name}.jsonl").write_bytes((FIXTURES / "chat_arena.jsonl").read_bytes())
    assert sources.load(tmp_path).left_out == {"tie": 4, "conversations differ before the last turn": 2}


def test_a_folder_of_several_formats_is_refused(tmp_path):
    write(tmp_path / "a.jsonl", ROWS)
    (tmp_path / "b.jsonl").write_bytes((FIXTURES / "llmbar.jsonl").read_bytes())
    assert error(tmp_path) == (
        "the folder holds files of several formats: trl (a.jsonl), llmbar (b.jsonl); ingest them apart"
    )


def test_ingest_says_what_it_found_and_left_out(tmp_path):
    folder = tmp_path / "raw"
    folder.mkdir()
    (folder / "arena.jsonl").write_bytes((FIXTURES / "chat_arena.jsonl").read_bytes())
    write(tmp_path / "mine.parquet", ROWS)
    argv = ["ingest", str(folder), str(tmp_path / "mine.parquet"), "--out", str(tmp_path / "out")]
    done = subprocess.run(
        [sys.executable, "-m", "data_tools", *argv], cwd=Path(__file__).parents[2], capture_output=True, text=True
    )
    assert done.returncode == 0
    assert done.stderr == f"format chat_arena: {folder}\nformat trl: {tmp_path / 'mine.parquet'}\n"
    assert "left out: tie" in done.stdout and "left out: conversations differ before the last turn" in done.stdout
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["counts"]["read"] == 10
    assert manifest["counts"]["left_out"] == {"tie": 2, "conversations differ before the last turn": 1}
    assert [name for name, _ in manifest["key"]["inputs"]] == ["arena.jsonl", "mine.parquet"]


def test_ingest_with_keys(tmp_path):
    from data_tools.__main__ import main

    keys = ["--prompt-key", "question", "--chosen-key", "good", "--rejected-key", "bad"]
    raw, out = str(FIXTURES / "openrlhf.jsonl"), tmp_path / "out"
    assert main(["ingest", raw, "--out", str(out), "--validation", "0", "--test", "0", *keys]) == 0
    assert pl.read_parquet(out / "train.parquet")["chosen"].to_list() == ["Hi.", "Bye.", "Yes.", "No.", "It."]


def test_the_shared_folder(pairs_folder):
    loaded = sources.load(pairs_folder)
    assert loaded.format == "pairs" and loaded.left_out == {}
    assert loaded.frame["pair_id"].n_unique() == loaded.frame.height
