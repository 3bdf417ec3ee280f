"""Whether a judge is right as often as it is sure: reliability, expected calibration error, Brier score.

A presentation's *confidence* is the probability of the letter that it chooses, ``max(p_a, 1 - p_a)``, in [0.5, 1]. Ten
bins of equal width; a bin's lower end belongs to it. A tie (p_a of exactly 0.5) chooses neither letter: it counts as
half right here, as a coin would be. (In accuracy it is wrong: there nothing that was not chosen is paid for.) Each
response stands once as A, so a judge that always says 0.5 is calibrated, and knows nothing.

Sources: C. Guo et al., "On calibration of modern neural networks", arXiv 1706.04599, equations 2 and 3 (reliability,
ECE); G. Brier, "Verification of forecasts expressed in terms of probability" (1950). The ECE of a finite sample is too
large in the mean (J. Bröcker, "Estimating reliability and resolution of probability forecasts through decomposition of
the empirical score", 2012): compare it between judges on the same set.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from genrm_lightning.evaluation.intervals import effective_n, wilson
from genrm_lightning.evaluation.outcomes import Floats, Outcomes

N_BINS = 10


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


def _bins(own: Outcomes) -> np.ndarray:
    """(n, 2) the number of each presentation's bin."""
    edges = 0.5 + np.arange(1, N_BINS) / (2 * N_BINS)
    return np.searchsorted(edges, confidence(own), side="right")
