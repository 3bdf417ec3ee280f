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
from data_tools.sources._rows import ROW

_GZIP, _PARQUET, _BOM = b"\x1f\x8b", b"PAR1", "\ufeff"
_SURROGATE = re.compile("[\ud800-\udfff]")  # what Python's parser makes of half a pair; a whole one is a character
_SCALARS = {pl.String: "a string", pl.Float64: "a number", pl.Boolean: "true or false"}


def existing_file(path: str | Path) -> Path:
    """``path`` if it is a file. Raises UserError for a folder, or where there is no such file."""
    path = Path(path)
    if path.is_dir():
        raise UserError(f"{path}: is a folder; name a file in it")
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    return path


def existing(path: str | Path) -> Path:
    """``path`` if it is a file that may hold JSON Lines.

    Raises:
        UserError: no such file, a folder, an empty file, or parquet under another name.
    """
    path = existing_file(path)
    with open(path, "rb") as handle:
        start = handle.read(4)
    if not start:
        raise UserError(f"{path}: the file is empty; it needs one JSON object a line")
    if start == _PARQUET:
        raise UserError(f"{path}: is parquet, though its name does not say so; name it .parquet")
    return path


def scan(path: str | Path, schema: pl.Schema) -> pl.LazyFrame:
    """A query over the file's objects: ``ROW``, and the columns of ``schema``, whose absent keys are null."""
    # A path is a pattern to polars: without the escape, "a[1].jsonl" would be read as no file at all.
    return pl.scan_ndjson(glob.escape(str(existing(path))), schema=schema, row_index_name=ROW)


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
        row = _loads(line, f"{path}: line {number}")
    except json.JSONDecodeError as error:
        raise UserError(
            f"{path}: line {number} is not valid JSON ({error.msg}, column {error.colno}); "
            "correct or remove the line: the file needs one whole JSON object a line"
        ) from None
    if not isinstance(row, dict):
        raise UserError(f"{path}: line {number} is not a JSON object; the file needs one object a line")
    return row


def _loads(text: str, where: str) -> Any:
    """The JSON value of a text. Raises JSONDecodeError, or UserError for what Python's parser would not mind."""
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except json.JSONDecodeError:
        raise
    except RecursionError:
        raise UserError(f"{where} is nested too deeply; a row has strings, numbers and turns") from None
    except _Constant as error:
        raise UserError(f"{where} is not valid JSON ({error}); write null instead") from None
    except ValueError:  # Python turns no more than 4300 digits into an integer
        raise UserError(f"{where} holds a number of thousands of digits; write a shorter one") from None


def loads_or_text(cell: str | None) -> Any:
    """The JSON value of a text, or the text where it is none."""
    try:
        return None if cell is None else json.loads(cell, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        return cell


def begins_an_array(path: Path) -> bool:
    """Whether the first character of a file that is no blank opens an array."""
    if not path.is_file():
        return False
    with open(path, "rb") as handle:
        return handle.read(4096).removeprefix(_BOM.encode()).lstrip()[:1] == b"["


def parse_array(path: Path) -> list[Any]:
    """The items of a file that is one JSON array. Raises UserError."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: is not UTF-8 (byte {error.start + 1}); save the file as UTF-8") from None
    try:
        return _loads(text, f"{path}: the array")
    except json.JSONDecodeError as error:
        raise UserError(
            f"{path}: is not valid JSON ({error.msg}, line {error.lineno}, column {error.colno}); "
            "the file needs one whole array of objects, or an object a line"
        ) from None


def scan_rows(rows: list[dict[str, Any]], schema: pl.Schema) -> pl.LazyFrame:
    """As :func:`scan`, over objects in memory."""
    lines = "\n".join(json.dumps(row) for row in rows)
    return pl.scan_ndjson(io.BytesIO(lines.encode()), schema=schema, row_index_name=ROW)


class _Constant(ValueError):
    """NaN or Infinity, which Python's parser would take."""


def _refuse_constant(name: str) -> None:
    raise _Constant(f"{name} is no JSON number")


def misfit(row: dict[str, Any], schema: pl.Schema) -> str | None:
    """What of a row does not fit the raw schema, in words; None where everything does."""
    for key, dtype in schema.items():
        value = row.get(key)
        if value is not None and not _fits(value, dtype):
            return f"key '{key}' should be {kind(dtype)}, found {_describe(value)}"
    return None


def _fits(value: Any, dtype: pl.DataType) -> bool:
    if dtype == pl.String:  # numbers too: ids often are
        return isinstance(value, str | int | float) and not isinstance(value, bool)
    if dtype == pl.Float64:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if dtype == pl.Boolean:
        return isinstance(value, bool)
    if dtype == MESSAGES:
        return isinstance(value, list) and all(
            isinstance(turn, dict) and isinstance(turn.get("role"), str) and isinstance(turn.get("content"), str)
            for turn in value
        )
    if isinstance(dtype, pl.List):
        return isinstance(value, list) and all(item is None or _fits(item, dtype.inner) for item in value)
    found = value if isinstance(value, dict) else None
    return found is not None and all(
        found.get(field.name) is None or _fits(found[field.name], field.dtype) for field in dtype.fields
    )


def kind(dtype: pl.DataType) -> str:
    """A raw column's type in words."""
    if dtype == MESSAGES:
        return 'a list of {"role", "content"} turns'
    if isinstance(dtype, pl.List):
        return "a list of strings" if dtype.inner == pl.String else f"a list of {_object(dtype.inner)}"
    return f"an object {_object(dtype)}" if isinstance(dtype, pl.Struct) else _SCALARS[dtype]


def _object(dtype: pl.DataType) -> str:
    return f"{{{', '.join(json.dumps(field.name) for field in dtype.fields)}}}" if isinstance(dtype, pl.Struct) else "…"


def _texts(dtype: pl.DataType, name: str) -> Iterator[tuple[str, bool]]:
    """(name, is it a list of texts?) of each string in a raw column of that type and name."""
    if dtype == pl.String:
        yield name, False
    elif dtype == pl.List(pl.String):
        yield name, True
    elif isinstance(dtype, pl.List):
        yield from _texts(dtype.inner, name)
    elif isinstance(dtype, pl.Struct):
        for field in dtype.fields:
            yield from _texts(field.dtype, field.name)


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
        return half_a_character(path, f"line {number}")
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
    texts = {text for key, dtype in schema.items() for text in _texts(dtype, key)}
    single = "|".join(sorted(re.escape(name) for name, several in texts if not several))
    listed = "|".join(sorted(re.escape(name) for name, several in texts if several))
    suspect = pl.col("line").str.contains(rf'"(?:{single})"\s*:\s*[\[{{tf]')
    if listed:  # any of its elements may be none: the parser looks at them all
        suspect |= pl.col("line").str.contains(rf'"(?:{listed})"\s*:\s*\[')
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
            return half_a_character(path, f"line {number}")
    return None


def has_surrogate(value: Any) -> bool:
    """Whether a text in a JSON value holds half a surrogate pair."""
    return _SURROGATE.search(json.dumps(value, ensure_ascii=False)) is not None


def half_a_character(path: str | Path, place: str) -> UserError:
    return UserError(
        f"{path}: {place} holds half a character (an escape \\ud800 to \\udfff without its other half); "
        "write the whole character or remove it"
    )


def line_number(path: str | Path, row: int) -> int:
    """The line (from 1) on which the row of that index (from 0) stands: blank lines are lines, but no rows."""
    return _lines(Path(path)).select("number").slice(row, 1).collect().item()
