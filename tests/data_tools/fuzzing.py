"""Rows and files as nobody should write them: what the fuzz tests feed to the commands."""

from __future__ import annotations

import csv
import gzip
import io
import json
from pathlib import Path
from typing import Any

import polars as pl
from hypothesis import strategies as st

from data_tools.schema import MESSAGES

KINDS = ("jsonl", "jsonl.gz", "json", "csv", "parquet", "arrow", "stream.arrow")
FIXTURES = Path(__file__).with_name("fixtures")


class Literal(str):
    """A JSON text that Python's writer would not write: half characters, duplicate keys, what is nested too deeply."""


def _turns(*texts: str) -> list[dict[str, str]]:
    return [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(texts)]


# The formats without a fixture of their own.
_MADE = {
    "pairs": [
        {
            "id": i, "source": "s", "prompt": _turns(f"q {i}"), "chosen": f"c {i}", "rejected": "r",
            "label_kind": "human", "margin": 0.5,
        }
        for i in range(5)
    ],
    "trl": [{"prompt": _turns(f"q {i}"), "chosen": _turns("", "c")[1:], "rejected": _turns("", "r")[1:]}
            for i in range(5)],
}  # fmt: skip


def good_rows(format: str) -> list[dict[str, Any]]:
    """Five rows that the format reads."""
    fixture = FIXTURES / f"{format}.jsonl"
    if fixture.exists():
        return [json.loads(line) for line in fixture.read_text().splitlines()]
    return _MADE[format]


_TURN = {"role": "user", "content": "q"}
SCALARS = st.sampled_from(
    [
        None, True, False, 0, 1, -1, 0.5, 2.5, 10**25, -(10**400), 5e-324,
        *map(Literal, ("NaN", "-Infinity", "1e999", "-0", "9" * 5000, "1E400", '"\\ud800"', '"\\udc00\\ud800"')),
        "", " ", "A", "chosen", "null", "[", "[1]", "{}", '{"role": "user"}', "\n\nHuman: q\n\nAssistant: a", "NaN",
        "\x00", "\x1b[31mred\x07", "\u202e\u2028", "\ufeff", "\ufffe", "a\r\nb\tc", '"', "\U0001f600", "é" * 3000,
        "_row",
    ]
)  # fmt: skip
SHAPES = st.sampled_from(
    [
        [], {}, [[]], [None], [{}], {"": ""}, [None, _TURN], [_TURN], [_TURN, _TURN], [{"role": "user"}],
        [{"content": "q"}],
        [{"role": 5, "content": []}], [{"role": "user", "content": [{"type": "text", "text": "q"}]}],
        [{"role": "tool", "content": "q"}], [{**_TURN, "more": 1}], [["a", "b"]], ["a", 1, None], [0.5, "x"],
        {"role": "user", "content": "q"}, {"a": {"b": {"c": [{"d": None}]}}},
        *map(Literal, ('{"role":"user","role":"user","content":"q","content":1}', '[{"a":1},[],null]')),
        *(Literal("[" * n + "]" * n) for n in (60, 2000)), Literal('{"a":' * 2000 + "1" + "}" * 2000),
    ]
)  # fmt: skip
JUNK = st.one_of(SCALARS, SHAPES, st.text(max_size=4), st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3)))
# A row is (key, value) couples, since a key may stand there twice.
Row = list[tuple[str, Any]]


@st.composite
def mutated(draw: st.DrawFn, rows: list[dict[str, Any]]) -> list[Row]:
    """The rows with something wrong in one, in some, or in all of them."""
    made: list[Row] = [list(row.items()) for row in json.loads(json.dumps(rows))]
    touched = draw(
        st.one_of(st.just([0]), st.just(range(len(made))), st.lists(st.sampled_from(range(len(made))), max_size=2))
    )
    for _ in range(draw(st.integers(1, 2))):
        key = draw(st.sampled_from([key for key, _ in made[0]] or ["x"]))
        what = draw(st.sampled_from(("drop", "replace", "inside", "twice", "add", "wrap")))
        junk = draw(JUNK)
        name = draw(
            st.sampled_from(("_row", "", "split", "margin", "id", "group_id", "source", "é", "pair_id", "prompt"))
        )
        steps = draw(st.lists(st.integers(0, 3), min_size=1, max_size=4))
        for i in touched:
            made[i] = _changed(made[i], key, what, junk, name, steps)
    return made


