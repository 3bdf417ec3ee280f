"""Kinds of raw files. Each gives the first row, a query of the raw columns, and the place of what is wrong."""

from __future__ import annotations

import glob
import math
from abc import ABC, abstractmethod
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl

from data_tools.errors import UserError
from data_tools.sources import _jsonl
from data_tools.sources._jsonl import kind
from data_tools.sources._rows import ROW

_BOOLEANS = {"true": True, "false": False}
_ARROW = b"ARROW1"  # how a file of Arrow's begins that is no stream


class RawFile(ABC):
    """A file of rows.

    Args:
        path: the file; what is wrong with it is told when it is read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @abstractmethod
    def first(self) -> dict[str, Any]:
        """The first row. Raises UserError for a file that holds none, or cannot be read so far."""

    @abstractmethod
    def scan(self, schema: pl.Schema) -> pl.LazyFrame:
        """A query of ``ROW`` and the raw columns. Raises UserError for a file that cannot be scanned."""

    @abstractmethod
    def broken(self, schema: pl.Schema) -> UserError | None:
        """The first row for which the query fails, where one is to blame."""

    @abstractmethod
    def altered(self, schema: pl.Schema) -> UserError | None:
        """The first row that the query reads as something else than it is."""

    def place(self, row: int) -> str:
        """Where the row of that index (from 0) stands, in words."""
        return f"row {row + 1}"


class JsonLines(RawFile):
    """JSON Lines, plain, .gz or .zst."""

    def first(self) -> dict[str, Any]:
        return _jsonl.first_row(self.path)

    def scan(self, schema: pl.Schema) -> pl.LazyFrame:
        return _jsonl.scan(self.path, schema)

    def broken(self, schema: pl.Schema) -> UserError | None:
        return _jsonl.find_broken(self.path, schema)

    def altered(self, schema: pl.Schema) -> UserError | None:
        return _jsonl.find_stringified(self.path, schema) or _jsonl.find_surrogate(self.path, schema)

    def place(self, row: int) -> str:
        return f"line {_jsonl.line_number(self.path, row)}"


class JsonArray(RawFile):
    """A JSON array of objects, which is read whole."""

    @cached_property
    def rows(self) -> list[dict[str, Any]]:
        rows = _jsonl.parse_array(self.path)
        if not rows:
            raise UserError(f"{self.path}: the array is empty; it needs one JSON object a row")
        for i, row in enumerate(rows):
            if not isinstance(row, dict):
                raise UserError(f"{self.path}: {self.place(i)} is not a JSON object; the array needs one object a row")
        return rows

    def first(self) -> dict[str, Any]:
        return self.rows[0]

    def scan(self, schema: pl.Schema) -> pl.LazyFrame:
        return _jsonl.scan_rows([{key: row.get(key) for key in schema} for row in self.rows], schema)

    def broken(self, schema: pl.Schema) -> UserError | None:
        for i, row in enumerate(self.rows):
            if problem := _jsonl.misfit(row, schema):
                return UserError(f"{self.path}: {self.place(i)}: {problem}")
            if _jsonl.has_surrogate([row.get(key) for key in schema]):
                return _jsonl.half_a_character(self.path, self.place(i))
            if any(_is_out_of_range(row.get(key)) for key in schema):
                return UserError(f"{self.path}: {self.place(i)} holds a number out of range; write ids as strings")
        return None

    altered = broken


def _is_out_of_range(value: Any) -> bool:
    try:
        return isinstance(value, int | float) and math.isinf(value)
    except OverflowError:  # an integer that no float can hold
        return True


class Columns(RawFile):
    """Files with columns of their own types: Parquet and Arrow. Raw columns are cast, nothing is parsed."""

    @cached_property
    def frame(self) -> pl.LazyFrame:
        _jsonl.existing_file(self.path)
        try:
            frame = self._scanned()
            frame.collect_schema()
        except (pl.exceptions.PolarsError, OSError) as error:
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
        try:
            head = self.frame.head(1).collect()
        except (pl.exceptions.PolarsError, OSError) as error:
            raise UserError(f"{self.path}: cannot be read ({_reason(error)})") from None
        if head.is_empty():
            raise UserError(f"{self.path}: the table has no rows")
        return head.row(0, named=True)

    def scan(self, schema: pl.Schema) -> pl.LazyFrame:
        found = self.frame.collect_schema()
        for name, dtype in schema.items():
            if name in found and not _castable(found[name], dtype):
                raise UserError(f"{self.path}: column '{name}' should be {kind(dtype)}, found {found[name]}")
        columns = {name: pl.col(name) if name in found else pl.lit(None) for name in schema}
        cast = (column.cast(schema[name]).alias(name) for name, column in columns.items())
        return self.frame.with_row_index(ROW).select(ROW, *cast)

    def broken(self, schema: pl.Schema) -> UserError | None:
        return None

    def altered(self, schema: pl.Schema) -> UserError | None:
        return None


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
    def frame(self) -> pl.DataFrame:
        _jsonl.existing_file(self.path)
        try:
            frame = pl.read_csv(self.path, infer_schema=False, glob=False)
        except (pl.exceptions.PolarsError, OSError) as error:
            raise UserError(f"{self.path}: cannot be read as CSV ({_reason(error)})") from None
        if frame.is_empty():
            raise UserError(f"{self.path}: the table has no rows")
        return frame

    def first(self) -> dict[str, Any]:
        return {name: _turns_or_text(cell) for name, cell in self.frame.row(0, named=True).items()}

    def scan(self, schema: pl.Schema) -> pl.LazyFrame:
        def column(name: str, dtype: pl.DataType) -> pl.Expr:
            if name not in self.frame.columns:
                return pl.lit(None, dtype)
            if dtype == pl.Boolean:
                return pl.col(name).str.to_lowercase().replace_strict(_BOOLEANS, default=None)
            return pl.col(name).str.json_decode(dtype) if dtype.is_nested() else pl.col(name).cast(dtype)

        return self.frame.lazy().with_row_index(ROW).select(
            ROW, *(column(name, dtype).alias(name) for name, dtype in schema.items())
        )  # fmt: skip

    def broken(self, schema: pl.Schema) -> UserError | None:
        parsed = {name: dtype for name, dtype in schema.items() if dtype != pl.String and name in self.frame.columns}
        if not parsed:
            return None
        for i, cells in enumerate(self.frame.select(list(parsed)).iter_rows(named=True)):
            row = {name: _BOOLEANS.get(str(cell).lower(), _jsonl.loads_or_text(cell)) for name, cell in cells.items()}
            if problem := _jsonl.misfit(row, pl.Schema(parsed)):
                return UserError(f"{self.path}: {self.place(i)}: {problem}")
            if _jsonl.has_surrogate(list(row.values())):
                return _jsonl.half_a_character(self.path, self.place(i))
        return None

    altered = broken


def _turns_or_text(cell: str | None) -> Any:
    """A first row's cell: turns or an object where it is their JSON, else the text as it stands."""
    value = _jsonl.loads_or_text(cell)
    turns = isinstance(value, list) and value and all(isinstance(turn, dict) for turn in value)
    return value if turns or isinstance(value, dict) else cell


