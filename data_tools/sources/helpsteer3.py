"""HelpSteer3's preferences: ``context`` of turns, two responses, ``overall_preference`` from −3 to 3.

A negative preference is for response1, 0 is a tie and left out; the margin is its size divided by 3. ``domain`` is
optional, and becomes the subset.
"""

from __future__ import annotations

from typing import Any

import polars as pl

from data_tools.schema import MESSAGES
from data_tools.sources import _rows
from data_tools.sources._rows import LEFT_OUT, TIE, Rows

KEYS = ("context", "response1", "response2", "overall_preference")
REMEDY = {
    "chosen": "'response1', 'response2' or 'overall_preference' (-3 to 3) is missing",
    "rejected": "'response1' or 'response2' is missing",
    "prompt": "key 'context' is missing or null",
    "margin": "'overall_preference' should be from -3 to 3",
}


def schema(first: dict[str, Any]) -> pl.Schema:
    texts = dict.fromkeys(("response1", "response2", "domain"), pl.String)
    return pl.Schema({"context": MESSAGES, **texts, "overall_preference": pl.Float64})


def pairs(rows: Rows) -> pl.LazyFrame:
    preference = pl.col("overall_preference")
    frame = rows.frame.with_columns(
        pl.when(preference == 0).then(pl.lit(TIE)).alias(LEFT_OUT),
        prompt="context",
        # Of a tie the first: it is left out, or kept as a comparison without a winner.
        chosen=pl.when(preference <= 0).then("response1").when(preference > 0).then("response2"),
        rejected=pl.when(preference <= 0).then("response2").when(preference > 0).then("response1"),
        margin=preference.abs() / 3,
        subset="domain",
        source=pl.lit("helpsteer3"),
        label_kind=pl.lit("human"),
    )
    return frame.with_columns(pair_id=_rows.content_hash())