def _changed(row: Row, key: str, what: str, junk: Any, name: str, steps: list[int]) -> Row:
    if what == "drop":
        return [(k, v) for k, v in row if k != key]
    if what in ("twice", "add"):
        return [*row, (key if what == "twice" else name, junk)]
    new = {
        "replace": lambda value: junk,
        "inside": lambda value: _inside(value, junk, steps),
        "wrap": lambda value: [value, junk] if steps[0] % 2 else {name: value},
    }[what]
    return [(k, new(v) if k == key else v) for k, v in row]


def _inside(value: Any, junk: Any, steps: list[int]) -> Any:
    """The value with junk at the end of a path into it."""
    if not steps or isinstance(value, Literal) or not isinstance(value, list | dict) or not value:
        return junk
    keys = list(range(len(value))) if isinstance(value, list) else list(value)
    at = keys[steps[0] % len(keys)]
    copy = list(value) if isinstance(value, list) else dict(value)
    copy[at] = _inside(value[at], junk, steps[1:])
    return copy


def text_of(value: Any) -> str:
    """JSON, with literals as they stand."""
    if isinstance(value, Literal):
        return str(value)
    if isinstance(value, dict):
        return text_of_row(list(value.items()))
    if isinstance(value, list):
        return "[" + ", ".join(map(text_of, value)) + "]"
    return json.dumps(value, ensure_ascii=False)


def text_of_row(row: Row) -> str:
    return "{" + ", ".join(f"{json.dumps(key)}: {text_of(value)}" for key, value in row) + "}"


def bytes_of(rows: list[Row], kind: str) -> bytes:
    """A file of such rows; kinds with columns take what the first type that fits makes of a value."""
    lines = [text_of_row(row) for row in rows]
    if kind in ("jsonl", "jsonl.gz"):
        plain = "".join(f"{line}\n" for line in lines).encode()
        return gzip.compress(plain, 1, mtime=0) if kind == "jsonl.gz" else plain
    if kind == "json":
        return ("[" + ",\n".join(lines) + "]").encode()
    names = list(dict.fromkeys(key for row in rows for key, _ in row))
    columns = {name: [dict(row).get(name) for row in rows] for name in names}
    if kind == "csv":
        written = io.StringIO()
        cells = zip(*([_cell(value) for value in column] for column in columns.values()), strict=True)
        csv.writer(written).writerows([names, *cells])
        return written.getvalue().encode("utf-8", "surrogatepass")
    return framed(pl.DataFrame([_series(name, values) for name, values in columns.items()]), kind)


def framed(frame: pl.DataFrame, kind: str) -> bytes:
    """The table as a file with columns."""
    written = io.BytesIO()
    {"parquet": frame.write_parquet, "arrow": frame.write_ipc, "stream.arrow": frame.write_ipc_stream}[kind](written)
    return written.getvalue()


def _cell(value: Any) -> str:
    return "" if value is None else str(value) if isinstance(value, str) else text_of(value)


def _series(name: str, values: list[Any]) -> pl.Series:
    plain = [str(value)[:100] if isinstance(value, Literal) else value for value in values]
    try:
        column = pl.Series(name, json.loads(json.dumps(plain, default=str)), strict=False)
        framed(column.to_frame(), "parquet")
        if len(column) == len(values):
            return column
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, TypeError, ValueError):
        pass
    return pl.Series(name, [_cell(value)[:100] for value in values])  # no type holds them all


# What a column of a table may be made of instead.
TYPES: tuple[pl.DataType, ...] = (
    pl.Null(), pl.Boolean(), pl.Int64(), pl.UInt8(), pl.Float32(), pl.Date(), pl.Duration(), pl.Datetime(), pl.Time(),
    pl.Binary(), pl.Categorical(), pl.Decimal(10, 2), pl.String(), pl.List(pl.Null()), pl.List(pl.String()),
    pl.List(pl.Int8()), pl.Struct({}), pl.Struct({"role": pl.String()}), pl.List(pl.Struct({"role": pl.String()})),
    pl.List(pl.Struct({"role": pl.Int64(), "content": pl.String()})), pl.Array(pl.String(), 2), pl.Enum(["a", "b"]),
    pl.List(pl.Struct({"content": pl.String(), "role": pl.String()})), pl.List(pl.List(pl.List(pl.Int64()))),
    pl.Int128(),
)  # fmt: skip


