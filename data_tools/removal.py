"""Rows that are taken out of a table, and why: what the finders of bad rows return, and the report of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import polars as pl

from data_tools import artifact, passes
from data_tools.errors import UserError

# One row a removed row. A finder gives the columns that it knows, and `_row`, the row's place in the table.
REPORT = pl.Schema(
    {
        "pair_id": pl.String,
        "reason": pl.String,
        "file": pl.String,  # contamination: the evaluation set's file
        "match": pl.String,  # the pair id of the row that it matches: the evaluation's, or the one that stays
        "score": pl.Float64,  # contamination: share of the evaluation prompt's words; near duplicates: Jaccard; tokens
        "words": pl.String,  # contamination: the longest run of shared words; languages: the language found
    }
)
WINDOW = 2_000_000  # each is a way of its own through the table: the fewer the better
SUFFIXES = (".parquet", ".jsonl")
CONTAMINATED = "overlaps an evaluation prompt"


def numbered(table: pl.LazyFrame) -> pl.LazyFrame:
    """With ``_row``, UInt32: the row's place in the table, from 0, by which finders name rows."""
    return table.with_row_index("_row")


def batches(table: pl.LazyFrame, rows: int) -> Iterator[pl.DataFrame]:
    """A table with ``_row``, ``rows`` at a time and in order; at most WINDOW rows wait in memory.

    polars reads on while a batch is worked on, and holds all that it has read: of a whole table, all of it.
    """
    last = table.select(pl.col("_row").max()).collect(engine="streaming").item()
    for start in range(0, 0 if last is None else last + 1, WINDOW):
        window = table.filter(pl.col("_row").is_between(start, start + WINDOW - 1))
        yield from window.collect_batches(chunk_size=rows, engine="streaming")


class Left:
    """What is left of a table while finders take rows out: a mark a row, the table itself stays where it is.

    Attributes:
        read: rows of the table.
        counts: reason -> rows that went for it.
    """

    def __init__(self, table: pl.LazyFrame) -> None:
        self._table = table
        self.read: int = table.select(pl.len()).collect(engine="streaming").item()
        self._stays = pl.repeat(True, self.read, eager=True).alias("_stays")
        self.counts: dict[str, int] = {}
        self._reports = [pl.DataFrame(schema=REPORT)]

    @property
    def height(self) -> int:
        """Rows that are left."""
        return int(self._stays.sum())

    def rows(self) -> pl.LazyFrame:
        """The rows that are left, numbered by their place in the whole table."""
        table = numbered(self._table)
        if self.height == self.read:
            return table
        marked = pl.concat([table, self._stays.to_frame().lazy()], how="horizontal")
        return marked.filter("_stays").drop("_stays")

    def drop(self, reason: str, found: pl.DataFrame) -> None:
        """Take out what a finder returned."""
        self.counts[reason] = found.height
        self._reports.append(report(found, reason))
        self._stays[found["_row"].unique()] = False

    def drop_counted(self, bad: pl.Series, counts: Mapping[str, int]) -> None:
        """Take out those of :meth:`rows` that are ``bad``, in their order, without a report."""
        self.counts |= counts
        self._stays[self._stays.arg_true().filter(bad)] = False

    def report(self) -> pl.DataFrame:
        """REPORT of the rows that :meth:`drop` took out."""
        return pl.concat(self._reports)

    def write(self, file: Path, row_group: int | None = None) -> None:
        """The rows that are left, into a parquet file; see :func:`data_tools.passes.write`."""
        passes.write(self._table, self._stays.to_frame(), {file: pl.col("_stays")}, row_group=row_group)


def report(found: pl.DataFrame, reason: str) -> pl.DataFrame:
    """What a finder returned, as rows of REPORT."""
    found = found.with_columns(reason=pl.lit(reason))
    return found.select(
        (pl.col(name) if name in found.columns else pl.lit(None)).cast(dtype).alias(name)
        for name, dtype in REPORT.items()
    )


def check_report(file: Path | None) -> None:
    """Raises UserError for a name that :func:`write_report` cannot write to."""
    if file is not None and file.suffix not in SUFFIXES:
        raise UserError(f"{file}: a report is one of: {', '.join(f'*{suffix}' for suffix in SUFFIXES)}")
    if file is not None and file.is_dir():
        raise UserError(f"{file}: is a folder; name a file for --report")


def write_report(rows: pl.DataFrame, file: Path) -> None:
    """Write rows of REPORT as parquet or, by the file's suffix, JSON Lines; atomically."""
    with artifact.atomic_path(file) as temporary:
        if file.suffix == ".parquet":
            rows.write_parquet(temporary)
        else:
            rows.write_ndjson(temporary)
