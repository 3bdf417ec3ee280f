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
WINDOW = 4  # batches that are read together
_OF_A_ROW = 256  # bytes, besides its text
SUFFIXES = (".parquet", ".jsonl")
CONTAMINATED = "overlaps an evaluation prompt"


def numbered(table: pl.LazyFrame) -> pl.LazyFrame:
    """With ``_row``, UInt32: the row's place in the table, from 0, by which finders name rows."""
    return table.with_row_index("_row")


def batches(table: pl.LazyFrame, text: int) -> Iterator[pl.DataFrame]:
    """A table with ``_row`` in order, as many rows at a time as have ``text`` bytes of text (one row may have more).

    polars reads on while a batch is worked on, and holds all that it has read: of a whole table, all of it. So windows
    of WINDOW batches are read one by one, each a way of its own to those row groups that have a part in it.

    Args:
        table: columns of strings, lists of strings, and turns (``prompt``) count, and _OF_A_ROW bytes a row.
    """
    columns = table.collect_schema()
    sizes = table.select("_row", _text=sum((_bytes(*column) for column in columns.items()), pl.lit(_OF_A_ROW)))
    sizes = sizes.collect(engine="streaming").sort("_row")
    parts = (
        sizes.group_by((pl.col("_text").cum_sum() - 1) // text, maintain_order=True)
        .agg(first=pl.col("_row").first(), last=pl.col("_row").last(), rows=pl.len())
        .select("first", "last", "rows")
    )
    for window in parts.iter_slices(WINDOW):
        inside = pl.col("_row").is_between(window["first"][0], window["last"][-1])
        found, start = table.filter(inside).collect(engine="streaming"), 0
        for rows in window["rows"]:
            yield found.slice(start, rows)
            start += rows


def _bytes(name: str, dtype: pl.DataType) -> pl.Expr:
    """Of a column's texts; 0 for numbers."""
    text = pl.element()
    if isinstance(dtype, pl.List) and isinstance(dtype.inner, pl.Struct):
        text = text.struct.field("content")
    if dtype == pl.String:
        size = pl.col(name).str.len_bytes()
    elif isinstance(dtype, pl.List):
        size = pl.col(name).list.eval(text.str.len_bytes()).list.sum()
    else:
        return pl.lit(0, pl.UInt64)
    return size.fill_null(0).cast(pl.UInt64)


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
        self._reports = [pl.DataFrame(schema=REPORT).lazy()]

    @property
    def height(self) -> int:
        """Rows that are left."""
        return int(self._stays.sum())

    def rows(self) -> pl.LazyFrame:
        """The rows that are left, numbered by their place in the whole table."""
        table = numbered(self._table)
        if self.height == self.read:
            return table
        # Of a join a filter by place reaches the file, which then need not be read from its beginning.
        stay = self._stays.arg_true().cast(pl.UInt32).alias("_row").to_frame().lazy()
        return table.join(stay, on="_row", how="semi", maintain_order="left")

    def drop(self, reason: str, found: pl.DataFrame) -> None:
        """Take out what a finder returned."""
        self.counts[reason] = found.height
        self._reports.append(report(found, reason))
        self._stays[found["_row"].unique()] = False

    def drop_for(self, reason: pl.Series, counts: Mapping[str, int]) -> None:
        """Take out those of :meth:`rows` that have a reason (a category or null for each, in their order).

        Nothing but the reasons is kept for the report: the ids are read when it is written.
        """
        self.counts |= counts
        places = self._stays.arg_true().filter(reason.is_not_null()).cast(pl.UInt32)
        gone = pl.DataFrame({"_row": places, "reason": reason.drop_nulls()}).lazy()
        ids = numbered(self._table).select("_row", "pair_id").join(gone, on="_row", maintain_order="left")
        self._reports.append(report(ids))
        self._stays[places] = False

    def report(self) -> pl.DataFrame:
        """REPORT of the rows that were taken out, reason by reason as they went, all in memory."""
        return pl.concat(self._reports).collect(engine="streaming")

    def write_report(self, file: Path) -> None:
        """Write :meth:`report` to a file as :func:`write_report` does, streaming."""
        write_report(pl.concat(self._reports), file)

    def write(self, file: Path, row_group: int | None = None) -> None:
        """The rows that are left, into a parquet file; see :func:`data_tools.passes.write`."""
        passes.write(self._table, self._stays.to_frame(), {file: pl.col("_stays")}, row_group=row_group)


def report(found: pl.DataFrame | pl.LazyFrame, reason: str | None = None) -> pl.LazyFrame:
    """What a finder returned, as rows of REPORT; it has a ``reason`` of its own where none is given."""
    columns = found.collect_schema().names()
    known = {name: pl.col(name) for name in columns} | ({} if reason is None else {"reason": pl.lit(reason)})
    return found.lazy().select(known.get(name, pl.lit(None)).cast(dtype).alias(name) for name, dtype in REPORT.items())


def check_report(file: Path | None) -> None:
    """Raises UserError for a name that :func:`write_report` cannot write to."""
    if file is not None and file.suffix not in SUFFIXES:
        raise UserError(f"{file}: a report is one of: {', '.join(f'*{suffix}' for suffix in SUFFIXES)}")
    if file is not None and file.is_dir():
        raise UserError(f"{file}: is a folder; name a file for --report")


def write_report(rows: pl.DataFrame | pl.LazyFrame, file: Path) -> None:
    """Write rows of REPORT as parquet or, by the file's suffix, JSON Lines; atomically."""
    with artifact.atomic_path(file) as temporary:
        if file.suffix == ".parquet":
            rows.lazy().sink_parquet(temporary, engine="streaming")
        else:
            rows.lazy().sink_ndjson(temporary, engine="streaming")
