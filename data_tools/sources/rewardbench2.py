"""RewardBench 2: lists of right (``chosen``) and wrong (``rejected``) responses to a prompt; all rows are test.

Each right response is set against each wrong one; the pairs of a prompt share a ``group_id``, from which best-of-4 and
the score of the Ties subset can be computed.
"""

from __future__ import annotations

from typing import Any

import polars as pl

from data_tools.sources import _rows
from data_tools.sources._rows import Rows

KEYS = ("id", "prompt", "chosen", "rejected", "num_correct", "total_completions", "subset")
REMEDY = {
    "pair_id": "key 'id' is missing or null; every row needs one of its own",
    **{key: f"'{key}' is missing, or an empty list" for key in ("chosen", "rejected")},
}


def fits(first: dict[str, Any]) -> bool:
    return all(_rows.has_texts(first[key]) for key in ("chosen", "rejected"))


def schema(first: dict[str, Any]) -> pl.Schema:
    listed = dict.fromkeys(("chosen", "rejected"), pl.List(pl.String))
    return pl.Schema({**dict.fromkeys(("id", "prompt", "subset"), pl.String), **listed})


def pairs(rows: Rows) -> pl.LazyFrame:
    frame = rows.frame.with_columns(_id=pl.format("rewardbench2/{}", "id"))
    return _rows.each_with_each(frame, "_id", rows.most).with_columns(
        source=pl.lit("rewardbench2"), split=pl.lit("test"), prompt=_rows.user_turn(pl.col("prompt"))
    )
