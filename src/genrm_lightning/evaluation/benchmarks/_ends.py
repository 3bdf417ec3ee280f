"""Ends of the interval of a weighted sum of cells: a bootstrap's, widened by what it cannot see.

Where all outcomes of a cell are alike (all right, say) each draw has the same mean, so the bootstrap says that the cell
is known exactly. For a share Wilson's interval says how far off it may be: at as many trials as the cell has clusters,
if they weigh alike, else at L. Kish's effective number ``(sum_g w_g)² / sum_g w_g²`` ("Survey Sampling", 1965), of
which :func:`~genrm_lightning.evaluation.intervals.effective_n` is the case of equal weights. That distance and the
bootstrap's, which sees the other cells, are joined as the root of the sum of their squares (G. Zou, A. Donner,
"Construction of confidence limits about effect measures", Statistics in Medicine 27, 2008). Cells that are alike in the
same value count as one, for they may share clusters: where all pairs are right, Wilson's interval results.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import hypot

import numpy as np
from numpy.typing import NDArray

from genrm_lightning.evaluation.intervals import wilson

NO_WIDTH = 1e-9
Floats = NDArray[np.float64]


class Alike:
    """The cells whose outcomes are all equal.

    Args:
        cluster: of each outcome.
        cell: the number of its cell, from 0; each cell has an outcome.
        value: the outcome.
    """

    def __init__(self, cluster: Sequence[str], cell: Sequence[int], value: Sequence[float]) -> None:
        self._cluster, self._cell = np.unique(cluster, return_inverse=True)[1], np.array(cell, dtype=np.int64)
        self._size = np.bincount(self._cell)
        self._low, self._high = np.full(len(self._size), np.inf), np.full(len(self._size), -np.inf)
        np.minimum.at(self._low, self._cell, value)
        np.maximum.at(self._high, self._cell, value)

    def of(self, factors: Floats) -> bool:
        """Whether all cells of a sum are."""
        return bool((self._high - self._low <= NO_WIDTH)[factors > 0].all())

    def unseen(self, factors: Floats) -> tuple[float, float] | None:
        """How far below and above a sum's cells that are alike may truly lie; None where one is no share.

        Args:
            factors: (cells,) of the sum, none negative.
        """
        alike = (factors > 0) & (self._high - self._low <= NO_WIDTH)
        below = above = 0.0
        for value in np.unique(self._low[alike]):
            if not 0 <= value <= 1:
                return None
            chosen = np.where(alike & (self._low == value), factors, 0.0)
            by_cluster = np.bincount(self._cluster, (chosen / self._size)[self._cell])
            weight = float(chosen.sum())
            low, high = wilson(float(value), weight**2 / float((by_cluster**2).sum()))
            below, above = hypot(below, weight * (value - low)), hypot(above, weight * (high - value))
        return below, above


def ends(draws: Floats, factors: Floats, alike: Alike) -> tuple[float, float] | None:
    """(low, high) of a weighted sum, 95 %; None where the draws do not vary, and not because its cells are alike.

    Args:
        draws: (1 + draws,) the sum as observed, and in draws of clusters (NaN: none of its cells was drawn).
        factors: (cells,) of the sum.
    """
    low, high = (float(end) for end in np.nanquantile(draws[1:], [0.025, 0.975]))
    unseen = alike.unseen(factors)
    if unseen is None or (np.nanmax(draws[1:]) - np.nanmin(draws[1:]) <= NO_WIDTH and not alike.of(factors)):
        return None
    score, (below, above) = float(draws[0]), unseen
    if below > 0:
        low = max(score - hypot(max(score - low, 0.0), below), min(0.0, low))
    if above > 0:
        high = min(score + hypot(max(high - score, 0.0), above), max(1.0, high))
    return low, high
