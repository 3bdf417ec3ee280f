"""The percentile bootstrap over clusters: intervals for numbers that are no mean of pairs (ECE, AUROC, kappa).

Whole clusters (:func:`~genrm_lightning.evaluation.scores.clusters`) are drawn with replacement, as many as there are,
so pairs of one prompt stay together. A draw is held as how often it has each cluster: a number that is a function of
sums over pairs is then a product of matrices for all draws at once, and no table is copied.

A bootstrap sees only what was seen: where every pair is right each draw is, and the percentiles have no width. That is
no interval, and none is given. For shares of pairs Wilson's (:mod:`~genrm_lightning.evaluation.intervals`) stands
beside, which does not have that fault.

Sources: B. Efron, R. Tibshirani, "An Introduction to the Bootstrap" (1993), chapters 13 (percentiles) and 8.6 (drawing
the independent units); A. Davison, D. Hinkley, "Bootstrap Methods and their Application" (1997), 3.8 (clusters), 5.2
(the basic interval).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from data_tools.order import hash64

N_DRAWS = 1000
NO_WIDTH = 1e-6  # draws that lie no further apart differ by rounding: p_a is a float32
_AT_ONCE = 64  # draws that are multiplied at a time: their counts are floats then
Floats = NDArray[np.float64]


class Draws:
    """``n_draws`` bootstrap samples of the clusters of n pairs; the same at every call with as many clusters.

    Args:
        members: (n,) the number of each pair's cluster, from 0 without gaps.
        n_draws: how many samples.

    Raises:
        ValueError: no pairs, or not one-dimensional.
    """

    def __init__(self, members: NDArray[np.int64], n_draws: int = N_DRAWS) -> None:
        if members.ndim != 1 or not len(members):
            raise ValueError(f"expected the cluster of at least one pair, got shape {members.shape}")
        self.members = members
        self.n_clusters = int(members.max()) + 1
        generator = np.random.Generator(np.random.Philox(key=hash64("bootstrap", str(self.n_clusters))))
        # A cluster is drawn once in the mean; 65,536 times does not happen.
        self.counts = np.empty((n_draws, self.n_clusters), dtype=np.uint16)
        for row in self.counts:
            row[:] = np.bincount(generator.integers(self.n_clusters, size=self.n_clusters), minlength=self.n_clusters)

    def sums(self, values: Floats) -> Floats:
        """(n_draws, F) of (n, F): each column summed over the pairs of each draw."""
        by_cluster = np.stack([np.bincount(self.members, column, self.n_clusters) for column in values.T], axis=1)
        parts = [
            self.counts[start : start + _AT_ONCE].astype(np.float64) @ by_cluster
            for start in range(0, len(self.counts), _AT_ONCE)
        ]
        return np.concatenate(parts)

    def weights(self) -> Iterator[Floats]:
        """For each draw (n,): how often it has each pair."""
        for row in self.counts:
            yield row.astype(np.float64)[self.members]


def percentiles(drawn: Floats, confidence: float = 0.95) -> tuple[float, float] | None:
    """(low, high) of the draws' values, those that are none (NaN) left out.

    None where half of them are, or where no two differ: nothing was seen of the spread then.
    """
    defined = drawn[~np.isnan(drawn)]
    if 2 * len(defined) <= len(drawn):
        return None
    if np.ptp(defined) <= NO_WIDTH:
        return None
    low, high = np.quantile(defined, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def basic(
    value: float, drawn: Floats, bounds: tuple[float, float], confidence: float = 0.95
) -> tuple[float, float] | None:
    """(low, high) of a number that is too large, or too small, in a finite sample: the percentiles, mirrored at it.

    Right where the draws lie as much further off than ``value`` as it does itself: ``2 value - percentile`` takes that
    away. That holds for smooth functions of means. A sum of ``|.|`` near its kink (the ECE of a judge that is nearly
    calibrated) is further off itself than its draws are from it, and the whole interval lies too high: there the low
    end needs a test of its own (:func:`~.sums.intervals`).

    Cut to ``bounds``; ``value`` itself is always inside. None as in :func:`percentiles`.
    """
    found = percentiles(drawn, confidence)
    if found is None:
        return None
    first, last = (float(np.clip(2 * value - end, *bounds)) for end in reversed(found))
    return min(first, value), max(last, value)
