"""Kinds of raw files. Each gives the first row, its rows in chunks, the raw columns of a chunk, and what is wrong."""

from __future__ import annotations

import glob
import json
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl

from data_tools import panics
from data_tools.errors import UserError
from data_tools.lineage import is_manifest
from data_tools.sources import _broken, _jsonl
from data_tools.sources._broken import Broken
from data_tools.sources._rows import ROW
from data_tools.sources._values import half_a_character, has_surrogate, is_out_of_range, kind, leaves, misfit

# What polars raises of a damaged file: some readers panic, which is no PolarsError.
FAULTS = (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError)
_BOOLEANS = {"true": True, "false": False}
_ARROW = b"ARROW1"  # how a file of Arrow's begins that is no stream
CHUNK = 32 << 20  # bytes of raw text that are worked on at once, by each thread
_HEAD = 1 << 20  # bytes in which a first row is looked for
_ROWS = (256, 65_536)  # and the fewest and most rows
_WINDOW = 4  # chunks that are read at once from a table
_GUARD = "_ line"  # a key that no row has


class RawFile(ABC):
    """A file of rows.

    Args:
        path: the file; what is wrong with it is told when it is read.
        chunk: bytes of raw text in a chunk, about.

    Attributes:
        unit: what a row's number counts.
    """

    unit = "row"

    def __init__(self, path: Path, chunk: int = CHUNK) -> None:
        self.path = path
        self._chunk = chunk

    def _rows(self, size: float | None) -> int:
        """As many rows of so many bytes as a chunk should have."""
        fewest, most = _ROWS
        return min(max(int(self._chunk / max(size or 1, 1)), fewest), most)

    @abstractmethod
    def first(self) -> dict[str, Any]:
        """The first row that can be read. Raises UserError for a file that holds none."""

    @abstractmethod
    def chunks(self, schema: pl.Schema) -> Iterator[tuple[pl.DataFrame, list[Broken]]]:
        """The rows as they stand in the file, with their ``number`` (from 1), and those that could not even be cut out.

        Args:
            schema: the raw columns that will be wanted.
        """

    @abstractmethod
    def decode(self, chunk: pl.DataFrame, schema: pl.Schema) -> pl.DataFrame:
        """``ROW`` and the raw columns of a chunk. Raises a PolarsError where a row does not fit."""

    def suspects(self, chunk: pl.DataFrame, schema: pl.Schema) -> pl.DataFrame:
        """Rows of a chunk that ``decode`` may read as something else than they are."""
        return chunk.clear()

    def explain(self, row: dict[str, Any], schema: pl.Schema) -> Broken | None:
        """Why a row of a chunk cannot be used; None where nothing is wrong with it."""
        return None

    def place(self, number: int) -> str:
        """Where the row of that number stands, in words."""
        return f"{self.unit} {number}"

    def _numbered(
        self, frame: pl.LazyFrame, names: list[str], read: pl.DataFrame
    ) -> Iterator[tuple[pl.DataFrame, list[Broken]]]:
        """Columns of a table as ``=name`` (one of theirs may be called number), with ``number``.

        A window at a time: polars' own batches are read ahead without bound. How many rows a chunk has is known from
        those that were ``read`` before.
        """
        columns = [pl.col(name).alias(f"={name}") for name in names]
        start = 0
        while True:
            rows = self._rows(read.estimated_size() / max(read.height, 1))
            window = frame.slice(start, rows * _WINDOW).with_row_index("number", start + 1)
            read = window.select("number", *columns).collect()
            if read.is_empty():
                return
            yield from ((part, []) for part in read.iter_slices(rows))
            start += read.height

    def _said(self, number: int, value: dict[str, Any], schema: pl.Schema, text: str | None) -> Broken | None:
        """What of a row's values does not fit."""
        place, wanted = self.place(number), [value.get(key) for key in schema]
        if problem := misfit(value, schema):
            return Broken(number, _broken.WRONG_TYPE, f"{place}: {problem}", text)
        if has_surrogate(wanted):
            return Broken(number, _broken.NOT_UTF8, half_a_character(place), text)
        if is_out_of_range(wanted):
            return Broken(number, _broken.NUMBER, f"{place} holds a number out of range; write ids as strings", text)
        return None