@st.composite
def recast(draw: st.DrawFn, frame: pl.DataFrame) -> pl.DataFrame:
    """The table with a column of another type (null where a value cannot be kept), or dropped, renamed, emptied."""
    name = draw(st.sampled_from(frame.columns))
    what = draw(st.sampled_from(("cast", "cast", "cast", "drop", "rename", "no rows", "some null")))
    if what == "cast":
        dtype = draw(st.sampled_from(TYPES))
        try:
            column = frame[name].cast(dtype, strict=False)
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException):
            column = pl.Series(name, [None] * frame.height, dtype)
        return frame.with_columns(column)
    if what == "some null":
        rows = draw(st.sets(st.sampled_from(range(frame.height)), min_size=1))
        return frame.with_columns(
            pl.when(pl.int_range(pl.len()).is_in(list(rows))).then(None).otherwise(name).alias(name)
        )
    return {"drop": frame.drop(name), "rename": frame.rename({name: f"{name}\n"}), "no rows": frame.clear()}[what]


# Values of the types that the tables have, which should not be there.
_ODD = {
    pl.String: ("", " ", "\x00\x1b[31m", "C", "INVALID", "\u202e", "train", "_row", "é" * 2000, "same"),
    pl.Float64: (float("nan"), float("inf"), -1.0, 0.0, 2.0, 1e308),
    pl.Float32: (float("nan"), float("-inf"), -1.0, 2.0),
    pl.Int32: (-1, 0, 2**31 - 1, -(2**31)),
    pl.Int64: (-1, 2**63 - 1, -(2**63)),
    pl.Boolean: (True, False),
}


@st.composite
def odd_values(draw: st.DrawFn, frame: pl.DataFrame) -> pl.DataFrame:
    """The table, its types kept, with a value that should not be there in some rows of a column, or with rows twice."""
    name = draw(st.sampled_from(frame.columns))
    dtype = frame[name].dtype
    some = pl.int_range(pl.len()).is_in(
        draw(st.lists(st.integers(0, frame.height - 1), min_size=1, max_size=frame.height))
    )
    if draw(st.integers(0, 5)) == 0:
        return pl.concat([frame, frame.filter(some)])
    if dtype.base_type() in _ODD:
        value = pl.lit(draw(st.sampled_from((None, *_ODD[dtype.base_type()]))), dtype)
    elif dtype == MESSAGES:
        turn = st.fixed_dictionaries({"role": st.sampled_from((None, "", "user", "assistant", "system", "tool")),
                                      "content": st.sampled_from((None, "", "\x00", "q"))})  # fmt: skip
        value = pl.lit(pl.Series([draw(st.none() | st.lists(st.none() | turn, max_size=3))], dtype=dtype))
    else:
        value = pl.lit(pl.Series([draw(st.sampled_from((None, [], [None], [-1, 2**31 - 1])))], dtype=dtype))
    return frame.with_columns(pl.when(some).then(value).otherwise(name).alias(name))


@st.composite
def corrupted(draw: st.DrawFn, raw: bytes) -> bytes:
    """The bytes with some of them changed, cut away, put in, or written twice."""
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, max(0, len(raw) - 1)))
        # The beginning and the end of a file hold what says how to read the rest.
        at = draw(st.sampled_from((at, min(at % 64, len(raw)), max(0, len(raw) - 1 - at % 64))))
        n = draw(st.sampled_from((1, 2, 7, 100)))
        new = draw(st.sampled_from((b"\x00", b"\xff", b"\xed\xa0\x80", b"\n", b"}", b'"', b"\\", b"\x80" * 9, b"PAR1")))
        raw = {
            "change": raw[:at] + new + raw[at + len(new) :],
            "insert": raw[:at] + new + raw[at:],
            "cut": raw[:at] + raw[at + n :],
            "end": raw[:at],
            "twice": raw[: at + n] + raw[at:],
            "flip": raw[:at] + bytes([raw[at] ^ 1 << n % 8]) + raw[at + 1 :] if at < len(raw) else raw,
        }[draw(st.sampled_from(("change", "insert", "cut", "end", "twice", "flip")))]
    return raw
