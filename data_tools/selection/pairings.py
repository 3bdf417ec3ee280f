"""Couples for DPO: which right sample of a prompt goes with which wrong one; a named function of two LazyFrames each.

Both have ``rank`` (0 for the best of a pair in one order); the couples are ranked likewise, first those to keep.
"""

from __future__ import annotations

from collections.abc import Callable

import polars as pl

from data_tools.selection.frames import PLACE
from data_tools.selection.named import named

SIDE = ("row", "length", "p_vote", "own_ids", "order")  # of the wrong sample: rejected_row, …


def rank(right: pl.LazyFrame, wrong: pl.LazyFrame) -> pl.LazyFrame:
    """The best right sample with the best wrong one, the second with the second, …; none is used twice."""
    return _zipped(right, wrong)


def best_worst(right: pl.LazyFrame, wrong: pl.LazyFrame) -> pl.LazyFrame:
    """The right sample whose verdict is surest with the wrong one whose verdict is surest, and so on."""
    surest = pl.col("p_vote")
    return _zipped(_by(right, surest, True), _by(wrong, surest, True))


def hardest(right: pl.LazyFrame, wrong: pl.LazyFrame) -> pl.LazyFrame:
    """The right sample whose verdict is least sure with the wrong one whose verdict is surest, and so on."""
    surest = pl.col("p_vote")
    return _zipped(_by(right, surest, False), _by(wrong, surest, True))


def all(right: pl.LazyFrame, wrong: pl.LazyFrame, most: int = 4) -> pl.LazyFrame:
    """Every right sample with every wrong one, the ``most`` best of either; best couples first."""
    both = _few(right, most).join(_rejected(_few(wrong, most)), on=PLACE)
    return _ranked(both, pl.col("rank") + pl.col("rejected_rank"), pl.col("rank"))


def length_matched(right: pl.LazyFrame, wrong: pl.LazyFrame, most: int = 4) -> pl.LazyFrame:
    """Samples closest in length, so that length tells the sides apart as little as it can; none is used twice.

    Each right sample looks for the wrong one closest to it, and each wrong one takes the closest of those that came;
    what is left over looks again, ``most`` times.
    """
    found = []
    wrong = _rejected(wrong).drop("rejected_rank")
    for _ in range(most):
        couples = _closest(right, wrong).collect()
        if couples.is_empty():
            break
        found.append(couples)
        right = right.join(couples.lazy(), on="order", how="anti").collect().lazy()
        wrong = wrong.join(couples.lazy(), on="rejected_order", how="anti").collect().lazy()
    return _ranked(pl.concat(found).lazy() if found else couples.lazy(), _apart(), pl.col("rank"))


def _closest(right: pl.LazyFrame, wrong: pl.LazyFrame) -> pl.LazyFrame:
    """Couples of which either is the closest in length to the other, of those that are nobody's yet."""
    right = right.filter(pl.col("length").is_not_null()).sort("length", "order")
    wrong = wrong.filter(pl.col("rejected_length").is_not_null()).sort("rejected_length", "rejected_order")
    near = right.join_asof(
        wrong, left_on="length", right_on="rejected_length", by=PLACE, strategy="nearest", coalesce=False,
        check_sortedness=False,
    ).filter(pl.col("rejected_order").is_not_null())  # fmt: skip
    return near.sort(_apart(), "order").unique("rejected_order", keep="first", maintain_order=True)


def _apart() -> pl.Expr:
    return (pl.col("length") - pl.col("rejected_length")).abs()


def _by(side: pl.LazyFrame, key: pl.Expr, descending: bool) -> pl.LazyFrame:
    """The samples ranked anew; unknown last, equal ones as they were."""
    ordered = side.sort(*PLACE, key, "rank", descending=[False, False, descending, False], nulls_last=True)
    return ranked(ordered)


def _few(side: pl.LazyFrame, most: int) -> pl.LazyFrame:
    return side.filter(pl.col("rank") < most)


def _rejected(wrong: pl.LazyFrame) -> pl.LazyFrame:
    return wrong.select(*PLACE, pl.col("rank", *SIDE).name.prefix("rejected_"))


def _zipped(right: pl.LazyFrame, wrong: pl.LazyFrame) -> pl.LazyFrame:
    wrong = _rejected(wrong).rename({"rejected_rank": "rank"})
    return right.join(wrong, on=[*PLACE, "rank"])


def _ranked(couples: pl.LazyFrame, *keys: pl.Expr) -> pl.LazyFrame:
    return ranked(couples.sort(*PLACE, *keys, "order", "rejected_order"))


def ranked(rows: pl.LazyFrame) -> pl.LazyFrame:
    """``rank``: 0 for the first row of a pair in one order, 1 for the next, …; rows of a place lie together."""
    index = pl.int_range(pl.len(), dtype=pl.UInt32)
    begins = pl.any_horizontal(pl.col(name) != pl.col(name).shift(1) for name in PLACE).fill_null(True)
    return rows.with_columns(rank=index - pl.when(begins).then(index).forward_fill())


PAIRINGS: dict[str, Callable[..., pl.LazyFrame]] = {
    function.__name__: function for function in (rank, best_worst, hardest, all, length_matched)
}


def parse_pairing(spec: str) -> Callable[[pl.LazyFrame, pl.LazyFrame], pl.LazyFrame]:
    """``name`` or ``name:parameter=value,…`` -> function of the right and the wrong samples. Raises UserError."""
    return named(spec, "pairing", PAIRINGS, given=2)[1]
