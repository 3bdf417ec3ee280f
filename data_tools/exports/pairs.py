"""The project's own rows: the fields of PREFERENCE, as :mod:`data_tools.sources.pairs` describes them."""

from __future__ import annotations

import polars as pl

from data_tools.exports import trl

SUMMARY = "rows of the fields of PREFERENCE: id, source, prompt as turns, chosen and rejected as texts"
READER = "pairs"
ENDINGS = trl.ENDINGS
KEPT = ("label_kind",)  # by which its reader knows the format
UNFIT = {"no source": pl.col("source").is_null()}


def rows(frame: pl.LazyFrame) -> pl.LazyFrame:
    return frame.select(
        pl.col("pair_id").alias("id"), "source", "category", "subset", "prompt", "chosen", "rejected", "label_kind",
        "margin", "split", "group_id",
    )  # fmt: skip
