"""Rows that are taken out of a table, and why: what the finders of bad rows return, and the report of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import polars as pl

from data_tools import artifact
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
WINDOW = 500_000
SUFFIXES = (".parquet", ".jsonl")


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


def without(table: pl.LazyFrame, gone: pl.DataFrame) -> pl.LazyFrame:
    """The numbered table without the rows in ``gone``, in the same order."""
    if gone.is_empty():
        return table
    return table.join(gone.lazy().select("_row").unique(), on="_row", how="anti", maintain_order="left")


def write(table: pl.LazyFrame, file: Path, schema: pl.Schema) -> int:
    """Stream a lazy table into a parquet file, atomically; returns its rows."""
    with artifact.atomic_path(file) as temporary:
        table.select(list(schema)).sink_parquet(temporary, engine="streaming")
        return pl.scan_parquet(temporary).select(pl.len()).collect().item()


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
