"""What every kind of raw file gives: a first row, rows in chunks, the raw columns of a chunk, and what is wrong."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl

from data_tools.sources import _broken
from data_tools.sources._broken import Broken
from data_tools.sources._values import half_a_character, has_surrogate, is_out_of_range, misfit

CHUNK = 32 << 20  # bytes of raw text that are worked on at once, by each thread
LONGEST = 256 << 20  # bytes of a row
_ROWS = (256, 65_536)  # the fewest and most rows of a chunk


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


def reason(error: Exception) -> str:
    """The first line of what polars says."""
    return str(error).partition("\n")[0]
