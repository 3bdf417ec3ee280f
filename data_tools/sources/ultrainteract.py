"""UltraInteract_pair: a ``trajectory`` of turns so far, a right action ``chosen`` and a wrong one ``rejected``."""

from __future__ import annotations

from typing import Any

import polars as pl

from data_tools.sources import _rows
from data_tools.sources._rows import SHAREGPT, Rows

KEYS = ("task", "dataset", "trajectory", "chosen", "rejected", "id", "parent_id")
REMEDY = {
    "pair_id": "key 'id' is missing or null; every row needs one of its own",
    "prompt": "key 'trajectory' is missing or null",
}


def schema(first: dict[str, Any]) -> pl.Schema:
    texts = dict.fromkeys(("task", "dataset", "chosen", "rejected", "id"), pl.String)
    return pl.Schema({**texts, "trajectory": SHAREGPT})


def pairs(rows: Rows) -> pl.LazyFrame:
    return rows.frame.with_columns(
        pair_id="id",
        source=pl.lit("ultrainteract"),
        subset=pl.concat_str("task", "dataset", separator="/", ignore_nulls=True),
        prompt=_rows.messages(pl.col("trajectory")),
        label_kind=pl.lit("verified"),
    )
