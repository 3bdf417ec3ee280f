"""Which pairs a page shows."""

from __future__ import annotations

import polars as pl

_SPAN = float(2**64)  # of a hash


def sample(table: pl.LazyFrame, n: int) -> pl.DataFrame:
    """At most ``n`` rows of a PREFERENCE table, in turn one of each source, ordered by source.

    Within a source, those with the smallest hash of their id: the same rows at every call, in whatever order they
    stand. (The hash is polars', which is fast and not the same in all its versions; nothing but a page depends on
    it.) Of rows with the same id the first is taken.
    """
    ids = table.select("source", "pair_id", _hash=pl.col("pair_id").hash(seed=0))
    counts = table.group_by("source").agg(_rows=pl.len()).collect(engine="streaming")
    # Of a large source only hashes below a bound are looked at: 4 n + 100 are expected there where n are needed.
    bounds = counts.select("source", _bound=(4 * n + 100) / pl.col("_rows") * _SPAN)
    few = ids.join(bounds.lazy(), on="source", nulls_equal=True).filter(
        pl.col("_hash").cast(pl.Float64) <= pl.col("_bound")
    )
    drawn = (
        few.select("source", "pair_id", "_hash")
        .collect(engine="streaming")
        .unique("pair_id")
        .with_columns(_turn=pl.struct("_hash", "pair_id").rank("ordinal").over("source"))
        .sort("_turn", "_hash", "pair_id")
        .head(n)
    )
    rows = table.filter(pl.col("pair_id").is_in(drawn["pair_id"].implode())).collect(engine="streaming")
    rows = rows.unique("pair_id", keep="first", maintain_order=True)
    in_order = drawn.sort("source", "_turn", nulls_last=True).select("pair_id")
    return in_order.join(rows, on="pair_id", maintain_order="left").select(rows.columns)
