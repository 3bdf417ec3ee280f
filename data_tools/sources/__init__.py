"""Raw preference files: one small module per format, found by its presence in this folder.

A format is a module with

    KEYS          the keys that every row of the format has
    fits(first)   optional: whether the shapes of a first row that has them are the format's
    schema(first) the raw columns as a polars schema of String, Float64, Boolean, and lists and structs of these, given
                  the first row
    pairs(rows)   a query of PREFERENCE (schema.py) over the raw columns (_rows.py), as far as the format knows it; a
                  value that cannot be made is null. It keeps ROW, and says in LEFT_OUT why a comparison is no pair
    REMEDY        optional: {PREFERENCE column: what to say where it is null, or a margin out of range}
    together(rows)  optional: a query of ROW and ``_key``, where rows that stand apart make a pair: those with an equal
                  key come in one chunk
    ANY_SCALE     optional: True where margins may be above 1: those of a file or folder are divided by the largest
    NEEDS         optional: KEYS in words, where they do not say all

Nothing else has to be touched to add one. A first row that fits several is of the one whose keys include the others'.
A file is read in chunks (:class:`Reading`); ``load`` reads it whole, and refuses one with a broken row.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import polars as pl
from polars.io.plugins import register_io_source

from data_tools.errors import UserError
from data_tools.schema import PREFERENCE, check
from data_tools.sources._files import files as files
from data_tools.sources._files import passed_over as passed_over
from data_tools.sources._reading import Batch as Batch
from data_tools.sources._reading import Reading as Reading
from data_tools.sources._recognition import format_of as format_of
from data_tools.sources._recognition import formats as formats
from data_tools.sources._rows import MOST_PAIRS

Table = TypeVar("Table", pl.DataFrame, pl.LazyFrame)


@dataclass(frozen=True)
class Loaded:
    """A raw file as a table.

    Attributes:
        frame: PREFERENCE, rows in the file's order, checked.
        format: the format's name.
        left_out: reason -> comparisons that are no pair (a tie, say), where there are any.
    """

    frame: pl.DataFrame
    format: str
    left_out: dict[str, int]


def scan(path: str | Path, format: str = "auto") -> pl.LazyFrame:
    """A query of PREFERENCE over one raw file, which is read as far as the query needs it.

    Margins of a format that has them of any scale stay as they are. A broken row makes the query fail; which one it
    is, :func:`read` says.

    Raises:
        UserError: as :func:`format_of`.
    """
    reading = Reading(path, format, chunk=1 << 20)

    def rows(
        columns: list[str] | None, predicate: pl.Expr | None, n_rows: int | None, batch_size: int | None
    ) -> Iterator[pl.DataFrame]:
        left = n_rows
        for chunk in reading.chunks():
            batch = reading.batch(chunk, useless=False)
            if batch.broken:
                raise pl.exceptions.ComputeError(batch.broken[0].detail)
            frame = batch.frame if left is None else batch.frame.head(left)
            left = None if left is None else left - frame.height
            if predicate is not None:
                frame = frame.filter(predicate)
            yield frame.select(columns) if columns else frame  # without any column the height would be lost
            if left == 0:
                return

    return register_io_source(rows, schema=PREFERENCE)


def largest_margin(path: str | Path, format: str = "auto") -> float:
    """What the margins of a raw file are to be divided by (:func:`scaled`), of a format that has them of any scale;
    1 at least. A file whose first rows have none is read no further.

    Raises:
        UserError: as :func:`format_of`.
    """
    reading = Reading(path, format, chunk=1 << 20)
    largest = 0.0
    if reading.scaled:
        for chunk in reading.chunks():
            largest = max(largest, reading.batch(chunk, useless=False).largest)
            if not largest:
                break
    return max(largest, 1.0)


def scaled(frame: Table, largest: float) -> Table:
    """With the margins, whose largest is given, in (0, 1]."""
    return frame.with_columns(pl.col("margin") / max(largest, 1.0))


def read(path: str | Path, format: str = "auto") -> pl.DataFrame:
    """The table of :func:`load`."""
    return load(path, format).frame


def load(
    path: str | Path,
    format: str = "auto",
    keys: Mapping[str, str] | None = None,
    most_pairs: int | None = MOST_PAIRS,
) -> Loaded:
    """A raw file, or a folder of raw files of one format, as a checked PREFERENCE table, in memory.

    Args:
        keys: the columns' names under OpenRLHF, for ``prompt``, ``chosen`` and ``rejected`` or some of them.
        most_pairs: as of :class:`Reading`; None: all.

    Raises:
        UserError: a missing or empty file, a broken row, a folder of several formats; one line that names the file and
            the line.
    """
    most = sys.maxsize if most_pairs is None else most_pairs
    readings = {file.name: Reading(file, format, keys, most_pairs=most) for file in files(path)}
    one_format(path, {name: reading.format for name, reading in readings.items()})
    frames, largest, left_out = [], 0.0, Counter()
    for reading in readings.values():
        for chunk in reading.chunks():
            batch = reading.batch(chunk, useless=False)
            if batch.broken:
                raise UserError(f"{reading.file.path}: {batch.broken[0].detail}")
            frames.append(batch.frame)
            left_out.update(batch.left_out)
            largest = max(largest, batch.largest)
    reading = next(iter(readings.values()))
    frame = scaled(pl.concat(frames), largest) if reading.scaled else pl.concat(frames)
    return Loaded(check(frame, PREFERENCE, path), reading.format, dict(left_out))


def one_format(folder: str | Path, formats: Mapping[str, str]) -> None:
    """Raises UserError where the files of a folder (name -> format) are of several formats."""
    example = {format: file for file, format in formats.items()}
    if len(example) > 1:
        found = ", ".join(f"{name} ({file})" for name, file in example.items())
        raise UserError(f"{folder}: the folder holds files of several formats: {found}; ingest them apart")