class JsonLines(RawFile):
    """JSON Lines, plain, .gz or .zst."""

    unit = "line"

    def first(self) -> dict[str, Any]:
        path = _jsonl.existing(self.path)
        problem = None
        for lines, broken in _jsonl.chunks(path, _HEAD):
            problems = list(broken)
            for number, line in lines.iter_rows():
                row = _jsonl.parse(line, self.place(number))
                if isinstance(row, dict):
                    return row
                problems.append(replace(row, row=number))
            problem = problem or min(problems, key=lambda one: one.row, default=None)
            if problem:  # what stands at the beginning is no row, nor near it
                raise UserError(f"{path}: {problem.detail}")
        raise UserError(f"{path}: the file holds only blank lines; it needs one JSON object a line")

    def chunks(self, schema: pl.Schema) -> Iterator[tuple[pl.DataFrame, list[Broken]]]:
        return _jsonl.chunks(_jsonl.existing(self.path), self._chunk)

    def decode(self, chunk: pl.DataFrame, schema: pl.Schema) -> pl.DataFrame:
        # polars joins the lines to one array. The number that every object is given shows that each line was one
        # object, whatever brackets it holds.
        line = pl.col("line")
        comma = pl.when(line.str.contains(r"^\{\s*\}")).then(pl.lit("")).otherwise(pl.lit(","))
        guarded = pl.concat_str(pl.lit(f'{{"{_GUARD}":'), "number", comma, line.str.slice(1))
        parsed = chunk.select(guarded).to_series().str.json_decode(pl.Struct({_GUARD: pl.UInt32, **schema}))
        found = parsed.struct.unnest()
        if not (chunk["line"].str.starts_with("{").all() and found[_GUARD].equals(chunk["number"])):
            raise pl.exceptions.ComputeError("a line is not one object")
        return found.rename({_GUARD: ROW})

    def suspects(self, chunk: pl.DataFrame, schema: pl.Schema) -> pl.DataFrame:
        """Truth values where texts or numbers belong and half characters, which polars takes without a word.

        Regular expressions over the lines find the candidates (a quote inside a JSON string is escaped, so text does
        not match), the parser decides.
        """
        found = {leaf for key, dtype in schema.items() for leaf in leaves(dtype, key)}
        single = "|".join(sorted(re.escape(name) for name, several in found if not several))
        listed = "|".join(sorted(re.escape(name) for name, several in found if several))
        line = pl.col("line")
        suspect = line.str.contains(rf'"(?:{single})"\s*:\s*[tf]')
        if listed:  # any of its elements may be one: the parser looks at them all
            suspect |= line.str.contains(rf'"(?:{listed})"\s*:\s*[^n\s]')
        escaped = chunk.filter(line.str.contains(r"\\u[dD][89a-fA-F]"))
        whole = r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
        halves = escaped.filter(line.str.replace_all(whole, "").str.contains(r"\\u[dD][89a-fA-F]"))
        return pl.concat([chunk.filter(suspect), halves]).unique("number", maintain_order=True)

    def explain(self, row: dict[str, Any], schema: pl.Schema) -> Broken | None:
        number, line = row["number"], row["line"]
        value = _jsonl.parse(line, self.place(number))
        if isinstance(value, Broken):
            return replace(value, row=number)
        return self._said(number, value, schema, line)


class JsonArray(JsonLines):
    """A JSON array of objects, which is read whole."""

    unit = "row"

    @cached_property
    def rows(self) -> list[dict[str, Any]]:
        rows = _jsonl.parse_array(self.path)
        if not rows:
            raise UserError(f"{self.path}: the array is empty; it needs one JSON object a row")
        return rows

    def first(self) -> dict[str, Any]:
        found = next((row for row in self.rows if isinstance(row, dict)), None)
        if found is None:
            raise UserError(f"{self.path}: row 1 is not a JSON object; the array needs one object a row")
        return found

    def chunks(self, schema: pl.Schema) -> Iterator[tuple[pl.DataFrame, list[Broken]]]:
        step = _ROWS[0]
        for start in range(0, len(self.rows), step):
            numbered = list(enumerate(self.rows[start : start + step], start + 1))
            lines = [(i, json.dumps({key: row.get(key) for key in schema})) for i, row in numbered if type(row) is dict]
            broken = [
                Broken(i, _broken.NOT_OBJECT, f"row {i} is not a JSON object; the array needs one object a row")
                for i, row in numbered
                if type(row) is not dict
            ]
            yield pl.DataFrame(lines, schema={"number": pl.UInt32, "line": pl.String}, orient="row"), broken

    def explain(self, row: dict[str, Any], schema: pl.Schema) -> Broken | None:
        return self._said(row["number"], self.rows[row["number"] - 1], schema, row["line"])