_KINDS: dict[str, type[RawFile]] = {
    ".jsonl": JsonLines,
    ".jsonl.gz": JsonLines,
    ".jsonl.zst": JsonLines,
    ".json": JsonLines,  # an array where it begins like one
    ".csv": Csv,
    ".parquet": Columns,
    ".arrow": Columns,
    ".ipc": Columns,
}


def opened(path: str | Path) -> RawFile:
    """The file as what its name says; other names are JSON Lines."""
    path = Path(path)
    ending = next((ending for ending in _KINDS if path.name.lower().endswith(ending)), ".jsonl")
    if ending == ".json" and _jsonl.begins_an_array(path):
        return JsonArray(path)
    return _KINDS[ending](path)


def files(path: str | Path) -> list[Path]:
    """The raw files of a path: the file itself, or those that lie in the folder, by name.

    Raises:
        UserError: nothing of that name, or a folder without such files.
    """
    path = Path(path)
    if not path.is_dir():
        return [_jsonl.existing_file(path)]
    inside = sorted(
        file for file in path.iterdir()
        if file.is_file() and not file.name.startswith(".") and file.name.lower().endswith(tuple(_KINDS))
    )  # fmt: skip
    if not inside:
        raise UserError(f"{path}: the folder holds no raw files; they end in {', '.join(_KINDS)}")
    return inside
