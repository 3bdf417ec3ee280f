"""Files with columns of their own types: Parquet and Arrow. Raw columns are cast, nothing is parsed."""

from __future__ import annotations

import glob
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl

from data_tools import panics
from data_tools.errors import UserError
from data_tools.sources import _arrow_stream, _jsonl
from data_tools.sources._broken import Broken
from data_tools.sources._raw import RawFile, reason
from data_tools.sources._rows import ROW
from data_tools.sources._values import kind

# What polars raises of a damaged file: some readers panic, which is no PolarsError.
FAULTS = (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError)
_ARROW = b"ARROW1"  # how a file of Arrow's begins that is no stream
_WINDOW = 4  # chunks that are read at once from a table


def of_columns(path: Path, chunk: int) -> RawFile:
    """A file of Parquet or Arrow; the datasets library writes .arrow files as streams."""
    if path.suffix.lower() != ".parquet" and path.is_file():
        with open(path, "rb") as handle:
            if handle.read(len(_ARROW)) != _ARROW:
                return ArrowStream(path, chunk)
    return Columns(path, chunk)


class Columns(RawFile):
    """Parquet, or Arrow's file format."""

    @cached_property
    def schema(self) -> pl.Schema:
        """The file's own columns. Raises UserError."""
        _jsonl.existing_file(self.path)
        try:
            with panics.contained():
                return self._schema()
        except FAULTS as error:
            raise UserError(f"{self.path}: cannot be read as {self.path.suffix[1:]} ({reason(error)})") from None

    def _schema(self) -> pl.Schema:
        return self._frame.collect_schema()

    @cached_property
    def _frame(self) -> pl.LazyFrame:
        pattern = glob.escape(str(self.path))  # a path is a pattern to polars
        return pl.scan_parquet(pattern) if self.path.suffix.lower() == ".parquet" else pl.scan_ipc(pattern)

    def _head(self, rows: int) -> pl.DataFrame:
        return self._frame.head(rows).collect()

    def _windows(self, names: list[str]) -> Iterator[pl.DataFrame]:
        """Some chunks of these columns at a time: polars' own batches are read ahead without bound."""
        read, start = self._head(100).select(names), 0
        while True:
            rows = self._rows(read.estimated_size() / max(read.height, 1)) * _WINDOW
            with panics.contained():
                # With a column of its own: without any, the number of rows would be lost.
                read = self._frame.slice(start, rows).select(pl.lit(0).alias(""), *names).collect()
            if read.is_empty():
                return
            yield read.drop("")
            start += read.height

    def first(self) -> dict[str, Any]:
        _ = self.schema
        try:
            with panics.contained():
                head = self._head(1)
        except FAULTS as error:
            raise UserError(f"{self.path}: cannot be read ({reason(error)})") from None
        if head.is_empty():
            raise UserError(f"{self.path}: the table has no rows")
        return head.row(0, named=True)

    def chunks(self, schema: pl.Schema) -> Iterator[tuple[pl.DataFrame, list[Broken]]]:
        for name, dtype in schema.items():
            if name in self.schema and not _castable(self.schema[name], dtype):
                raise UserError(f"{self.path}: column '{name}' should be {kind(dtype)}, found {self.schema[name]}")
        # Columns as ``=name``, since one of theirs may be called number.
        names = {name: f"={name}" for name in schema if name in self.schema}
        before = 0
        try:
            for window in self._windows(list(names)):
                numbered = window.rename(names).with_row_index("number", before + 1)
                before += window.height
                rows = self._rows(window.estimated_size() / window.height)
                yield from ((part, []) for part in numbered.iter_slices(rows))
        except FAULTS as error:
            raise UserError(f"{self.path}: cannot be read ({reason(error)}); fetch or write it again") from None

    def decode(self, chunk: pl.DataFrame, schema: pl.Schema) -> pl.DataFrame:
        columns = {name: pl.col(f"={name}") if f"={name}" in chunk.columns else pl.lit(None) for name in schema}
        return chunk.select(
            pl.col("number").cast(pl.UInt32).alias(ROW),
            *(column.cast(schema[name]).alias(name) for name, column in columns.items()),
        )


class ArrowStream(Columns):
    """Arrow's stream format, some record batches at a time."""

    def _schema(self) -> pl.Schema:
        return next(_arrow_stream.tables(self.path, 0)).schema

    def _head(self, rows: int) -> pl.DataFrame:
        head = None
        for table in _arrow_stream.tables(self.path, 1):
            head = table.head(rows)
            if not head.is_empty():
                break
        return head

    def _windows(self, names: list[str]) -> Iterator[pl.DataFrame]:
        tables = _arrow_stream.tables(self.path, self._chunk)
        while True:
            with panics.contained():
                table = next(tables, None)
            if table is None:
                return
            if not table.is_empty():
                yield table.select(names)


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
