"""Readers that hold a part of a file at a time: CSV record by record, JSON arrays, streams of Arrow, zstd."""

import json

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_tools import sources
from data_tools.errors import UserError
from data_tools.sources import _array, _arrow_stream, _columns, _jsonl
from tests.data_tools.raw import error
from tests.data_tools.test_cli import runs

CSV = """prompt,chosen,rejected

"a, ""b""
and c",c1,r1
q2,c2
q3,"c
3",r3,more
q4,c4,r4
q5,"c"5,r5
q6,c6,"r
6"
"""


def broken(path):
    reading = sources.Reading(path, chunk=1)
    batches = [reading.batch(chunk) for chunk in reading.chunks()]
    return [row for batch in batches for row in batch.broken], pl.concat([batch.frame for batch in batches])


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_csv_rows_of_another_width_are_told_with_their_lines(tmp_path, end):
    path = tmp_path / "x.csv"
    path.write_text(CSV, newline=end)
    found, frame = broken(path)
    assert [(row.row, row.reason) for row in found] == [
        (5, "another number of cells"),
        (6, "another number of cells"),
        (9, "not CSV"),
    ]
    assert found[0].detail == "line 5 has 2 cells, the header 3; quote cells that hold commas"
    assert found[0].text == "q2,c2"
    texts = [[cell.replace("\r\n", "\n") for cell in row] for row in frame.select("chosen", "rejected").rows()]
    assert texts == [["c1", "r1"], ["c4", "r4"], ["c6", "r\n6"]]
    assert frame["prompt"][0][0]["content"].replace("\r\n", "\n") == 'a, "b"\nand c'


def test_csv_in_the_quarantine(tmp_path, capsys):
    path = tmp_path / "x.csv"
    path.write_text(CSV)
    out = tmp_path / "out"
    runs(capsys, "ingest", path, "--out", out, "--max-broken", 0.5, "--validation", 0, "--test", 0)
    put = [json.loads(line) for line in (out / "quarantine.jsonl").read_text().splitlines()]
    assert [(row["file"], row["line"]) for row in put] == [(str(path), 5), (str(path), 6), (str(path), 9)]
    assert pl.read_parquet(out / "train.parquet").height == 3


def test_a_csv_quote_that_is_never_closed_is_refused(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text('prompt,chosen,rejected\nq,c,r\nq,"c,r\n' + "q,c,r\n" * 9)
    assert error(path).startswith("the quote that opens a cell in line 3 is never closed")


def test_csv_bytes_that_are_no_text_are_told_with_their_line(tmp_path):
    path = tmp_path / "x.csv"
    path.write_bytes(b"\xef\xbb\xbfprompt,chosen,rejected\nq1,c,r\nq2,c\xff,r\nq3,c,r\n")
    found, frame = broken(path)
    assert [(row.row, row.reason, row.text) for row in found] == [(3, "invalid Unicode", "q2,c?,r")]
    assert frame.height == 2


def test_a_csv_column_that_stands_there_twice(tmp_path):
    (tmp_path / "x.csv").write_text("prompt,chosen,rejected,chosen\nq,c,r,d\n")
    assert error(tmp_path / "x.csv") == "has several columns 'chosen'; leave one"


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(st.lists(VALUES), st.integers(1, 30), st.sampled_from([None, 0, 2]), st.booleans())
@settings(max_examples=60)
def test_an_array_is_cut_wherever_its_parts_end(tmp_path_factory, rows, size, indent, ascii):
    path = tmp_path_factory.getbasetemp() / "array.json"
    path.write_text(json.dumps(rows, indent=indent, ensure_ascii=ascii), encoding="utf-8")
    found = list(_array.items(path, size))
    assert [value for _, value in found] == rows
    assert [json.loads(text) for text, _ in found] == rows and all("\n" not in text for text, _ in found)


@pytest.mark.parametrize("size", [1, 7, 1 << 20])
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[{"a": 1},\n\n {"a": tru}]', "Expecting value, line 3, column 8"),
        ('[{"a": 1} {"a": 2}]', "Expecting ',' delimiter, line 1, column 11"),
        ('[{"a": 1},\n]', "Expecting value, line 2, column 1"),
        ('[{"a": 1}]\n[]', "Extra data, line 2, column 1"),
        ('[{"a": "b}]', "Unterminated string starting at, line 1, column 8"),
        ('[{"a": 1}', "Expecting ',' delimiter, line 1, column 10"),
    ],
)
def test_where_an_array_ends_to_be_one(tmp_path, text, said, size):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(UserError, match=r"is not valid JSON \(" + said):
        list(_array.items(tmp_path / "x.json", size))


