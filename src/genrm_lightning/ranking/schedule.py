"""Which candidates to compare next, so that few comparisons find the best or the order.

The first round is a ring drawn by hash: every candidate is compared twice, and all of them are connected. After each
round strengths are fitted, and the next one takes the comparisons from which most is learned: the expected gain in
information about θ_i − θ_j is about ½ log(1 + I var(θ_i − θ_j)), I = Σ_orders p(1 − p) / φ (the D-optimal choice of
active pairwise comparison; Mikhailiuk et al., ASAP, arXiv 2004.05691, take its exact expectation). Where the best
one is sought, a pair counts as much as either of them may still be the best. Each candidate is in at most one
comparison of a round, so that a round can be judged in one batch; one that tells less than a tenth of what the first
does waits for the next fit. A pair is asked about once: most judges would repeat themselves.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal

import numpy as np

from data_tools.order import hash64
from genrm_lightning.ranking.bradley_terry import Strengths

Goal = Literal["best", "order"]
Pair = tuple[int, int]
_WORTH = 0.1  # of the round's highest gain: fewer comparisons (a tenth to a seventh of 16 and 64), more rounds


def first_round(n: int, key: str) -> list[Pair]:
    """A ring of n candidates in an order drawn from ``key``: n comparisons (one of two candidates, none of one)."""
    order = sorted(range(n), key=lambda i: hash64("ring", f"{key}|{i}"))
    if n < 3:
        return [(order[0], order[1])] if n == 2 else []
    return [(a, b) for a, b in zip(order, order[1:] + order[:1], strict=True)]


def next_round(fit: Strengths, done: Collection[Pair], goal: Goal = "best") -> list[Pair]:
    """The comparisons of the next round, the most telling first; none where every pair has been compared.

    Args:
        done: pairs compared already, in either order.
        goal: best: which one is the strongest; order: all of it.
    """
    n = len(fit.theta)
    i, j = np.triu_indices(n, 1)
    gain = 0.5 * np.log1p(fit.information(i, j) * fit.variance(i, j))
    if goal == "best":
        best = fit.best()
        gain *= np.maximum(best[i], best[j])
    asked = {frozenset(pair) for pair in done}
    chosen: list[Pair] = []
    taken: set[int] = set()
    first = 0.0
    for at in np.argsort(-gain, kind="stable"):
        pair = int(i[at]), int(j[at])
        if gain[at] <= 0 or gain[at] < _WORTH * first:
            break
        if frozenset(pair) in asked or taken & set(pair):
            continue
        if not chosen:
            first = gain[at]
        chosen.append(pair)
        taken |= set(pair)
    return chosen
