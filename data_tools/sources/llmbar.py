"""LLMBar: an ``input``, two outputs, and the better one's number (``label`` is 1 or 2); all rows are test.

Its authors call every file dataset.json, in a folder of the subset's name: that is the subset.
"""

from __future__ import annotations

from typing import Any

import polars as pl

from data_tools.sources import _rows
from data_tools.sources._rows import Rows

SUBSETS = ("Natural", "GPTInst", "GPTOut", "Manual", "Neighbor")
KEYS = ("input", "output_1", "output_2", "label")
REMEDY = {
    "chosen": "'label' should be 1 or 2, and both outputs be there",
    "prompt": "key 'input' is missing or null",
}


def schema(first: dict[str, Any]) -> pl.Schema:
    return pl.Schema({**dict.fromkeys(KEYS[:3], pl.String), "label": pl.Float64})


def pairs(rows: Rows) -> pl.LazyFrame:
    label = pl.col("label")
    known = next((name for name in SUBSETS if name.lower() == rows.folder.lower()), None)
    frame = rows.frame.with_columns(
        source=pl.lit("llmbar"),
        subset=pl.lit(known if rows.stem == "dataset" else None, pl.String),
        split=pl.lit("test"),
        prompt=_rows.user_turn(pl.col("input")),
        chosen=pl.when(label == 1).then("output_1").when(label == 2).then("output_2"),
        rejected=pl.when(label == 1).then("output_2").when(label == 2).then("output_1"),
        label_kind=pl.lit("human"),
    )
    return frame.with_columns(pair_id=_rows.content_hash())