def test_a_byte_of_an_array_that_is_no_text(tmp_path):
    (tmp_path / "x.json").write_bytes("\ufeff[{}, {}, 'ä".encode() + b"\xff']")
    with pytest.raises(UserError, match=r"is not UTF-8 \(byte 16\)"):
        list(_array.items(tmp_path / "x.json", 3))


def test_a_stream_of_arrow_is_read_some_batches_at_a_time(tmp_path):
    pa = pytest.importorskip("pyarrow")
    path = tmp_path / "x.arrow"
    rows = [{"prompt": f"q{i}", "chosen": f"c{i}", "rejected": "r", "source": f"s{i % 3}"} for i in range(50)]
    table = pa.Table.from_pylist(rows)
    table = table.set_column(3, "source", table["source"].dictionary_encode())  # told once, for all batches
    with pa.ipc.new_stream(path, table.schema) as writer:
        writer.write_table(table, max_chunksize=7)
    tables = list(_arrow_stream.tables(path, 1))
    assert [part.height for part in tables] == [0, *[7] * 7, 1]
    assert pl.concat(tables)["source"].cast(pl.String).to_list() == [row["source"] for row in rows]
    frame = sources.read(path)
    assert frame["chosen"].to_list() == [row["chosen"] for row in rows]
    path.write_bytes(path.read_bytes()[:-100])
    assert "it ends within a record batch" in error(path)


def dictionary_stream(path, texts, **options):
    """A stream with a batch, and a dictionary of its own, for each list of texts."""
    pa = pytest.importorskip("pyarrow")
    schema = pa.schema({"prompt": pa.dictionary(pa.int32(), pa.string())})
    with pa.ipc.new_stream(path, schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        for batch in texts:
            writer.write_batch(pa.record_batch([pa.array(batch).dictionary_encode()], schema=schema))
    return path


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize(("size", "heights"), [(1, [0, 3, 2, 2, 1]), (400, None), (1 << 20, [0, 8])])
def test_a_dictionary_of_arrow_that_is_replaced_between_batches(tmp_path, size, heights, legacy):
    texts = [["a", "b", "a"], ["c", "d"], ["c", "d"], ["a"]]  # the third batch needs the second's
    path = dictionary_stream(tmp_path / "x.arrow", texts, use_legacy_format=legacy)
    tables = list(_arrow_stream.tables(path, size))
    assert heights is None or [table.height for table in tables] == heights
    assert pl.concat(tables)["prompt"].cast(pl.String).to_list() == [text for batch in texts for text in batch]


def test_of_replaced_dictionaries_of_arrow_only_the_last_is_kept(tmp_path, monkeypatch):
    path = dictionary_stream(tmp_path / "x.arrow", [[f"{i:050}"] for i in range(30)])
    sizes, read = [], pl.read_ipc_stream
    monkeypatch.setattr(pl, "read_ipc_stream", lambda stream: sizes.append(len(stream.getvalue())) or read(stream))
    assert sum(table.height for table in _arrow_stream.tables(path, 1)) == 30
    assert len(sizes) == 31 and sizes[-1] == sizes[2]


def test_a_dictionary_of_arrow_that_grows_by_deltas_is_refused(tmp_path):
    rows = [["a", "b"], ["a", "b", "c"]]
    path = dictionary_stream(tmp_path / "x.arrow", rows, emit_dictionary_deltas=True)
    with pytest.raises(UserError, match=r"x.arrow: cannot be read \(a dictionary of it grows by deltas"):
        list(_columns.of_columns(path, 1 << 20).chunks(pl.Schema({"prompt": pl.String})))


def test_zstd_is_unpacked_as_it_is_read(tmp_path, monkeypatch):
    path = tmp_path / "x.jsonl.zst"
    rows = [{"prompt": f"q{i}\r\n", "chosen": f"c{i}", "rejected": "r"} for i in range(5_000)]
    frame = pl.DataFrame(rows)
    frame.lazy().sink_ndjson(path, compression="zstd")
    found = list(_jsonl.chunks(path, 1 << 14))
    assert len(found) > 10
    lines = pl.concat([lines for lines, _ in found])
    assert lines["number"].to_list() == list(range(1, 5_001))
    assert [json.loads(line) for line in lines["line"]] == rows
    path.write_bytes(path.read_bytes()[:-200])
    assert error(path).startswith("the compressed file is damaged")
