"""Whether a judge is right as often as it is sure: reliability, expected calibration error, Brier score.

A presentation's *confidence* is the probability of the letter that it chooses, ``max(p_a, 1 - p_a)``, in [0.5, 1]. Ten
bins of equal width; a bin's lower end belongs to it. A tie (p_a of exactly 0.5) chooses neither letter: it counts as
half right here, as a coin would be. (In accuracy it is wrong: there nothing that was not chosen is paid for.) Each
response stands once as A, so a judge that always says 0.5 is calibrated, and knows nothing.

Sources: C. Guo et al., "On calibration of modern neural networks", arXiv 1706.04599, equations 2 and 3 (reliability,
ECE); G. Brier, "Verification of forecasts expressed in terms of probability" (1950). The ECE of a finite sample is too
large in the mean (J. Bröcker, "Estimating reliability and resolution of probability forecasts through decomposition of
the empirical score", 2012), above 0 for a calibrated judge too: :func:`null_eces` says how large it comes out there
(the consistency resampling of J. Bröcker, L. Smith, "Increasing the reliability of reliability diagrams", 2007).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from data_tools.order import hash64
from genrm_lightning.evaluation.intervals import effective_n, wilson
from genrm_lightning.evaluation.outcomes import Floats, Outcomes

N_BINS = 10
N_NULL = 1000
_AT_ONCE = 64  # draws of labels for all pairs that are held at a time


def confidence(own: Outcomes) -> Floats:
    """(n, 2) the probability of the chosen letter."""
    return np.maximum(own.p_a, 1 - own.p_a)


def hits(own: Outcomes) -> Floats:
    """(n, 2) 1 where the right response is chosen, 0.5 at a tie."""
    return own.right + 0.5 * own.tie


def brier(own: Outcomes) -> Floats:
    """(n,) ``(1 - p_right)²`` in the mean over the orders: the binary form, in [0, 1]; 0.25 for always 0.5."""
    return ((1 - own.p_right) ** 2).mean(1)


def gaps(own: Outcomes) -> Floats:
    """(n, N_BINS): a pair's part in each bin of ``share right - mean confidence``, summed over orders, halved.

    ``ECE = sum_bins |sum_pairs gaps| / n``: a function of sums over pairs, so that a bootstrap need not bin again.
    """
    given = (hits(own) - confidence(own)) / 2
    return np.stack([np.where(_bins(own) == number, given, 0.0).sum(1) for number in range(N_BINS)], axis=1)


def null_eces(own: Outcomes, n_draws: int = N_NULL) -> Floats:
    """(n_draws,) the ECEs of the set if the judge were calibrated: labels are drawn from its own confidences.

    A pair has one label for both orders, "the response that the judge prefers in the mean of the orders is the better
    one": it is true where a number u, uniform on [0, 1], is below the probability that the order gives to that
    response. So each order is calibrated, and where both say the same their labels are the same. Labels of a cluster
    are as alike as its outcomes are: a pair takes its cluster's u in place of its own with a probability ``sqrt(r)``,
    so two of them share one with ``r``, the correlation of the residuals within clusters (:func:`_alikeness`).

    The same at every call with as many pairs.
    """
    n, tie, sure, bins = len(own), own.tie, confidence(own), _bins(own)
    right = own.p_right
    prefers_right = right.mean(1, keepdims=True) > 0.5
    p = np.where(prefers_right, right, 1 - right).astype(np.float32)  # of the response preferred on the whole
    inside = [(bins[:, [order]] == np.arange(N_BINS)).astype(np.float32) for order in (0, 1)]
    expected = sum(sure[:, order] @ inside[order] for order in (0, 1))
    n_clusters, share = int(own.cluster.max()) + 1, np.float32(_alikeness(own) ** 0.5)
    generator = np.random.Generator(np.random.Philox(key=hash64("calibrated", str(n))))
    found = []
    for start in range(0, n_draws, _AT_ONCE):
        size = min(_AT_ONCE, n_draws - start)
        u = generator.random((size, n), dtype=np.float32)
        if share > 0:
            of_cluster = generator.random((size, n_clusters), dtype=np.float32)[:, own.cluster]
            u = np.where(generator.random((size, n), dtype=np.float32) < share, of_cluster, u)
        sums = -expected
        for order in (0, 1):
            # Right where the label is true and the order too chooses that response, or neither.
            hit = ((u < p[:, order]) == (p[:, order] > 0.5)).astype(np.float32)
            hit[:, tie[:, order]] = 0.5
            sums = sums + hit @ inside[order]
        found.append(np.abs(sums).sum(1) / (2 * n))
    return np.concatenate(found)


def reliability(own: Outcomes) -> list[dict[str, Any]]:
    """A row for each bin that holds a presentation, the unsure ones first.

    Returns:
        low, high: of the bin; mean_p: mean confidence; share_right (ties half) with share_low and share_high, its
        clustered 95 % interval; n: presentations.
    """
    bins, sure, right = _bins(own), confidence(own), hits(own)
    cluster = np.repeat(own.cluster[:, None], 2, axis=1)
    rows = []
    for number in range(N_BINS):
        inside = bins == number
        if not inside.any():
            continue
        share = float(right[inside].mean())
        # Both orders of a pair may lie in one bin: its cluster holds them together.
        low, high = wilson(share, effective_n(right[inside], cluster[inside], per_pair=1))
        rows.append(
            {
                "low": 0.5 + number / (2 * N_BINS),
                "high": 0.5 + (number + 1) / (2 * N_BINS),
                "mean_p": float(sure[inside].mean()),
                "share_right": share,
                "share_low": low,
                "share_high": high,
                "n": int(inside.sum()),
            }
        )
    return rows


def _alikeness(own: Outcomes) -> float:
    """The correlation of ``hit - confidence`` of two pairs of one cluster, cut to [0, 1]; 0 without such pairs.

    By moments: the sum of products over such pairs, divided by that of their standard deviations.
    """
    sure = confidence(own)
    residual = (hits(own) - sure).mean(1)
    deviation = np.where(own.tie, 0.0, np.sqrt(sure * (1 - sure))).mean(1)
    products, most = (
        (np.bincount(own.cluster, values) ** 2).sum() - (values**2).sum() for values in (residual, deviation)
    )
    return float(np.clip(products / most, 0.0, 1.0)) if most > 1e-9 else 0.0


def _bins(own: Outcomes) -> np.ndarray:
    """(n, 2) the number of each presentation's bin."""
    edges = 0.5 + np.arange(1, N_BINS) / (2 * N_BINS)
    return np.searchsorted(edges, confidence(own), side="right")
