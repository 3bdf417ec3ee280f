"""A preference table in numbers: what is in it, and what could be won without judging."""

from __future__ import annotations

import polars as pl

from data_tools.order import chosen_is_a
from data_tools.schema import SPLITS
from data_tools.split import normalised_prompt

TOTAL = "all"


def stats(frame: pl.DataFrame) -> pl.DataFrame:
    """One row per source of a PREFERENCE table, by name, and a last one over all.

    ================  =======================================================================================
    rows              pairs; ``train``, ``validation``, ``test``: by split (null in none of them)
    prompts           distinct ones, letter case and whitespace aside
    labels            kinds of label with their rows, the commonest first
    chars, chars_95   median and 95th percentile of the characters of prompt and longer response together
    longer_chosen     share of pairs whose longer response is the chosen one, equal lengths half: the accuracy
                      of always preferring the longer one
    chosen_is_a       share of pairs whose chosen response the pair's own order shows as A: near 0.5
    ================  =======================================================================================
    """
    chosen, rejected = pl.col("chosen").str.len_chars(), pl.col("rejected").str.len_chars()
    prompt = pl.col("prompt").list.eval(pl.element().struct.field("content").str.len_chars()).list.sum()
    wide = frame.select(
        "source",
        "split",
        "label_kind",
        _key=normalised_prompt(),
        _chars=prompt + pl.max_horizontal(chosen, rejected),
        _longer=pl.when(chosen == rejected).then(0.5).otherwise((chosen > rejected).cast(pl.Float64)),
        _a=pl.Series([chosen_is_a(pair, False) for pair in frame["pair_id"]], dtype=pl.Boolean),
    )
    measures = [
        pl.len().alias("rows"),
        *((pl.col("split") == name).sum().alias(name) for name in SPLITS),
        pl.col("_key").n_unique().alias("prompts"),
        pl.col("label_kind").fill_null("unknown").value_counts().alias("_labels"),
        pl.col("_chars").median().cast(pl.Int64).alias("chars"),
        pl.col("_chars").quantile(0.95).cast(pl.Int64).alias("chars_95"),
        pl.col("_longer").mean().alias("longer_chosen"),
        pl.col("_a").mean().alias("chosen_is_a"),
    ]
    by_source = wide.group_by("source").agg(measures).sort("source")
    overall = wide.with_columns(source=pl.lit(TOTAL)).group_by("source").agg(measures)
    result = pl.concat([by_source, overall])
    labels = [
        ", ".join(f"{kind} {-n:,}" for n, kind in sorted((-row["count"], row["label_kind"]) for row in rows))
        for rows in result["_labels"]
    ]
    return result.with_columns(pl.Series("_labels", labels, dtype=pl.String)).rename({"_labels": "labels"})
