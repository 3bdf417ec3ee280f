"""How sure a number is: intervals for accuracies and for the difference of two judges.

Both orders of one pair are shown to the judge, and their outcomes are correlated: a set of n pairs holds less than 2n
independent presentations. So are the pairs of one prompt. Everything here therefore counts clusters: the pairs that
the caller says belong together (``groups``), each pair by itself where nothing is said.

Near 0 and 1 the spread that is seen says nothing of the spread there is: a judge that was always right shows none.
Both intervals therefore add to the observed clusters one at either extreme, where the spread is estimated.

Sources: E. B. Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22 (1927);
E. Miller, "Adding error bars to evals", arXiv 2411.00640 (clustered standard errors, paired differences);
D. G. Bonett, R. M. Price, "Adjusted Wald confidence interval for a difference of binomial proportions based on paired
data", Journal of Educational and Behavioral Statistics 37 (2012) (the two added pairs).
"""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray


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
    z = _quantile(confidence)
    centre = p + z * z / (2 * n)
    half = z * sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    # At p = 0 the lower end is exactly 0 (and 1 at p = 1): rounding must not carry it across.
    return max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale)


def effective_n(pair_means: ArrayLike, groups: Sequence[Any] | None = None, per_pair: int = 2) -> float:
    """The number of independent trials that a clustered set is worth.

    In the limit ``p(1-p) / se²`` with Miller's clustered standard error ``se² = sum_g (sum_{i in g} (x_i - p))² / n²``.
    Both p and se are estimated with two more clusters, one all wrong and one all right, each of ``m`` pairs, where
    ``m = sum_g n_g² / n`` is the size of the cluster in which a pair lies on average:

    ``n_eff = n (n + 2m) p'(1-p') / (sum_g (sum_{i in g} (x_i - p'))² + m²((1-p')² + p'²))``

    with ``p' = (n p + m) / (n + 2m)``, clipped to [n/m, per_pair n]. Single pairs whose two orders always agree give
    n, many pairs with two independent orders nearly 2n. Orders that disagree more often than chance (a judge that
    always says A: every pair is half right) would give more, which is not claimed. Where all is right or all is wrong
    nothing is seen of the correlation: n/m results, the number of clusters if they are of equal size.

    Args:
        pair_means: (n,) the share of a pair's presentations that are right, each in [0, 1].
        groups: (n,) equal for pairs of one cluster; None: every pair is one.
        per_pair: presentations a pair.

    Raises:
        ValueError: no pairs, not one-dimensional, a value that is NaN or outside [0, 1], or groups of another length.
    """
    means = _shares(pair_means, "pair means")
    members = _members(groups, len(means))
    n, m = len(means), _typical_size(members)
    p = (float(means.sum()) + m) / (n + 2 * m)
    spread = _squared_sums(means - p, members) + m * m * ((1 - p) ** 2 + p**2)
    return min(max(n * (n + 2 * m) * p * (1 - p) / spread, n / m), float(per_pair * n))


def clustered_interval(
    pair_means: ArrayLike, groups: Sequence[Any] | None = None, confidence: float = 0.95
) -> tuple[float, float, float]:
    """(mean, low, high): the mean over pairs with Wilson's interval at the effective sample size.

    Raises:
        ValueError: as :func:`effective_n` does.
    """
    means = _shares(pair_means, "pair means")
    # Of a thousand ones too: a mean above 1 by rounding is no share.
    p = min(float(means.mean()), 1.0)
    return p, *wilson(p, effective_n(means, groups), confidence)


def paired_difference(
    first: ArrayLike, second: ArrayLike, groups: Sequence[Any] | None = None, confidence: float = 0.95
) -> Difference:
    """The mean of ``second - first`` over pairs and its interval.

    Both judges' outcomes on one pair, in both orders, are one difference d_i, so the correlation of the orders and
    that of the judges (the same pairs are hard for both) are kept; the second narrows the interval against that of
    two separate sets. The interval is Bonett's and Price's, for clusters: to those observed, two are added, one that
    is better throughout (d = 1) and one that is worse (d = -1), each of ``m = sum_g n_g² / n`` pairs, and

    ``D' ± z sqrt(sum_g (sum_{i in g} (d_i - D'))² + m²((1-D')² + (1+D')²)) / (n + 2m)``, ``D'`` = n D / (n + 2m),

    cut to [-1, 1]. With single pairs and one order it is theirs exactly. The two keep a width where every pair
    changed alike, of which a bootstrap sees none; D lies always within.

    Args:
        first, second: (n,) the judges' pair means in the same order of pairs, each in [0, 1].
        groups: (n,) equal for pairs of one cluster; None: every pair is one.

    Raises:
        ValueError: no pairs, different lengths, a value that is NaN or outside [0, 1], or confidence outside (0, 1).
    """
    before, after = _shares(first, "first judge's pair means"), _shares(second, "second judge's pair means")
    if len(before) != len(after):
        raise ValueError(f"expected the same pairs for both judges, got {len(before)} and {len(after)}")
    z = _quantile(confidence)
    difference = after - before
    members = _members(groups, len(difference))
    n, m = len(difference), _typical_size(members)
    centre = float(difference.sum()) / (n + 2 * m)
    spread = _squared_sums(difference - centre, members) + m * m * ((1 - centre) ** 2 + (1 + centre) ** 2)
    half = z * sqrt(spread) / (n + 2 * m)
    return Difference(float(difference.mean()), max(-1.0, centre - half), min(1.0, centre + half))


def _quantile(confidence: float) -> float:
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"expected a confidence in (0, 1), got {confidence}")
    return NormalDist().inv_cdf((1 + confidence) / 2)


def _members(groups: Sequence[Any] | None, n: int) -> NDArray[np.int64]:
    """(n,) the number of each pair's cluster, from 0."""
    if groups is None:
        return np.arange(n)
    if len(groups) != n:
        raise ValueError(f"expected a group for each of {n} pairs, got {len(groups)}")
    if isinstance(groups, np.ndarray) and groups.dtype.kind in "iu":
        return np.unique(groups, return_inverse=True)[1]
    numbers: dict[Any, int] = {}
    return np.array([numbers.setdefault(group, len(numbers)) for group in groups], dtype=np.int64)


def _typical_size(members: NDArray[np.int64]) -> float:
    """The mean over pairs of the size of their cluster."""
    return float((np.bincount(members).astype(np.float64) ** 2).sum() / len(members))


def _squared_sums(residuals: NDArray[np.float64], members: NDArray[np.int64]) -> float:
    return float((np.bincount(members, weights=residuals) ** 2).sum())


def _shares(values: ArrayLike, what: str) -> NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or len(array) == 0:
        raise ValueError(f"expected the {what} as a non-empty vector, got shape {array.shape}")
    # Written so that NaN fails too.
    if not ((array >= 0.0) & (array <= 1.0)).all():
        raise ValueError(f"expected the {what} in [0, 1], got {array.min()} to {array.max()}")
    return array
