"""How sure a number is: intervals for accuracies and for the difference of two judges.

Both orders of one pair are shown to the judge, and their outcomes are correlated: a set of n pairs holds less than 2n
independent presentations. Everything here therefore counts pairs (the clusters), never presentations.

Sources: E. B. Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22 (1927);
E. Miller, "Adding error bars to evals", arXiv 2411.00640 (clustered standard errors, paired differences).
"""

from __future__ import annotations

from math import sqrt
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

RESAMPLES = 10_000
# Bootstrap resamples are drawn in blocks of at most this many numbers (32 MiB), however many pairs there are.
_BLOCK = 1 << 22


class Difference(NamedTuple):
    """Second judge minus first, on the same pairs, with its interval; fractions."""

    diff: float
    low: float
    high: float


def wilson(p: float, n: float, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of a proportion.

    ``(p + z²/2n ± z sqrt(p(1-p)/n + z²/4n²)) / (1 + z²/n)`` with z the normal quantile at (1 + confidence)/2. Unlike
    the textbook ``p ± z sqrt(p(1-p)/n)`` it stays within [0, 1] and has a width at p = 0 and p = 1.

    Args:
        p: the observed share, in [0, 1].
        n: the number of independent trials; for clustered data, :func:`effective_n`, which need not be whole.

    Returns:
        (low, high), in [0, 1].

    Raises:
        ValueError: p outside [0, 1], n not above 0, or confidence outside (0, 1).

    >>> low, high = wilson(0.5, 100)
    >>> f"{low:.4f} {high:.4f}"
    '0.4038 0.5962'
    """
    if not 0.0 <= p <= 1.0:
        raise ValueError(f"expected a share p in [0, 1], got {p}")
    if not n > 0:
        raise ValueError(f"expected a number of trials n above 0, got {n}")
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"expected a confidence in (0, 1), got {confidence}")
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    centre = p + z * z / (2 * n)
    half = z * sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    # At p = 0 the lower end is exactly 0 (and 1 at p = 1): rounding must not carry it across.
    return max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale)


def effective_n(pair_means: ArrayLike, per_pair: int = 2) -> float:
    """The number of independent trials that a clustered set is worth.

    ``n_eff = n_pairs p(1-p) / var(pair means)``, var with divisor n_pairs, clipped to [n_pairs, per_pair n_pairs].
    Then ``p(1-p)/n_eff`` is the squared clustered standard error of Miller for clusters of equal size.
    Two orders that always agree give n_pairs, two independent ones 2 n_pairs. Orders that disagree more often than
    chance (a judge that always says A: every pair is half right) would give more, which is not claimed. At p = 0 or 1
    nothing is seen of the correlation, so n_pairs is assumed.

    Args:
        pair_means: (n_pairs,) the share of a pair's presentations that are right, each in [0, 1].
        per_pair: presentations a pair.

    Raises:
        ValueError: no pairs, not one-dimensional, or a value that is NaN or outside [0, 1].
    """
    means = _shares(pair_means, "pair means")
    n = len(means)
    p = float(means.mean())
    if p in (0.0, 1.0):
        return float(n)
    variance = float(means.var())
    most = float(per_pair * n)
    return most if variance == 0.0 else min(max(n * p * (1 - p) / variance, float(n)), most)


def clustered_interval(pair_means: ArrayLike, confidence: float = 0.95) -> tuple[float, float, float]:
    """(mean, low, high): the mean over pairs with Wilson's interval at the effective sample size.

    Raises:
        ValueError: as :func:`effective_n` does.
    """
    means = _shares(pair_means, "pair means")
    p = float(means.mean())
    return p, *wilson(p, effective_n(means), confidence)


def paired_bootstrap(
    first: ArrayLike,
    second: ArrayLike,
    resamples: int = RESAMPLES,
    seed: int = 0,
    confidence: float = 0.95,
) -> Difference:
    """The mean of ``second - first`` over pairs and its percentile bootstrap interval.

    Whole pairs are drawn with replacement, with both judges' outcomes in both orders, so the correlation of the
    orders and that of the judges (the same pairs are hard for both) are kept; the second narrows the interval against
    that of two separate sets. A resample of n pairs is drawn as how often each distinct difference occurs in it
    (multinomial): the same distribution as drawing the pairs one by one, and much cheaper, as there are few values.

    If every pair differs by the same amount, the interval has no width: a bootstrap cannot show what it never saw.

    Args:
        first, second: (n_pairs,) the judges' pair means in the same order of pairs, each in [0, 1].
        resamples: bootstrap resamples; the ends vary by about 1 % of the width at 10,000.
        seed: of numpy's default generator; the same inputs and seed give the same interval.

    Raises:
        ValueError: no pairs, different lengths, a value that is NaN or outside [0, 1], or resamples below 1.
    """
    before, after = _shares(first, "first judge's pair means"), _shares(second, "second judge's pair means")
    if len(before) != len(after):
        raise ValueError(f"expected the same pairs for both judges, got {len(before)} and {len(after)}")
    if resamples < 1:
        raise ValueError(f"expected at least 1 resample, got {resamples}")
    difference = after - before
    n = len(difference)
    values, counts = np.unique(difference, return_counts=True)
    generator = np.random.default_rng(seed)
    block = max(1, _BLOCK // len(values))
    means = np.concatenate(
        [
            generator.multinomial(n, counts / n, size=min(block, resamples - start)) @ values / n
            for start in range(0, resamples, block)
        ]
    )
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Difference(float(difference.mean()), float(low), float(high))


def _shares(values: ArrayLike, what: str) -> NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or len(array) == 0:
        raise ValueError(f"expected the {what} as a non-empty vector, got shape {array.shape}")
    # Written so that NaN fails too.
    if not ((array >= 0.0) & (array <= 1.0)).all():
        raise ValueError(f"expected the {what} in [0, 1], got {array.min()} to {array.max()}")
    return array
