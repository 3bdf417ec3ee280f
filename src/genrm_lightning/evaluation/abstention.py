"""What it is worth to leave out the pairs that a judge is unsure of.

A pair's uncertainty is its CoT-entropy (:func:`~genrm_lightning.evaluation.voting.verdicts`). Pairs are answered in the
order of rising uncertainty: *coverage* is the share that is answered, *risk* its mean error (1 - score). Pairs of equal
uncertainty come in no order: each counts with their mean error.

Sources: Y. Geifman, R. El-Yaniv, "Selective classification for deep neural networks", arXiv 1705.08500 (risk and
coverage); Y. Geifman, G. Uziel, R. El-Yaniv, "Bias-reduced uncertainty estimation for deep neural classifiers", arXiv
1805.08206 (AURC).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from data_tools.order import hash64
from genrm_lightning.evaluation.intervals import clustered_interval
from genrm_lightning.evaluation.voting import Floats

COVERAGES = (1.0, 0.9, 0.8, 0.7, 0.5)
_DRAWS = 1000


def risk_coverage(errors: ArrayLike, uncertainty: ArrayLike) -> Floats:
    """(n,) the risk at coverage 1/n, 2/n, ..., 1; its mean is the area under the curve.

    Raises:
        ValueError: no pairs, two lengths, or a NaN.
    """
    errors, uncertainty = _vectors(errors, uncertainty)
    return _risks(errors, np.unique(uncertainty, return_inverse=True)[1])


def aurc(
    errors: ArrayLike, uncertainty: ArrayLike, groups: Sequence[str] | None = None, confidence: float = 0.95
) -> dict[str, float]:
    """The area under the risk-coverage curve: the risk in the mean over all coverages; lower is better.

    Args:
        groups: equal for pairs of one cluster, which a bootstrap draws together; None: every pair is one.

    Returns:
        aurc, and low and high of its percentile bootstrap interval (1,000 draws, the same at every call); best: that
        of the order which leaves the wrong pairs to the end; risk: that of no order at all, the error of all pairs.

    Raises:
        ValueError: as in :func:`risk_coverage`.
    """
    errors, uncertainty = _vectors(errors, uncertainty)
    order = np.argsort(uncertainty, kind="stable")
    errors, ranks = errors[order], np.unique(uncertainty[order], return_inverse=True)[1]
    members = np.arange(len(errors)) if groups is None else np.unique(np.asarray(groups)[order], return_inverse=True)[1]
    clusters = int(members.max()) + 1
    generator = np.random.Generator(np.random.Philox(key=hash64("aurc", str(len(errors)))))
    areas = []
    for _ in range(_DRAWS):
        drawn = np.bincount(generator.integers(clusters, size=clusters), minlength=clusters)[members]
        areas.append(_risks(np.repeat(errors, drawn), np.repeat(ranks, drawn)).mean())
    tail = (1 - confidence) / 2
    low, high = np.quantile(areas, [tail, 1 - tail])
    return {
        "aurc": float(_risks(errors, ranks).mean()),
        "low": float(low),
        "high": float(high),
        "best": float(_risks(np.sort(errors), np.arange(len(errors))).mean()),
        "risk": float(errors.mean()),
    }


def selective(
    scores: ArrayLike, uncertainty: ArrayLike, groups: Sequence[str] | None = None
) -> list[dict[str, float | int]]:
    """Accuracy of the pairs that are answered, a row for each of :data:`COVERAGES`.

    A pair is answered where its uncertainty is at most a threshold: the lowest that answers the stated share or more,
    so that pairs of equal uncertainty are treated alike.

    Returns:
        coverage (stated), covered (reached), threshold, n_pairs, accuracy with the ends of its 95 % interval.

    Raises:
        ValueError: as in :func:`risk_coverage`.
    """
    scores, uncertainty = _vectors(scores, uncertainty)
    rows = []
    for coverage in COVERAGES:
        threshold = float(np.quantile(uncertainty, coverage, method="inverted_cdf"))
        answered = uncertainty <= threshold
        own = None if groups is None else [group for group, kept in zip(groups, answered, strict=True) if kept]
        accuracy, low, high = clustered_interval(scores[answered], own)
        rows.append(
            {
                "coverage": coverage,
                "covered": float(answered.mean()),
                "threshold": threshold,
                "n_pairs": int(answered.sum()),
                "accuracy": accuracy,
                "low": low,
                "high": high,
            }
        )
    return rows


def _risks(errors: Floats, ranks: NDArray[np.int64]) -> Floats:
    """As :func:`risk_coverage`, of whole numbers that rise with the uncertainty."""
    sizes = np.bincount(ranks)
    shared = np.bincount(ranks, weights=errors)[sizes > 0] / sizes[sizes > 0]
    even = np.repeat(shared, sizes[sizes > 0])
    return even.cumsum() / np.arange(1, len(even) + 1)


def _vectors(values: ArrayLike, uncertainty: ArrayLike) -> tuple[Floats, Floats]:
    first, second = np.asarray(values, dtype=np.float64), np.asarray(uncertainty, dtype=np.float64)
    if first.ndim != 1 or first.shape != second.shape or not len(first):
        raise ValueError(f"expected a value and an uncertainty of each pair, got shapes {first.shape}, {second.shape}")
    if np.isnan(first).any() or np.isnan(second).any():
        raise ValueError("expected a number for every pair, got NaN")
    return first, second
