"""HuggingFaceH4's ultrafeedback_binarized: ``chosen`` and ``rejected`` are whole conversations, each with its score.

Equal scores are ties and left out. The margin is the difference of the scores, divided by the file's largest where that
is above 1. A file whose name begins with ``test_prefs`` is test; other rows have no split.
"""

from __future__ import annotations

from typing import Any

import polars as pl

from data_tools.schema import MESSAGES
from data_tools.sources import _rows
from data_tools.sources._rows import LEFT_OUT, TIE, Rows

KEYS = ("prompt", "prompt_id", "chosen", "rejected", "messages", "score_chosen", "score_rejected")
ANY_SCALE = True
REMEDY = {
    "prompt": "'chosen' and 'rejected' should be conversations that differ in the last turn alone",
    "margin": "'score_chosen' is below 'score_rejected'; the responses are in the wrong order",
}


def schema(first: dict[str, Any]) -> pl.Schema:
    listed = dict.fromkeys(("chosen", "rejected"), MESSAGES)
    scores = dict.fromkeys(("score_chosen", "score_rejected"), pl.Float64)
    return pl.Schema({"prompt_id": pl.String, **listed, **scores})


def pairs(rows: Rows) -> pl.LazyFrame:
    chosen, rejected = pl.col("chosen"), pl.col("rejected")
    gap = pl.col("score_chosen") - pl.col("score_rejected")
    frame = rows.frame.with_columns(
        prompt=pl.when(_rows.diverging(chosen, rejected).is_null()).then(_rows.before_last(chosen)),
        source=pl.lit("ultrafeedback_binarized"),
        label_kind=pl.lit("gpt-4"),
        split=pl.lit("test" if rows.stem.startswith("test_prefs") else None, pl.String),
        margin=gap,
        chosen=_rows.response(chosen),
        rejected=_rows.response(rejected),
    )
    frame = frame.with_columns(pl.when(gap == 0).then(pl.lit(TIE)).alias(LEFT_OUT))
    return frame.with_columns(pair_id=pl.format("{}/{}", "prompt_id", _rows.content_hash()))
