"""Filters: functions of a LazyFrame that keep some of its rows, by name.

A filter sees the columns of :mod:`data_tools.selection.frames` and ``order`` (0 for the first in the sequence of pairs,
orders and best samples), and by what it looks at:

| looks at | rows | columns besides |
| --- | --- | --- |
| samples | right samples, before the choice of the best | |
| texts | the same, while their texts stream by | rationale |
| pairs | the same | rationale, prompt, chosen, rejected |
| couples | dpo's couples of a right and a wrong sample | rank, rejected_length, rejected_p_vote |
| examples | the chosen rows | rank; under dpo those of couples, null in a sample alone; pair's draw, category |

To add one: a function with numbers or names from a list (``Literal``) as keyword parameters, and :func:`register`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import polars as pl

from data_tools import quality_filters
from data_tools.selection import balances, texts
from data_tools.selection.named import named

LOOKS_AT = ("samples", "texts", "pairs", "couples", "examples")


def right_in_both(frame: pl.LazyFrame, share: float = 0.5) -> pl.LazyFrame:
    """Samples of pairs that are right in both orders: in either more than that share of the samples is.

    A judge that goes by position is right in one order only (J1, arXiv 2505.10320, and J4R pay for both alone).
    """
    return frame.filter(pl.col("right_share_both") > share)


def consistency_band(frame: pl.LazyFrame, low: float = 0.0, high: float = 1.0) -> pl.LazyFrame:
    """Samples of pairs whose share of right samples, over both orders, lies between low and high, neither included.

    As it stands, pairs that are neither never nor always judged rightly: on the others nothing is left to learn, or
    nothing to learn from (ReasonGRM, arXiv 2506.16712, trains its second stage on such pairs).
    """
    return frame.filter((pl.col("right_share") > low) & (pl.col("right_share") < high))


def both_letters(frame: pl.LazyFrame) -> pl.LazyFrame:
    """Samples of prompts some of whose samples are right and some not: with votes, where both A and B were voted."""
    return frame.filter(pl.col("right_share_here").is_between(0, 1, closed="none"))


def margin(frame: pl.LazyFrame, least: float = 0.1) -> pl.LazyFrame:
    """Samples whose verdict is decided: p_a is at least that far from 0.5."""
    return frame.filter((pl.col("p_vote") - 0.5).abs() >= least)


def stopped(frame: pl.LazyFrame) -> pl.LazyFrame:
    """Samples that the model ended itself (finish_reason stop), not its token budget."""
    return frame.filter("stopped")


def verdict_agrees(frame: pl.LazyFrame) -> pl.LazyFrame:
    """Samples whose own text gives the verdict that they voted for."""
    return frame.filter(pl.col("verdict").to_physical() == pl.col("vote").to_physical())


def max_length_ratio(frame: pl.LazyFrame, ratio: float = 2.0) -> pl.LazyFrame:
    """Couples whose longer rationale has at most that many times the tokens of the shorter."""
    longer = pl.max_horizontal("length", "rejected_length")
    return frame.filter(longer <= ratio * pl.min_horizontal("length", "rejected_length"))


def both_orders(frame: pl.LazyFrame) -> pl.LazyFrame:
    """Examples of pairs that have one in either order, so that position cannot pay."""
    return frame.filter((pl.col("swapped").n_unique() == 2).over("pair"))


def hardest(frame: pl.LazyFrame, pairs: int = 1000) -> pl.LazyFrame:
    """Examples of at most that many pairs: those with the lowest share of right samples, ties by a hash of the id."""
    place = pl.struct("right_share", "draw", "pair").rank("dense")
    return frame.filter(place <= pairs)


@dataclass(frozen=True)
class Filter:
    function: Callable[..., pl.LazyFrame]
    looks_at: str
    needs_couples: bool


FILTERS: dict[str, Filter] = {}


def register(function: Callable[..., pl.LazyFrame], looks_at: str, needs_couples: bool = False) -> None:
    """Make a filter known under its function's name; of examples it may need both sides, as of couples it does."""
    if looks_at not in LOOKS_AT:
        raise ValueError(f"{looks_at} is none of {LOOKS_AT}")
    FILTERS[function.__name__] = Filter(function, looks_at, needs_couples or looks_at == "couples")


# Quality is asked of what will be imitated, the right samples: a poor wrong one is a fair warning.
register(texts.no_repetition, "texts")
register(texts.min_words, "texts")
register(texts.max_words, "texts")
register(texts.distinct_rationales, "texts")
register(texts.near_duplicates, "texts")
for _function in (
    quality_filters.finished,
    quality_filters.min_own_words,
    quality_filters.names_response,
    quality_filters.no_contradiction,
    quality_filters.only_text,
    quality_filters.max_corpus_share,
    quality_filters.max_opening_share,
):
    register(_function, "texts")
register(quality_filters.no_copying, "pairs")
register(quality_filters.no_misquotes, "pairs")
register(right_in_both, "samples")
register(consistency_band, "samples")
register(both_letters, "samples")
register(margin, "samples")
register(stopped, "samples")
register(verdict_agrees, "samples")
register(max_length_ratio, "couples")
register(both_orders, "examples")
register(hardest, "examples")
register(balances.balance, "examples")
register(balances.balance_categories, "examples")
register(balances.balance_lengths, "examples")
register(balances.balance_sides, "examples", needs_couples=True)


def parse_filter(spec: str) -> tuple[str, Callable[[pl.LazyFrame], pl.LazyFrame]]:
    """``name`` or ``name:parameter=value,…`` -> (name, function of a LazyFrame).

    Raises:
        UserError: an unknown name or parameter (lists what there is), or a value that is no number, not finite or
            below 0, or none of a parameter's names.
    """
    return named(spec, "filter", {name: found.function for name, found in FILTERS.items()}, given=1)
