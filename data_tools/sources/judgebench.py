"""JudgeBench: a ``question``, two responses, and which is right: ``label`` is A>B or B>A; all rows are test."""

from __future__ import annotations

from typing import Any

import polars as pl

from data_tools.sources import _rows
from data_tools.sources._rows import Rows

KEYS = ("pair_id", "source", "question", "response_A", "response_B", "label")
REMEDY = {
    "chosen": "'label' should be A>B or B>A, and both responses be there",
    "prompt": "key 'question' is missing or null",
}


def schema(first: dict[str, Any]) -> pl.Schema:
    return pl.Schema(dict.fromkeys(KEYS, pl.String))


def pairs(rows: Rows) -> pl.LazyFrame:
    label = pl.col("label")
    return rows.frame.with_columns(
        subset="source",
        source=pl.lit("judgebench"),
        split=pl.lit("test"),
        prompt=_rows.user_turn(pl.col("question")),
        chosen=pl.when(label == "A>B").then("response_A").when(label == "B>A").then("response_B"),
        rejected=pl.when(label == "A>B").then("response_B").when(label == "B>A").then("response_A"),
        label_kind=pl.lit("verified"),
    )
