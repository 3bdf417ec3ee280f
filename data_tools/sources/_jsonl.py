"""Reading JSON Lines (plain, .gz, .zst): a fast query by polars, and the line number when a line is broken."""

from __future__ import annotations

import glob
import gzip
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl

from data_tools.errors import UserError
from data_tools.schema import MESSAGES

_GZIP, _PARQUET, _BOM = b"\x1f\x8b", b"PAR1", "\ufeff"
_SURROGATE = re.compile("[\ud800-\udfff]")  # what Python's parser makes of half a pair; a whole one is a character
_KINDS = {pl.String: "a string", pl.Float64: "a number", MESSAGES: 'a list of {"role", "content"} turns'}


def existing(path: str | Path) -> Path:
    """``path`` if it is a file that may hold JSON Lines.

    Raises:
        UserError: no such file, a folder, an empty file, or parquet.
    """
    path = Path(path)
    if path.is_dir():
        raise UserError(f"{path}: is a folder; name the files in it")
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    with open(path, "rb") as handle:
        start = handle.read(4)
    if not start:
        raise UserError(f"{path}: the file is empty; it needs one JSON object a line")
    if start == _PARQUET:
        raise UserError(f"{path}: is parquet, ingest takes JSON Lines; on a table already ingested use clean or split")
    return path


def scan(path: str | Path, schema: pl.Schema) -> pl.LazyFrame:
    """A query over the file's objects with exactly the columns of ``schema``; absent keys are null."""
    # A path is a pattern to polars: without the escape, "a[1].jsonl" would be read as no file at all.
    return pl.scan_ndjson(glob.escape(str(existing(path))), schema=schema)


def _lines(path: Path) -> pl.LazyFrame:
    """The file's lines that are not blank: ``number`` (from 1) and ``line``."""
    frame = pl.scan_lines(glob.escape(str(path)), row_index_name="number", row_index_offset=1)
    return frame.filter(pl.col("line").str.strip_chars() != "")


def _numbered(path: Path) -> Iterator[tuple[int, str]]:
    """(number, text) of each line that is not blank; raises UserError at one that is not UTF-8 or is cut off."""
    try:
        yield from _lines(path).collect().iter_rows()
    except OSError as error:
        raise UserError(f"{path}: the compressed file is damaged ({error}); fetch it again") from None
    except pl.exceptions.PolarsError:
        raise _not_utf8(path) from None