class Columns(RawFile):
    """Files with columns of their own types: Parquet and Arrow. Raw columns are cast, nothing is parsed."""

    @cached_property
    def frame(self) -> pl.LazyFrame:
        _jsonl.existing_file(self.path)
        try:
            with panics.contained():
                frame = self._scanned()
                frame.collect_schema()
        except FAULTS as error:
            raise UserError(f"{self.path}: cannot be read as {self.path.suffix[1:]} ({_reason(error)})") from None
        return frame

    def _scanned(self) -> pl.LazyFrame:
        pattern = glob.escape(str(self.path))  # a path is a pattern to polars
        if self.path.suffix.lower() == ".parquet":
            return pl.scan_parquet(pattern)
        with open(self.path, "rb") as handle:
            whole = handle.read(len(_ARROW)) == _ARROW
        # The datasets library writes .arrow files as streams, which polars reads whole.
        return pl.scan_ipc(pattern) if whole else pl.read_ipc_stream(self.path).lazy()

    def first(self) -> dict[str, Any]:
        head = self._head(1)
        if head.is_empty():
            raise UserError(f"{self.path}: the table has no rows")
        return head.row(0, named=True)

    def _head(self, rows: int) -> pl.DataFrame:
        try:
            with panics.contained():
                return self.frame.head(rows).collect()
        except FAULTS as error:
            raise UserError(f"{self.path}: cannot be read ({_reason(error)})") from None

    def chunks(self, schema: pl.Schema) -> Iterator[tuple[pl.DataFrame, list[Broken]]]:
        found = self.frame.collect_schema()
        for name, dtype in schema.items():
            if name in found and not _castable(found[name], dtype):
                raise UserError(f"{self.path}: column '{name}' should be {kind(dtype)}, found {found[name]}")
        there = [name for name in schema if name in found]
        head = self._head(100).select(there)
        try:
            yield from self._numbered(self.frame, there, head)
        except FAULTS as error:
            raise UserError(f"{self.path}: cannot be read ({_reason(error)}); fetch or write it again") from None

    def decode(self, chunk: pl.DataFrame, schema: pl.Schema) -> pl.DataFrame:
        columns = {name: pl.col(f"={name}") if f"={name}" in chunk.columns else pl.lit(None) for name in schema}
        return chunk.select(
            pl.col("number").cast(pl.UInt32).alias(ROW),
            *(column.cast(schema[name]).alias(name) for name, column in columns.items()),
        )


def _reason(error: Exception) -> str:
    """The first line of what polars says."""
    return str(error).partition("\n")[0]


def _castable(found: pl.DataType, wanted: pl.DataType) -> bool:
    """Whether a cast says the same: an id may be a number, but no list may become a text."""
    if found == pl.Null:
        return True
    if isinstance(wanted, pl.List):
        return isinstance(found, pl.List | pl.Array) and _castable(found.inner, wanted.inner)
    if isinstance(wanted, pl.Struct):
        fields = {field.name: field.dtype for field in found.fields} if isinstance(found, pl.Struct) else {}
        return all(field.name in fields and _castable(fields[field.name], field.dtype) for field in wanted.fields)
    if wanted == pl.String:
        return found.is_numeric() or isinstance(found, pl.String | pl.Categorical | pl.Enum)
    return found.is_numeric() if wanted == pl.Float64 else found == wanted


