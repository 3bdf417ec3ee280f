"""NeMo-RL's preference rows: ``context`` of turns, two ``completions`` with their rank, 0 for the better one.

Its DPO and reward training take two completions a row, so the pairs of an N-way group stay rows of their own.
"""

from __future__ import annotations

import polars as pl

from data_tools.exports import _rows

SUMMARY = "NeMo-RL: context, completions with rank"
READER = "nemo_rl"
ENDINGS = (".jsonl",)


def rows(frame: pl.LazyFrame) -> pl.LazyFrame:
    ranked = [
        pl.struct(rank=pl.lit(rank, pl.Int64), completion=_rows.turns(side))
        for rank, side in enumerate(("chosen", "rejected"))
    ]
    return frame.select(pl.col("prompt").alias("context"), pl.concat_list(ranked).alias("completions"), *_rows.extras())
