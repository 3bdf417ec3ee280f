"""Pairs of a file that are asked for, in the order asked for; nothing else of the file is materialised."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from data_tools import sources
from data_tools.errors import UserError
from data_tools.schema import PREFERENCE, check

COLUMNS = ("pair_id", "group_id", "source", "category", "subset", "split", "label_kind")  # that `where` may name
SORTS = ("margin", "length", "length_difference", "random")
BLOCK = 16  # rows that are read at once
_POSITION = "_position"


@dataclass(frozen=True)
class Opened:
    """A file of pairs.

    Attributes:
        frame: a query of PREFERENCE; comparisons that are no pair (ties) are left out.
        raw: its files that are of a format of ``data_tools.sources``: there, reading a row means reading those before.
    """

    path: Path
    frame: pl.LazyFrame
    raw: tuple[Path, ...]

    @contextmanager
    def told(self) -> Iterator[None]:
        """What goes wrong in a query of ``frame``, as one line; of a raw file, with the line that is to blame."""
        try:
            yield
        except (pl.exceptions.PolarsError, OSError) as error:
            for file in self.raw:
                sources.read(file)
            raise UserError(f"{self.path}: cannot be read ({str(error).splitlines()[0]})") from None


def opened(path: str | Path) -> Opened:
    """PREFERENCE parquet or a raw file, or a folder of such files. Only the beginning is read, but for raw files with
    margins of any scale: as ingest would, those of one path are divided by the largest.

    Raises:
        UserError: no such file, or one that is neither.
    """
    path = Path(path)
    each = {file: _scanned(file) for file in sources.files(path)}
    raw = tuple(file for file, (_, raw) in each.items() if raw)
    largest = max((sources.largest_margin(file) for file in raw), default=1.0)
    frames = [sources.scaled(frame, largest) if raw and largest > 1 else frame for frame, raw in each.values()]
    return Opened(path, pl.concat(frames), raw)


def _scanned(file: Path) -> tuple[pl.LazyFrame, bool]:
    if file.suffix == ".parquet":
        try:
            table = pl.scan_parquet(file, glob=False, hive_partitioning=False)
            found = table.collect_schema()
        except (pl.exceptions.PolarsError, OSError) as error:
            raise UserError(f"{file}: not a readable parquet file ({str(error).splitlines()[0]})") from None
        if "pair_id" in found:  # no raw format has it: a table of this project, of this kind or of another
            return check(table, PREFERENCE, file), False
    return sources.scan(file), True


@dataclass(frozen=True)
class Choice:
    """Which pairs, in which order.

    Attributes:
        pair_id: the only one wanted.
        among: the ids that may be shown.
        where: column -> values, one of which a row must have; an empty one stands for null.
        search: what prompt or responses must contain, letter case aside.
        sort: of SORTS, the largest first. ``margin``: unknown ones last; ``length``: characters of prompt and longer
            response; ``length_difference``: of chosen minus rejected; ``random``: drawn from ``seed``.
        reverse: the other way round.
    """

    pair_id: str | None = None
    among: pl.Series | None = None
    where: Mapping[str, Sequence[str]] = field(default_factory=dict)
    search: str | None = None
    sort: str | None = None
    reverse: bool = False
    seed: int = 0

    def conditions(self) -> list[pl.Expr]:
        """Of a row that is chosen."""
        found = [] if self.pair_id is None else [pl.col("pair_id") == self.pair_id]
        if self.among is not None:
            found.append(pl.col("pair_id").is_in(self.among.implode()))
        for column, values in self.where.items():
            known = [value for value in values if value]
            found.append(pl.col(column).is_in(known) | (pl.col(column).is_null() & pl.lit("" in values)))
        return found if self.search is None else [*found, contains(self.search)]


def contains(text: str) -> pl.Expr:
    """Whether a turn of the prompt or a response contains the text, letter case aside."""
    pattern = "(?i)" + pl.escape_regex(text)
    turns = pl.col("prompt").list.eval(pl.element().struct.field("content").str.contains(pattern)).list.any()
    return pl.any_horizontal(turns, *(pl.col(side).str.contains(pattern) for side in ("chosen", "rejected")))


def length(column: str) -> pl.Expr:
    """Characters of a response; of ``prompt``, all turns together."""
    if column == "prompt":
        return (
            pl.col("prompt").list.eval(pl.element().struct.field("content").str.len_chars()).list.sum().cast(pl.Int64)
        )
    return pl.col(column).str.len_chars().cast(pl.Int64)


class Pairs:
    """The chosen rows of a file, numbered from 0, read in blocks.

    Attributes:
        total: how many there are; None where a raw file would have to be read to its end for it.

    Args:
        number: no more than these.

    Raises:
        UserError: no row is as asked for.
    """

    def __init__(self, source: Opened, choice: Choice, number: int | None = None) -> None:
        self.source, self.choice, self.number = source, choice, number
        self._conditions = choice.conditions()
        self._positions = self._ordered() if self._conditions or choice.sort or choice.reverse else None
        self._blocks: dict[int, list[dict[str, Any]]] = {}
        self._found: tuple[str, pl.Series] | None = None
        self.total = self._count()
        if self.total == 0 or (self.total is None and self.get(0) is None):
            raise UserError(self._nothing())

    def get(self, i: int) -> dict[str, Any] | None:
        """The row of that number as a mapping of PREFERENCE; None where there are not so many."""
        if i < 0 or (self.number is not None and i >= self.number):
            return None
        block = i // BLOCK
        if block not in self._blocks:
            if len(self._blocks) >= 8:
                self._blocks.pop(next(iter(self._blocks)))
            self._blocks[block] = self._read(block * BLOCK, BLOCK).rows(named=True)
        rows = self._blocks[block]
        return rows[i % BLOCK] if i % BLOCK < len(rows) else None

    def head(self, n: int) -> pl.DataFrame:
        """The first of them."""
        return self._read(0, n if self.number is None else min(n, self.number))

    def chosen(self) -> pl.LazyFrame:
        """All rows that fit, whatever their order and number."""
        return self.source.frame.filter(self._conditions) if self._conditions else self.source.frame

    def find(self, text: str, after: int) -> int | None:
        """The number of the next row behind ``after`` that contains the text; None where there is none."""
        if self._found is None or self._found[0] != text:
            hits = self._query(self._numbered().filter(contains(text)).select(_POSITION))[_POSITION]
            if self._positions is not None:
                hits = self._positions.is_in(hits.implode()).arg_true()
            self._found = text, hits.cast(pl.Int64).sort()
        behind = self._found[1].filter(self._found[1] > after)
        if behind.is_empty() or (self.number is not None and behind[0] >= self.number):
            return None
        return int(behind[0])

    def _numbered(self) -> pl.LazyFrame:
        return self.source.frame.with_row_index(_POSITION)

    def _ordered(self) -> pl.Series:
        """The positions in the file of all that fit, in their order."""
        sort, found = self.choice.sort, self._numbered()
        if self._conditions:
            found = found.filter(self._conditions)
        if sort in (None, "random"):
            positions = self._query(found.select(_POSITION))[_POSITION].sort()
            positions = positions.shuffle(seed=self.choice.seed) if sort else positions
            return positions.reverse() if self.choice.reverse else positions
        key = {
            "margin": pl.col("margin"),
            "length": length("prompt") + pl.max_horizontal(length("chosen"), length("rejected")),
            "length_difference": length("chosen") - length("rejected"),
        }[sort]
        keyed = self._query(found.select(_POSITION, _key=key))
        descending = [not self.choice.reverse, False]
        return keyed.sort("_key", _POSITION, descending=descending, nulls_last=True)[_POSITION]

    def _count(self) -> int | None:
        if self._positions is not None:
            total = self._positions.len()
        elif self.source.raw:
            return None
        else:
            total = self._query(self.source.frame.select(pl.len())).item()
        return total if self.number is None else min(total, self.number)

    def _read(self, start: int, n: int) -> pl.DataFrame:
        if self._positions is None:
            return self._query(self.source.frame.slice(start, n))
        wanted = self._positions.slice(start, n)
        if self.source.raw:  # one way through the file, not one a row
            rows = self._query(self._numbered().filter(pl.col(_POSITION).is_in(wanted.implode())))
            return wanted.to_frame().join(rows, on=_POSITION, how="left", maintain_order="left").drop(_POSITION)
        if wanted.is_empty():
            return PREFERENCE.to_frame()
        with self.source.told():  # of parquet, polars reads no more than the pages that hold the row
            return pl.concat(pl.collect_all([self.source.frame.slice(at, 1) for at in wanted]))

    def _query(self, query: pl.LazyFrame) -> pl.DataFrame:
        with self.source.told():
            return query.collect(engine="streaming")

    def _nothing(self) -> str:
        path, choice = self.source.path, self.choice
        if choice.pair_id is not None:
            return f"{path}: no pair has the id '{choice.pair_id}'" + (
                " and what else is asked" if choice.where else ""
            )
        for column, values in choice.where.items():
            there = self._query(self.source.frame.select(pl.col(column).unique()))[column].sort()
            if not any(value in there if value else there.has_nulls() for value in values):
                named = [value for value in there if value is not None][:10]
                more = ", …" if there.len() > 10 else ""
                return f"{path}: no pair has {column}={', '.join(values)}; there are: {', '.join(named)}{more}"
        if choice.search is not None:
            return f"{path}: no pair that is asked for contains '{choice.search}'"
        if choice.among is not None:
            return f"{path}: no pair that is asked for has a judgment; name the table that was judged"
        return f"{path}: holds no pair" + (" with all of what is asked" if choice.where else "")