class Csv(RawFile):
    """CSV with a header. A cell is a text, a number, true or false, or, for a column of turns, their JSON.

    A cell without characters is null.
    """

    @cached_property
    def frame(self) -> pl.LazyFrame:
        _jsonl.existing_file(self.path)
        return pl.scan_csv(glob.escape(str(self.path)), infer_schema=False)

    def _error(self, error: Exception) -> UserError:
        return UserError(f"{self.path}: cannot be read as CSV ({_reason(error)})")

    @cached_property
    def head(self) -> pl.DataFrame:
        try:
            return self.frame.head(100).collect()
        except FAULTS as error:
            raise self._error(error) from None

    def first(self) -> dict[str, Any]:
        if self.head.is_empty():
            raise UserError(f"{self.path}: the table has no rows")
        return {name: _turns_or_text(cell) for name, cell in self.head.row(0, named=True).items()}

    def chunks(self, schema: pl.Schema) -> Iterator[tuple[pl.DataFrame, list[Broken]]]:
        there = [name for name in schema if name in self.head.columns]
        try:
            # Read whole: each slice of a query would parse the file from its beginning.
            whole = self.frame.select(there or self.head.columns[:1]).collect().lazy()
            yield from self._numbered(whole, there, self.head)
        except FAULTS as error:
            raise self._error(error) from None

    def decode(self, chunk: pl.DataFrame, schema: pl.Schema) -> pl.DataFrame:
        def column(name: str, dtype: pl.DataType) -> pl.Expr:
            if f"={name}" not in chunk.columns:
                return pl.lit(None, dtype)
            cell = pl.col(f"={name}")
            if dtype == pl.Boolean:
                return cell.str.to_lowercase().replace_strict(_BOOLEANS, default=None, return_dtype=pl.Boolean)
            return cell.str.json_decode(dtype) if dtype.is_nested() else cell.cast(dtype)

        return chunk.select(
            pl.col("number").cast(pl.UInt32).alias(ROW),
            *(column(name, dtype).alias(name) for name, dtype in schema.items()),
        )

    def suspects(self, chunk: pl.DataFrame, schema: pl.Schema) -> pl.DataFrame:
        parsed = any(dtype != pl.String and f"={name}" in chunk.columns for name, dtype in schema.items())
        return chunk if parsed else chunk.clear()

    def explain(self, row: dict[str, Any], schema: pl.Schema) -> Broken | None:
        parsed = pl.Schema({name: dtype for name, dtype in schema.items() if dtype != pl.String and f"={name}" in row})
        cells = {name: row[f"={name}"] for name in parsed}
        value = {name: _BOOLEANS.get(str(cell).lower(), _jsonl.loads_or_text(cell)) for name, cell in cells.items()}
        return self._said(row["number"], value, parsed, None)


def _turns_or_text(cell: str | None) -> Any:
    """A first row's cell: turns or an object where it is their JSON, else the text as it stands."""
    value = _jsonl.loads_or_text(cell)
    turns = isinstance(value, list) and value and all(isinstance(turn, dict) for turn in value)
    return value if turns or isinstance(value, dict) else cell


_KINDS: dict[str, type[RawFile]] = {
    ".jsonl": JsonLines,
    ".ndjson": JsonLines,
    ".jsonl.gz": JsonLines,
    ".jsonl.zst": JsonLines,
    ".json": JsonLines,  # an array where it begins like one
    ".csv": Csv,
    ".parquet": Columns,
    ".arrow": Columns,
    ".ipc": Columns,
}


def opened(path: str | Path, chunk: int = CHUNK) -> RawFile:
    """The file as what its name says; other names are JSON Lines."""
    path = Path(path)
    ending = next((ending for ending in _KINDS if path.name.lower().endswith(ending)), ".jsonl")
    if ending == ".json" and _jsonl.begins_an_array(path):
        return JsonArray(path, chunk)
    return _KINDS[ending](path, chunk)


def passed_over(path: Path) -> list[str]:
    """Names in a folder that :func:`files` does not take and that are none of ours: subfolders, other endings."""
    if not path.is_dir():
        return []
    taken = set(files(path))
    return sorted(
        one.name for one in path.iterdir()
        if one not in taken and not one.name.startswith(".") and not is_manifest(one)
    )  # fmt: skip


def files(path: str | Path) -> list[Path]:
    """The raw files of a path: the file itself, or those that lie in the folder, by name.

    Manifests are none, nor is LLaMA-Factory's ``dataset_info.json``.

    Raises:
        UserError: nothing of that name, or a folder without such files.
    """
    path = Path(path)
    if not path.is_dir():
        return [_jsonl.existing_file(path)]
    inside = sorted(
        file for file in path.iterdir()
        if file.is_file() and not file.name.startswith(".") and file.name.lower().endswith(tuple(_KINDS))
        and not is_manifest(file) and file.name != "dataset_info.json"
    )  # fmt: skip
    if not inside:
        raise UserError(f"{path}: the folder holds no raw files; they end in {', '.join(_KINDS)}")
    return inside
