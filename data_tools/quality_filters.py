"""Filters of rationales by their text: functions of a LazyFrame that keep some of its rows.

Each costs a pass over the texts and streams; the two caps, which look at the set, take a group-by. They look at
``rationale`` and at what else they name.
"""

from __future__ import annotations

import polars as pl

from data_tools.quality import (
    contradicts,
    copied_share,
    is_finished,
    named,
    ngrams,
    nontext_share,
    of_pair,
    opening,
    own_words,
)
from data_tools.quotations import counted
from data_tools.words import NGRAM


def finished(frame: pl.LazyFrame) -> pl.LazyFrame:
    """Rationales that end as a sentence does (:func:`data_tools.quality.is_finished`).

    What is imitated with its end missing teaches a judge to stop in mid-sentence. Whether the token budget ended it
    is another question: a judge learns to leave off of itself.
    """
    return frame.filter(is_finished())


def no_copying(frame: pl.LazyFrame, max_share: float = 0.6, n: int = NGRAM) -> pl.LazyFrame:
    """Rationales that take at most that share of their word n-grams from the conversation and the responses.

    The rows hold PREFERENCE's ``prompt``, ``chosen`` and ``rejected`` besides.
    """
    rows = frame.with_columns(_grams=ngrams("rationale", n))
    return rows.filter(copied_share(pl.col("_grams"), of_pair(n)) <= max_share).drop("_grams")


def no_misquotes(frame: pl.LazyFrame, most: int = 0) -> pl.LazyFrame:
    """Rationales with at most that many quotations that are none (:func:`data_tools.quotations.counted`).

    The rows hold PREFERENCE's ``prompt``, ``chosen`` and ``rejected`` besides, and ``letter``, the preferred response's
    in the order shown. Read in Python, some 30,000 a second.
    """

    def few(rationale: str, prompt: list[dict[str, str]], chosen: str, rejected: str, letter: str) -> bool:
        a, b = (chosen, rejected) if letter == "A" else (rejected, chosen)
        return counted(rationale, prompt, a, b)[1] <= most

    def keep(rows: pl.DataFrame) -> pl.DataFrame:
        read = rows.select("rationale", "prompt", "chosen", "rejected", "letter")
        return rows.filter(pl.Series([few(*row) for row in read.iter_rows()], dtype=pl.Boolean))

    return frame.map_batches(keep, streamable=True)


def min_own_words(frame: pl.LazyFrame, words: int = 5) -> pl.LazyFrame:
    """Rationales with at least that many words outside quotation marks: against stencils around a quotation."""
    return frame.filter(own_words() >= words)


def names_response(frame: pl.LazyFrame) -> pl.LazyFrame:
    """Rationales that speak of a response by its letter or its place (:func:`data_tools.quality.named`)."""
    return frame.filter(named() != "none")


def no_contradiction(frame: pl.LazyFrame) -> pl.LazyFrame:
    """Rationales that do not call the one response better, or find that it alone passes, and vote for the other."""
    return frame.filter(~contradicts())


def only_text(frame: pl.LazyFrame, max_share: float = 0.0) -> pl.LazyFrame:
    """Rationales with at most that share of characters that are no text."""
    return frame.filter(nontext_share() <= max_share)


def max_corpus_share(frame: pl.LazyFrame, share: float = 0.02) -> pl.LazyFrame:
    """The same rationale makes at most that share of the rows kept; one of each stays whatever the share.

    Of a rationale that comes too often, rows are left out evenly in the sequence of the rows' ``order``, or where there
    is none of pairs' ids, orders and samples. With fewer different rationales
    than 1 / share no choice meets it, and one of each is kept.
    """
    return _capped(frame, pl.col("rationale"), share)


def max_opening_share(frame: pl.LazyFrame, share: float = 0.2, words: int = 3) -> pl.LazyFrame:
    """As :func:`max_corpus_share`, of rationales that begin with the same words: a stencil shows there first."""
    return _capped(frame, opening(n=words), share)


def _capped(frame: pl.LazyFrame, key: pl.Expr, share: float) -> pl.LazyFrame:
    """At most c rows a key, c the largest number with c <= share · kept(c), and at least 1.

    kept(c) = Σ min(size, c) is concave in c: with the sizes in order it is the least of the lines
    below_j + left_j · c (rows of the j smallest keys, and how many keys are left). So c is the least of the lines' own
    answers, share · below_j / (1 − share · left_j).
    """
    names = frame.collect_schema().names()
    rows = frame.with_columns(_key=key)
    sizes = rows.group_by("_key").len("_size").select(pl.col("_size").cast(pl.Float64).sort())
    below = pl.col("_size").cum_sum()
    left = (pl.len() - 1 - pl.int_range(pl.len())).cast(pl.Float64)
    bound = pl.when(share * left < 1).then(share * below / (1 - share * left)).min()
    # Of no key at all only one of its size is too many: the line with nothing below.
    bound = pl.when(share * pl.len() < 1).then(0.0).otherwise(bound)
    most = (bound + 1e-9).floor().clip(lower_bound=1).cast(pl.Int64).alias("_most")
    sequence = pl.col("order") if "order" in names else pl.struct("pair_id", "swapped", "sample_index")
    place = sequence.rank("ordinal").over("_key").cast(pl.Int64)
    size = pl.len().over("_key").cast(pl.Int64)
    return (
        rows.join(sizes.select(most), how="cross")
        .with_columns(_place=place, _size=size)
        .filter(
            pl.col("_place") * pl.col("_most") // pl.col("_size")
            > (pl.col("_place") - 1) * pl.col("_most") // pl.col("_size")
        )
        .select(names)
    )
