"""UltraFeedback as its authors publish it: an ``instruction`` and rated ``completions`` of several models.

A completion's score is the mean of its ratings (1 to 5) for helpfulness, honesty, instruction following and
truthfulness, which is what ultrafeedback_binarized compares by; ``overall_score`` is known to hold errors and is not
read. Every two completions make a pair, and the pairs of a row share a ``group_id``; equal scores are ties, and those
with a rating that is no number (N/A) are left out likewise. The margin is the difference of the scores divided by 4,
its largest.
"""

from __future__ import annotations

from typing import Any

import polars as pl

from data_tools.sources import _rows
from data_tools.sources._rows import LEFT_OUT, Rows

KEYS = ("source", "instruction", "models", "completions", "correct_answers", "incorrect_answers")
REMEDY = {"chosen": "a completion lacks its response", "prompt": "key 'instruction' is missing or null"}
UNRATED = "a rating is missing"
_ASPECTS = ("helpfulness", "honesty", "instruction_following", "truthfulness")


def schema(first: dict[str, Any]) -> pl.Schema:
    rating = pl.Struct({"Rating": pl.String})
    completion = pl.Struct({"response": pl.String, "annotations": pl.Struct(dict.fromkeys(_ASPECTS, rating))})
    return pl.Schema({"source": pl.String, "instruction": pl.String, "completions": pl.List(completion)})


def pairs(rows: Rows) -> pl.LazyFrame:
    annotations = pl.element().struct.field("annotations").struct
    ratings = [annotations.field(aspect).struct.field("Rating").cast(pl.Float64, strict=False) for aspect in _ASPECTS]
    scored = pl.struct(text=pl.element().struct.field("response"), score=pl.sum_horizontal(ratings, ignore_nulls=False))
    frame = rows.frame.with_columns(
        prompt=_rows.user_turn(pl.col("instruction")),
        subset="source",
        source=pl.lit("ultrafeedback"),
        label_kind=pl.lit("gpt-4"),
        responses=pl.col("completions").list.eval(scored),
    )
    frame = frame.with_columns(_id=_rows.content_hash("prompt", "responses"))
    # Sums are compared, not means: they are whole numbers.
    frame = _rows.ranked(frame, "responses", "_id", rows.most).with_columns(margin=pl.col("gap") / (4 * len(_ASPECTS)))
    unrated = pl.col("gap").is_null() & (pl.col("_n") >= 2)
    return frame.with_columns(pl.when(unrated).then(pl.lit(UNRATED)).otherwise(LEFT_OUT).alias(LEFT_OUT))
