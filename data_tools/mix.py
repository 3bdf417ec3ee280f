"""Weighted mixtures of PREFERENCE tables with caps, drawn by a hash of the pair's id.

Each input's rows stand in the order of a seeded hash of their ids, and a mixture takes as many from the front as the
input's weight gives it. So which rows of an input come first depends on nothing but the seed and their ids, and a
larger mixture contains every smaller one (unless a cap is a share: it grows with the mixture).

No row is taken twice: a pair's id stands for one row wherever pairs are judged, and A/B order and samples are drawn
from it. Where a set should count for more, the others are given fewer rows.

Only narrow columns (row numbers, hashes, names of sets) are held in memory; the rows are read again to be written.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import ceil, floor
from pathlib import Path

import polars as pl
from polars.io.plugins import register_io_source

from data_tools import artifact
from data_tools.allocation import allocate, largest, possible, quotas
from data_tools.errors import UserError
from data_tools.order import hash64
from data_tools.schema import PREFERENCE
from data_tools.split import normalised_prompt

# What can be capped, in the order in which caps apply: the narrower first, so that what a broader one keeps is spread
# over more prompts. A null is no value: rows without a group, say, are not capped by group.
CAPS = ("prompt", "group", "category", "source")
COLUMNS = ("name", "there", "repeated", "capped", "wanted", "taken", "share")
SHARES = ("category", "source")  # caps that may be a share, one of them: the others have too many values
_NONE = -1  # of a row that no share caps
_BATCH = 100_000  # whole rows in memory at once


@dataclass(frozen=True)
class Mixture:
    """Which rows are taken.

    Attributes:
        taken: a line for each taken row: ``row``, its index over the inputs as one table, and ``hash``.
        inputs, sources: a line each, in :data:`COLUMNS`: ``there`` rows, of which ``repeated`` stand elsewhere, too
            (in an earlier input or line), and caps of rows keep ``capped`` out; ``wanted``: the share that the weight
            asks for (null without weights, and for sources); ``taken`` rows, and their ``share`` of the mixture.
        crossing: prompts with rows on more than one side of the split.
    """

    taken: pl.DataFrame
    inputs: pl.DataFrame
    sources: pl.DataFrame
    crossing: int


def mix(
    files: Sequence[Path],
    weights: Sequence[Fraction] | None = None,
    *,
    rows: int | None = None,
    caps: Mapping[str, Fraction] | None = None,
    seed: int = 0,
) -> Mixture:
    """Draw a mixture; :func:`write` writes it.

    Args:
        files: PREFERENCE tables.
        weights: above 0, what the inputs' rows in the mixture are to each other; None: all rows are one pool, in which
            an input counts by its size.
        rows: of the mixture; None: as many as weights and caps allow.
        caps: name of :data:`CAPS` -> at most so many rows of one value: of all inputs, before weights count. One of
            :data:`SHARES` may be below 1, a share of the mixture (see :func:`data_tools.allocation.allocate`).
        seed: another one draws other rows.

    Raises:
        UserError: a file that is no PREFERENCE table, an id that stands for different pairs, or a mixture that cannot
            be had: says how many rows can.
    """
    caps = caps or {}
    _check(caps)
    frame = _rows(files)
    there = _narrow(frame, files, caps, seed)
    table = _without_repeats(frame, there, files)
    unit = pl.lit(0, pl.UInt16) if weights is None else pl.col("file")
    table = table.sort("hash", "row").with_columns(unit=unit)
    weights_of_units = [Fraction(1)] if weights is None else list(weights)
    draw = _Draw(table, weights_of_units, caps)
    most = draw.most(table.height if rows is None else rows)
    if most < (1 if rows is None else rows):
        names = ["the inputs"] if weights is None else list(map(str, files))
        remedy = f"--rows {most} can be had" if most else "loosen weights or caps"
        raise UserError(f"{draw.lack(rows or 1, names)}; {remedy}")
    taken = draw.take(most)
    stages = (there, table, draw.pool, taken)
    wanted = [None] * len(files) if weights is None else [float(weight / sum(weights)) for weight in weights]
    inputs = pl.DataFrame(
        {"file": range(len(files)), "name": list(map(str, files)), "wanted": wanted},
        schema={"file": pl.UInt16, "name": pl.String, "wanted": pl.Float64},
    )
    sources = there.select(pl.col("source").unique()).with_columns(
        name=pl.col("source").cast(pl.String), wanted=pl.lit(None, pl.Float64)
    )
    prompts = taken.drop_nulls("split").group_by("prompt").agg(sides=pl.col("split").n_unique())
    return Mixture(
        taken=taken.select("row", "hash"),
        inputs=_counted(inputs, "file", stages).sort("file").select(COLUMNS),
        sources=_counted(sources, "source", stages).sort("name").select(COLUMNS),
        crossing=int((prompts["sides"] > 1).sum()),
    )


def _check(caps: Mapping[str, Fraction]) -> None:
    shares = [name for name, cap in caps.items() if cap < 1]
    for name in shares:
        if name not in SHARES:
            raise UserError(f"cap of {name}: takes a number of rows; a share is for {' or '.join(SHARES)}")
    if len(shares) > 1:
        raise UserError(f"caps of {' and '.join(shares)}: only one can be a share; give a number of rows for the other")


def write(files: Sequence[Path], mixture: Mixture, out: Path) -> None:
    """Write a mixture of ``files``, its rows shuffled: in an order drawn by the hash as well.

    Rows go to buckets of that order first, and a bucket at a time is sorted in memory: the disk holds the mixture twice
    for a while.
    """
    # Rows are drawn by the hash's upper bits: of an input of which few are taken these are small, and in their order
    # such rows would all stand in front. The lower bits say nothing of what was drawn.
    order = pl.col("hash") % 2**32
    buckets = ceil(mixture.taken.height / _BATCH)
    taken = mixture.taken.lazy().select("row", "hash", _order=order, _bucket=order * buckets // 2**32)
    frame = _rows(files).join(taken, on="row", how="inner")
    with artifact.atomic_path(out) as temporary:
        if buckets == 1:
            _shuffled(frame).collect(engine="streaming").write_parquet(temporary)
            return
        folder = temporary.with_name(artifact.temporary_name(out.stem))
        try:
            by_bucket = pl.PartitionBy(folder, key="_bucket", approximate_bytes_per_file=None)
            frame.sink_parquet(by_bucket, mkdir=True, compression="lz4", engine="streaming")
            files_of_buckets = [sorted(folder.glob(f"_bucket={bucket}/*.parquet")) for bucket in range(buckets)]

            def sorted_buckets(*_: object) -> Iterator[pl.DataFrame]:
                for inside in files_of_buckets:
                    if inside:
                        yield _shuffled(pl.scan_parquet(inside, hive_partitioning=False)).collect()

            register_io_source(sorted_buckets, schema=PREFERENCE).sink_parquet(temporary, engine="streaming")
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _rows(files: Sequence[Path]) -> pl.LazyFrame:
    return artifact.scan_tables(files, PREFERENCE).with_row_index("row")


def _shuffled(frame: pl.LazyFrame) -> pl.LazyFrame:
    return frame.sort("_order", "hash", "row").select(list(PREFERENCE))


def _narrow(frame: pl.LazyFrame, files: Sequence[Path], caps: Mapping[str, Fraction], seed: int) -> pl.DataFrame:
    """``row``, ``hash``, ``file``, ``source``, ``split``, ``prompt`` (a hash), and what else is capped."""
    capped = {
        "group": pl.when(pl.col("group_id").is_not_null()).then(pl.col("group_id").hash()),
        "category": pl.col("category").cast(pl.Categorical),
    }
    query = frame.select(
        "row",
        "pair_id",
        *(pl.col(name).cast(pl.Categorical) for name in ("source", "split")),
        prompt=normalised_prompt().hash(),  # of polars: it tells prompts apart and orders nothing
        **{name: column for name, column in capped.items() if name in caps},
    )
    batches = []
    for batch in query.collect_batches(chunk_size=_BATCH, maintain_order=True, engine="streaming"):
        hashes = [hash64(f"mix {seed}", pair) for pair in batch["pair_id"]]
        batches.append(batch.drop("pair_id").with_columns(hash=pl.Series(hashes, dtype=pl.UInt64)))
    if not batches:
        raise UserError(f"{', '.join(map(str, files))}: there are no rows to mix")
    table = pl.concat(batches)
    ends = pl.Series([_height(file) for file in files], dtype=pl.UInt32).cum_sum()
    return table.with_columns(file=ends.search_sorted(table["row"], side="right").cast(pl.UInt16))


def _height(file: Path) -> int:
    return pl.scan_parquet(file, glob=False, hive_partitioning=False).select(pl.len()).collect().item()


def _without_repeats(frame: pl.LazyFrame, table: pl.DataFrame, files: Sequence[Path]) -> pl.DataFrame:
    """Of rows that are the same in every column the first alone.

    Raises:
        UserError: an id of rows that are not the same.
    """
    again = table.filter(pl.col("hash").is_duplicated()).select("row", "file")
    if again.is_empty():
        return table
    content = {f"content_{seed}": pl.struct(list(PREFERENCE)).hash(seed) for seed in (1, 2)}  # 128 bits together
    same = frame.join(again.lazy(), on="row", how="semi").select("row", "pair_id", **content)
    same = same.collect(engine="streaming").join(again, on="row")
    ids = same.group_by("pair_id").agg(
        differ=pl.struct(list(content)).n_unique() > 1, first=pl.col("row").min(), files=pl.col("file").unique().sort()
    )
    other = ids.filter("differ").sort("pair_id").head(1)
    if not other.is_empty():
        holders = ", ".join(str(files[file]) for file in other["files"][0])
        raise UserError(
            f"{holders}: id '{other['pair_id'][0]}' stands for rows that differ; make the ids unique, or leave one out"
        )
    repeated = again.join(ids, left_on="row", right_on="first", how="anti")
    return table.join(repeated, on="row", how="anti", maintain_order="left")


class _Draw:
    """What can be drawn from a table.

    Args:
        table: rows in the order in which they are drawn; ``unit``: index of the weight that counts them.
        weights: above 0.
        caps: as of :func:`mix`.
    """

    def __init__(self, table: pl.DataFrame, weights: Sequence[Fraction], caps: Mapping[str, Fraction]) -> None:
        self._weights = weights
        rows = {name: int(caps[name]) for name in CAPS if name in caps and caps[name] >= 1}
        # First, and for a mixture of any size: so what these leave, and the order in it, is the same for all.
        self.pool = _capped(table, rows)
        shares = {name: share for name, share in caps.items() if share < 1}
        if shares:
            [(self._by, self._share)] = shares.items()
            self._value = pl.col(self._by).cast(pl.String).rank("dense")  # not the codes, which know an order of rows
        else:
            self._value = pl.lit(None, pl.UInt32)
        self.pool = self.pool.with_columns(value=self._value.cast(pl.Int64).fill_null(_NONE))
        counted = self.pool.group_by("unit", "value").len().sort("unit", "value")
        self._cells = {(unit, value): n for unit, value, n in counted.iter_rows()}
        self._values = {value for _, value in self._cells} - {_NONE}

    def most(self, rows: int) -> int:
        """The most rows, and no more than ``rows``, for which there is enough."""
        most = min(rows, largest(self._weights, self._available()))
        # With limits rounded up, where some number of rows can be had so can fewer, but for roundings: a search finds
        # where to look. With limits as they are, no number between what was asked for and what was had can be had.
        low, high = 0, most
        while low < high:
            middle = (low + high + 1) // 2
            enough = self._possible(middle, ceil) >= middle
            low, high = (middle, high) if enough else (low, middle - 1)
        while (had := self._possible(low, floor)) < low:
            low = had
        return low

    def take(self, rows: int) -> pl.DataFrame:
        """The rows of a mixture of that size, no more than :meth:`most` finds."""
        taken = allocate(self._cells, quotas(self._weights, rows), self._limits(rows, floor))
        quota = pl.DataFrame(
            [(unit, value, n) for (unit, value), n in taken.items()],
            schema={"unit": pl.UInt16, "value": pl.Int64, "quota": pl.UInt32},
            orient="row",
        )
        pool = self.pool.join(quota, on=["unit", "value"], how="left", maintain_order="left")
        return pool.filter(_place("unit", "value") < pl.col("quota"))

    def lack(self, rows: int, names: Sequence[str]) -> str:
        """Why so many rows cannot be had, in words."""
        there = zip(names, quotas(self._weights, rows), self._available(), strict=True)
        lacks = [f"{name}: {wanted:,} rows wanted, {had:,} there" for name, wanted, had in there if had < wanted]
        if lacks:
            return "; ".join(lacks) + " under the caps"
        return f"{rows:,} rows cannot be had with at most {self._share} of them of one {self._by}"

    def _possible(self, rows: int, rounded: Callable[[Fraction], int]) -> int:
        return possible(self._cells, quotas(self._weights, rows), self._limits(rows, rounded))

    def _limits(self, rows: int, rounded: Callable[[Fraction], int]) -> dict[int, int]:
        return dict.fromkeys(self._values, rounded(self._share * rows)) if self._values else {}

    def _available(self) -> list[int]:
        available = [0] * len(self._weights)
        for (unit, _), n in self._cells.items():
            available[unit] += n
        return available


def _capped(table: pl.DataFrame, limits: Mapping[str, int]) -> pl.DataFrame:
    """The first rows of each value, in the table's order."""
    for name, limit in limits.items():
        table = table.filter(pl.col(name).is_null() | (_place(name) < limit))
    return table


def _place(*columns: str) -> pl.Expr:
    """A row's place (from 0) among those of the same values."""
    return pl.int_range(pl.len()).over(*columns)


def _counted(lines: pl.DataFrame, by: str, stages: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """With the columns of numbers: rows there, without repeats, under the caps, taken."""
    for i, stage in enumerate(stages):
        counted = stage.group_by(by).agg(pl.len().cast(pl.Int64).alias(f"_{i}"))
        lines = lines.join(counted, on=by, how="left", nulls_equal=True).with_columns(pl.col(f"_{i}").fill_null(0))
    there, distinct, pool, taken = (pl.col(f"_{i}") for i in range(4))
    return lines.with_columns(
        there=there, repeated=there - distinct, capped=distinct - pool, taken=taken, share=taken / stages[-1].height
    )