def _not_utf8(path: Path) -> UserError:
    with open(path, "rb") as handle:
        compressed = handle.read(2) == _GZIP
    with gzip.open(path) if compressed else open(path, "rb") as handle:
        for number, line in enumerate(handle, 1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as error:
                return UserError(f"{path}: line {number} is not UTF-8 (byte {error.start + 1}); save the file as UTF-8")
    return UserError(f"{path}: cannot be read as lines of UTF-8; save the file as UTF-8 JSON Lines")


def first_row(path: str | Path) -> dict[str, Any]:
    """The file's first object. Raises UserError for a file that holds none, or whose first line is broken."""
    path = existing(path)
    try:
        head = _lines(path).head(1).collect()
    except (OSError, pl.exceptions.PolarsError):
        head = pl.DataFrame(list(_numbered(path))[:1], schema=["number", "line"], orient="row")
    if head.is_empty():
        raise UserError(f"{path}: the file holds only blank lines; it needs one JSON object a line")
    return parse(path, *head.row(0))


def parse(path: str | Path, number: int, line: str) -> dict[str, Any]:
    """The JSON object of one line. Raises UserError that names file, line and column."""
    if line.startswith(_BOM):
        raise UserError(f"{path}: line {number} starts with a byte order mark; save the file as UTF-8 without one")
    try:
        row = json.loads(line, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        raise UserError(
            f"{path}: line {number} is not valid JSON ({error.msg}, column {error.colno}); "
            "correct or remove the line: the file needs one whole JSON object a line"
        ) from None
    except RecursionError:
        raise UserError(f"{path}: line {number} is nested too deeply; a row has strings, numbers and turns") from None
    except _Constant as error:
        raise UserError(f"{path}: line {number} is not valid JSON ({error}); write null instead") from None
    except ValueError:  # Python turns no more than 4300 digits into an integer
        raise UserError(f"{path}: line {number} holds a number of thousands of digits; write a shorter one") from None
    if not isinstance(row, dict):
        raise UserError(f"{path}: line {number} is not a JSON object; the file needs one object a line")
    return row


class _Constant(ValueError):
    """NaN or Infinity, which Python's parser would take."""


def _refuse_constant(name: str) -> None:
    raise _Constant(f"{name} is no JSON number")


def misfit(row: dict[str, Any], schema: pl.Schema) -> str | None:
    """What of a row does not fit the raw schema, in words; None where everything does."""
    for key, dtype in schema.items():
        value = row.get(key)
        if value is not None and not _fits(value, dtype):
            return f"key '{key}' should be {_KINDS[dtype]}, found {_describe(value)}"
    return None


def _fits(value: Any, dtype: pl.DataType) -> bool:
    if isinstance(value, bool):
        return False
    if dtype == pl.String:  # numbers too: ids often are
        return isinstance(value, str | int | float)
    if dtype == pl.Float64:
        return isinstance(value, int | float)
    return isinstance(value, list) and all(
        isinstance(turn, dict) and isinstance(turn.get("role"), str) and isinstance(turn.get("content"), str)
        for turn in value
    )


def _describe(value: Any) -> str:
    try:
        text = json.dumps(value, ensure_ascii=False)
    except RecursionError:
        return "many nested ones"
    return text if len(text) <= 40 else text[:37] + "..."


def find_broken(path: str | Path, schema: pl.Schema) -> UserError | None:
    """The error of the first line that is not JSON or does not fit the raw schema, else of the first polars refuses."""
    lines = []
    try:
        for number, line in _numbered(Path(path)):
            if problem := misfit(parse(path, number, line), schema):
                return UserError(f"{path}: line {number}: {problem}")
            lines.append((number, line))
    except UserError as error:
        return error
    reason = _refusal(lines, schema)
    if reason is None:
        return None
    while len(lines) > 1:  # the first bad line is in the first half, or else in the second
        half = len(lines) // 2
        found = _refusal(lines[:half], schema)
        lines, reason = (lines[:half], found) if found else (lines[half:], reason)
    number, line = lines[0]
    reason = _refusal(lines, schema) or reason
    if has_surrogate(parse(path, number, line)):
        return half_a_character(path, number)
    if "InvalidNumber" in reason:
        return UserError(f"{path}: line {number} holds a number out of range; write ids as strings")
    return UserError(f"{path}: line {number} cannot be read ({reason})")


def _refusal(lines: list[tuple[int, str]], schema: pl.Schema) -> str | None:
    """Why polars cannot read these lines, in its own words."""
    try:
        pl.read_ndjson(io.BytesIO("\n".join(line for _, line in lines).encode()), schema=schema)
    except pl.exceptions.PolarsError as error:
        return str(error).partition("\n")[0]
    return None


def find_stringified(path: str | Path, schema: pl.Schema) -> UserError | None:
    """The error of the first line with a list, an object or a truth value where the schema has a string.

    polars would turn such a value into its JSON text without a word. One regular expression over the raw lines
    finds the candidates (a quote inside a JSON string is escaped, so text does not match), the parser decides.
    """
    keys = [key for key, dtype in schema.items() if dtype == pl.String] + ["content"]
    suspect = pl.col("line").str.contains(rf'"(?:{"|".join(keys)})"\s*:\s*[\[{{tf]')
    for number, line in _lines(Path(path)).filter(suspect).collect().iter_rows():
        if problem := misfit(parse(path, number, line), schema):
            return UserError(f"{path}: line {number}: {problem}")
    return None


def find_surrogate(path: str | Path, schema: pl.Schema) -> UserError | None:
    """The error of the first line with half a surrogate pair (the escape ``\\ud800`` alone) in a key of the schema.

    No UTF-8 text can hold it, and polars would put a NUL character in its place without a word.
    """
    suspect = pl.col("line").str.contains(r"\\u[dD][89a-fA-F]")
    for number, line in _lines(Path(path)).filter(suspect).collect().iter_rows():
        row = parse(path, number, line)
        if has_surrogate([row.get(key) for key in schema]):
            return half_a_character(path, number)
    return None


def has_surrogate(value: Any) -> bool:
    """Whether a text in a JSON value holds half a surrogate pair."""
    return _SURROGATE.search(json.dumps(value, ensure_ascii=False)) is not None


def half_a_character(path: str | Path, number: int) -> UserError:
    return UserError(
        f"{path}: line {number} holds half a character (an escape \\ud800 to \\udfff without its other half); "
        "write the whole character or remove it"
    )


def line_number(path: str | Path, row: int) -> int:
    """The line (from 1) on which the row of that index (from 0) stands: blank lines are lines, but no rows."""
    return _lines(Path(path)).select("number").slice(row, 1).collect().item()
