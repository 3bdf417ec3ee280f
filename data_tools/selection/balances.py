"""Filters that drop a surplus, so that letter, category or length alone tell nothing."""

from __future__ import annotations

import polars as pl

# What goes last: the best of each prompt, then by a hash of the pair's id. After ``both_orders`` a pair thus keeps both
# its orders or loses both.
_STANDING = pl.struct("rank", "draw", "pair", "swapped").rank("ordinal")


def balance(frame: pl.LazyFrame) -> pl.LazyFrame:
    """As many examples with right letter A as with B.

    Of the commoner letter those go first that are not the best of their prompt, then by a hash of the pair's id:
    after ``both_orders`` every pair thus keeps both its orders.
    """
    fewer = pl.min_horizontal((pl.col("letter") == letter).sum() for letter in "AB")
    return frame.filter(_STANDING.over("letter") <= fewer)


def balance_categories(frame: pl.LazyFrame, ratio: float = 1.0) -> pl.LazyFrame:
    """Of each category at most ``ratio`` times as many examples as of the rarest; null is a category, too."""
    rarest = pl.len().over("category").min()
    return frame.filter(_STANDING.over("category") <= ratio * rarest)


def balance_lengths(frame: pl.LazyFrame, width: float = 0.1) -> pl.LazyFrame:
    """Of each length as many examples with right letter A as with B; lengths are alike within a factor 1 + width."""
    bin = _bin(pl.col("length").log1p(), width)
    fewer = pl.min_horizontal((pl.col("letter") == letter).sum().over(bin) for letter in "AB")
    return frame.filter(_STANDING.over("letter", bin) <= fewer)


def balance_sides(frame: pl.LazyFrame, width: float = 0.1) -> pl.LazyFrame:
    """As many examples whose chosen rationale is longer as have the rejected one longer, by the same factor.

    Factors are alike within 1 + width; where both are as long nothing is dropped, nor of samples without a wrong one.
    So a judge that learns to write at length, or briefly, gains nothing by it (the verbosity bias of preferences).
    """
    more = pl.col("length").log1p() - pl.col("rejected_length").log1p()
    side, bin = more.sign(), _bin(more.abs(), width)
    fewer = pl.min_horizontal((side == sign).sum().over(bin) for sign in (1, -1))
    return frame.filter((_STANDING.over(side, bin) <= fewer) | (side == 0) | side.is_null())


def _bin(log: pl.Expr, width: float) -> pl.Expr:
    return (log / pl.lit(1 + width).log()).floor() if width else log
