"""CSV with a header, record by record: what is no record of the header's width is told with its line."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from functools import cached_property
from typing import Any, TextIO

import polars as pl

from data_tools.errors import UserError
from data_tools.sources import _broken, _jsonl, _unpacking
from data_tools.sources._broken import Broken
from data_tools.sources._raw import LONGEST, RawFile
from data_tools.sources._rows import ROW

_BOOLEANS = {"true": True, "false": False}
_Record = tuple[int, list[str]]  # its first line, its cells


class Csv(RawFile):
    """A cell is a text, a number, true or false, or, for a column of turns, their JSON; one without characters is null.

    Cells are quoted as in RFC 4180: a quote at the beginning of one opens it, two quotes within stand for one, and
    line ends within belong to it. A row is called by the line that it begins in.
    """

    unit = "line"

    @cached_property
    def header(self) -> list[str]:
        """The names of the columns. Raises UserError."""
        _jsonl.existing_file(self.path)
        with self._opened() as handle:
            found = next((record for record in self._records(handle) if isinstance(record, Broken) or record[1]), None)
        if isinstance(found, Broken):
            raise UserError(f"{self.path}: cannot be read as CSV ({found.detail})")
        if found is None:
            raise UserError(f"{self.path}: cannot be read as CSV (the file is empty; it needs a line of column names)")
        return found[1]

    def _opened(self) -> TextIO:
        # Bytes that are no UTF-8 become half characters, so that the row that has them can be told.
        handle = _unpacking.unpacked(self.path)
        return io.TextIOWrapper(handle, "utf-8-sig", errors="surrogateescape", newline="\n")

    def _records(self, handle: TextIO) -> Iterator[_Record | Broken]:
        """Every record and what is none; of a blank line no cells."""
        csv.field_size_limit(LONGEST)
        reader = csv.reader(handle, strict=True)
        while True:
            line = reader.line_num + 1
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                if "end of data" in str(error):
                    raise UserError(
                        f"{self.path}: the quote that opens a cell in line {line} is never closed; close it, or "
                        "write two for one in a text"
                    ) from None
                last = reader.line_num
                lines = f"line {line}" if last == line else f"lines {line} to {last}"
                yield Broken(line, _broken.NOT_CSV, f"{lines}: no row of CSV ({error})")
            except _unpacking.DAMAGE as error:
                raise _unpacking.damaged(self.path, error) from None
            else:
                yield line, cells if len(cells) > 1 or "".join(cells).strip() else []

    def _rows_of(self, handle: TextIO) -> Iterator[_Record | Broken]:
        """The records behind the header that are not blank; of another width they are broken."""
        width = len(self.header)
        records = self._records(handle)
        next((record for record in records if record[1]), None)  # the header
        for record in records:
            if isinstance(record, Broken) or len(record[1]) == width:
                yield record
            elif record[1]:
                line, cells = record
                said = f"line {line} has {len(cells):,} cells, the header {width:,}; quote cells that hold commas"
                yield Broken(line, _broken.WIDTH, said, _plain(",".join(cells)))

    def first(self) -> dict[str, Any]:
        names, told = self.header, None
        with self._opened() as handle:
            for record in self._rows_of(handle):
                if not isinstance(record, Broken):
                    return {name: _turns_or_text(cell or None) for name, cell in zip(names, record[1], strict=True)}
                told = told or record
        raise UserError(f"{self.path}: {told.detail if told else 'the table has no rows'}")

    def chunks(self, schema: pl.Schema) -> Iterator[tuple[pl.DataFrame, list[Broken]]]:
        for name in schema:
            if self.header.count(name) > 1:
                raise UserError(f"{self.path}: has several columns '{name}'; leave one")
        wanted = [name for name in schema if name in self.header]
        places = [self.header.index(name) for name in wanted]
        rows: list[_Record] = []
        broken: list[Broken] = []
        held = 0
        with self._opened() as handle:
            for record in self._rows_of(handle):
                if isinstance(record, Broken):
                    broken.append(record)
                    held += len(record.text or "")
                else:
                    rows.append(record)
                    held += sum(map(len, record[1]))
                if held >= self._chunk or len(rows) + len(broken) >= self._rows(1):
                    yield self._framed(rows, wanted, places, broken), broken
                    rows, broken, held = [], [], 0
        if rows or broken:
            yield self._framed(rows, wanted, places, broken), broken

    def _framed(self, rows: list[_Record], names: list[str], places: list[int], broken: list[Broken]) -> pl.DataFrame:
        """The columns as ``=name`` (one of theirs may be called number); rows that are no UTF-8 go to ``broken``."""

        def frame() -> pl.DataFrame:
            columns = {
                f"={name}": [cells[place] or None for _, cells in rows]
                for name, place in zip(names, places, strict=True)
            }
            types = {"number": pl.UInt32, **dict.fromkeys(columns, pl.String)}
            return pl.DataFrame({"number": [line for line, _ in rows], **columns}, schema=types)

        try:
            return frame()
        except UnicodeEncodeError:
            bad = [(line, cells) for line, cells in rows if _plain(text := ",".join(cells)) != text]
            for line, cells in bad:
                said = f"line {line} is not UTF-8; save the file as UTF-8"
                broken.append(Broken(line, _broken.NOT_UTF8, said, _plain(",".join(cells))))
            gone = {line for line, _ in bad}
            rows = [row for row in rows if row[0] not in gone]
            return frame()

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


def _plain(text: str) -> str:
    """With marks in the place of bytes that were no UTF-8."""
    return text.encode("utf-8", "replace").decode()


def _turns_or_text(cell: str | None) -> Any:
    """A first row's cell: turns or an object where it is their JSON, else the text as it stands."""
    value = _jsonl.loads_or_text(cell)
    turns = isinstance(value, list) and value and all(isinstance(turn, dict) for turn in value)
    return value if turns or isinstance(value, dict) else cell
