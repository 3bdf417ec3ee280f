"""RM-Bench: three right and three wrong responses to a prompt, each in three styles; all rows are test.

The styles are, in order, concise, detailed, and detailed with markdown. The nine pairs of a prompt share a
``group_id``; the end of a pair's id has both styles' places. The subset ends in easy, normal or hard as the chosen
side's style is richer than, equal to or poorer than the rejected side's. The category is the domain, both of safety's
being one.
"""

from __future__ import annotations

from typing import Any

import polars as pl

from data_tools.sources import _rows
from data_tools.sources._rows import Rows

KEYS = ("id", "prompt", "chosen", "rejected", "domain")
REMEDY = {
    "pair_id": "key 'id' is missing or null; every row needs one of its own",
    **{key: f"'{key}' is missing, or not a list of three texts" for key in ("chosen", "rejected")},
}


def fits(first: dict[str, Any]) -> bool:
    return all(_rows.has_texts(first[key]) and len(first[key]) == 3 for key in ("chosen", "rejected"))


def schema(first: dict[str, Any]) -> pl.Schema:
    listed = dict.fromkeys(("chosen", "rejected"), pl.List(pl.String))
    return pl.Schema({**dict.fromkeys(("id", "prompt", "domain"), pl.String), **listed})


def pairs(rows: Rows) -> pl.LazyFrame:
    three = {side: pl.when(pl.col(side).list.len() == 3).then(side) for side in ("chosen", "rejected")}
    richer = pl.col("_i").cast(pl.Int64) - pl.col("_j")
    level = pl.when(richer > 0).then(pl.lit("easy")).when(richer == 0).then(pl.lit("normal")).otherwise(pl.lit("hard"))
    frame = rows.frame.with_columns(_id=pl.format("rm_bench/{}", "id"), **three)
    return _rows.each_with_each(frame, "_id", rows.most).with_columns(
        source=pl.lit("rm_bench"),
        category=pl.col("domain").str.replace("^safety-.*", "safety"),
        subset=pl.concat_str("domain", level, separator="/"),
        split=pl.lit("test"),
        prompt=_rows.user_turn(pl.col("prompt")),
    )
