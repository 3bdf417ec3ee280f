"""How far comparisons contradict any order: cycles, in which everyone is beaten by the next."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

_EVEN = 1e-9  # wins less losses of a pair, below which rounding may be all there is


def cycles(n: int, i: ArrayLike, j: ArrayLike, y: ArrayLike) -> tuple[int, int]:
    """(cyclic, compared): of the triples whose three pairs were all compared, those in which each beats the next.

    No order agrees with such a triple (Kendall, Babington Smith 1940, Biometrika 31). Repeated comparisons of a pair
    are averaged; one that ends even beats nobody.

    Args:
        i, j: (m,) the candidates of each comparison, from 0.
        y: (m,) how it ended for i, in [0, 1].
    """
    beats, seen = _beats(n, i, j, y)
    return int(np.trace(beats @ beats @ beats)) // 3, int(np.trace(seen @ seen @ seen)) // 6


def in_cycles(n: int, i: ArrayLike, j: ArrayLike, y: ArrayLike) -> NDArray[np.bool_]:
    """(n,) whether a chain of wins leads from a candidate back to it: its strong component has others in it.

    Finds the cycles that no triple shows, of four and more, or between pairs that were not all compared. Arguments as
    of :func:`cycles`; the time is that of ⌈log₂ n⌉ products of n by n matrices, whatever the comparisons say.
    """
    reached, _ = _beats(n, i, j, y)
    for _ in range(max(n - 1, 1).bit_length()):  # a shortest chain has at most n wins
        reached = ((reached + reached @ reached) > 0).astype(np.int64)
    return np.diag(reached) > 0


def _beats(n: int, i: ArrayLike, j: ArrayLike, y: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(n, n) each, 0 or 1: whether the row's candidate beats the column's, and whether they were compared."""
    wins = np.zeros((n, n))
    i, j, y = np.asarray(i, dtype=np.int64), np.asarray(j, dtype=np.int64), np.asarray(y, dtype=np.float64)
    np.add.at(wins, (i, j), y - 0.5)
    np.add.at(wins, (j, i), 0.5 - y)
    seen = np.zeros((n, n), dtype=np.int64)
    seen[i, j] = seen[j, i] = 1
    return (wins > _EVEN).astype(np.int64), seen
