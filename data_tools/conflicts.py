"""The same two responses to the same prompt, preferred both ways: what the majority says."""

from __future__ import annotations

import polars as pl

from data_tools.split import normalised_prompt

WAYS = ("drop", "majority")
FOUND = pl.Schema({"_row": pl.UInt32, "pair_id": pl.String, "score": pl.Float64})


def outvoted(table: pl.LazyFrame) -> pl.DataFrame:
    """The rows whose preference has fewer rows than its opposite; where both have as many, none.

    A row is a vote, so this comes before repeats are dropped; ties are left for :func:`data_tools.clean.clean`, which
    drops them. Texts are the same as they are there: apart from outer whitespace. Rows that it drops because their
    prompt is held out have no vote.

    Args:
        table: PREFERENCE with ``_row``.

    Returns:
        A row a removed row, by ``_row``: ``pair_id``; ``score``, the share of the votes that its side got, below 0.5.
    """
    chosen, rejected = pl.col("chosen").str.strip_chars(), pl.col("rejected").str.strip_chars()
    turns = pl.element().struct.field("role") + "\x1f" + pl.element().struct.field("content").str.strip_chars()
    prompt = pl.col("prompt").list.eval(turns).list.join("\x1e")
    couple = [prompt, pl.min_horizontal(chosen, rejected), pl.max_horizontal(chosen, rejected)]
    narrow = table.select(
        "_row",
        "split",
        _key=normalised_prompt().hash(),
        _couple=pl.concat_str(couple, separator="\x1d").hash(),
        _first=chosen < rejected,
        _same=chosen == rejected,
    )
    held_out = [
        narrow.filter(pl.col("split") == split).select("_key", **{f"_{split}": True}).unique()
        for split in ("test", "validation")
    ]
    voting = (
        narrow.filter(~pl.col("_same"))
        .join(held_out[0], on="_key", how="left")
        .join(held_out[1], on="_key", how="left")
        .filter(pl.col("_test").is_null() | pl.col("split").eq_missing("test"))
        .filter(pl.col("_validation").is_null() | pl.col("split").ne_missing("train"))
    )
    votes = voting.group_by("_couple").agg(_all=pl.len(), _firsts=pl.col("_first").sum())
    votes = votes.filter(pl.col("_firsts").is_between(1, pl.col("_all") - 1))
    mine = pl.when("_first").then("_firsts").otherwise(pl.col("_all") - pl.col("_firsts"))
    lost = voting.join(votes, on="_couple").select("_row", score=mine / pl.col("_all")).filter(pl.col("score") < 0.5)
    lost = lost.collect(engine="streaming")
    ids = table.select("_row", "pair_id").join(lost.lazy(), on="_row")
    return ids.select(list(FOUND)).collect(engine="streaming").sort("_row")
