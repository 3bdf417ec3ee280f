"""Accuracy against the distance from the training set: the key "shift" of scores.json.

Distances come from :mod:`data_tools.shift` (words) or from anything else that gives each pair a number, larger for
farther. Spearman's rank correlation with a pair's accuracy is negative where a judge is worse on what is far. A pair's
accuracy is 0, a half or 1, so ranks are midranks, and even a perfect order does not reach -1. Over several categories
it is a correlation of categories too, and what is far may be hard for other reasons: they stand beside it.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from genrm_lightning.evaluation.bootstrap import Draws, Floats, percentiles
from genrm_lightning.evaluation.intervals import clustered_interval
from genrm_lightning.evaluation.outcomes import outcomes
from genrm_lightning.evaluation.scores import without
from genrm_lightning.evaluation.slices import groups

N_BINS = 8


def shift(
    judgments: pl.DataFrame,
    preferences: pl.DataFrame,
    distances: pl.DataFrame,
    *,
    train: str,
    dropped: Collection[str] = (),
    n_bins: int = N_BINS,
) -> dict[str, Any]:
    """How a judge's accuracy goes with the distance of a pair from the training set.

    Args:
        judgments: JUDGMENT rows of one judge on one set: both orders of every pair.
        preferences: the PREFERENCE rows of that set.
        distances: ``pair_id`` and ``distance`` of every judged pair, perhaps of others.
        train: what the distances were measured from, as it is to be named.
        dropped: ids of pairs that were not judged.
        n_bins: quantiles of the distance; fewer result where many distances are equal.

    Returns:
        train; bins: low and high (smallest and largest distance in it), n_pairs, accuracy with accuracy_low and
        accuracy_high (clustered Wilson), the nearest first; spearman of distance and accuracy over pairs, with
        spearman_low and spearman_high (percentile bootstrap over clusters), None where one of the two is constant;
        categories: name, distance (mean), accuracy, accuracy_low, accuracy_high, n_pairs, the nearest first.

    Raises:
        ValueError: a judged pair without a distance or with one that is no number, twice a pair in the distances,
            ``n_bins`` below 1, or as in :func:`~.outcomes.outcomes`.
    """
    if n_bins < 1:
        raise ValueError(f"expected at least 1 bin, got n_bins={n_bins}")
    judged = without(preferences, dropped)
    own = outcomes(judgments, judged)
    ids = pl.DataFrame({"pair_id": pl.Series(own.pair_ids.tolist(), dtype=pl.String)})
    known = ids.join(distances.select("pair_id", "distance"), on="pair_id", how="left", maintain_order="left")
    if known.height != len(own):
        raise ValueError(f"expected one distance for each pair, got {known.height} of {len(own)} pairs")
    if lacking := known.filter(~pl.col("distance").is_finite().fill_null(False)).height:
        raise ValueError(f"expected a distance for each of {len(own)} judged pairs, got none for {lacking}")
    distance, accuracy = known["distance"].cast(pl.Float64).to_numpy(), own.accuracy

    def row(rows: NDArray[np.int64]) -> dict[str, Any]:
        mean, low, high = clustered_interval(accuracy[rows], own.cluster[rows])
        return {"n_pairs": len(rows), "accuracy": mean, "accuracy_low": low, "accuracy_high": high}

    edges = np.unique(np.quantile(distance, np.arange(1, n_bins + 1) / n_bins, method="inverted_cdf"))
    bins = np.searchsorted(edges, distance)
    members = [np.flatnonzero(bins == number) for number in range(len(edges))]
    categories = ids.join(judged.select("pair_id", "category"), on="pair_id", how="left", maintain_order="left")
    named = [
        {"name": name, "distance": float(distance[rows].mean()), **row(rows)}
        for name, rows in groups(categories["category"])
    ]
    correlation, low, high = spearman(distance, accuracy, Draws(own.cluster))
    return {
        "train": train,
        "bins": [{"low": float(distance[m].min()), "high": float(distance[m].max()), **row(m)} for m in members],
        "spearman": correlation,
        "spearman_low": low,
        "spearman_high": high,
        "categories": sorted(named, key=lambda category: category["distance"]),
    }


def spearman(first: Floats, second: Floats, draws: Draws) -> tuple[float | None, float | None, float | None]:
    """(correlation, low, high) of the ranks of two vectors (n,), equal values sharing their mean rank.

    The ranks are taken anew in every draw. None where one vector is constant; the ends where it is in half the draws.
    """
    levels = [np.unique(values, return_inverse=True)[1] for values in (first, second)]

    def correlation(weights: Floats) -> float:
        x, y = (_midranks(level, weights) for level in levels)
        total = weights.sum()
        x, y = x - weights @ x / total, y - weights @ y / total
        scale = float(weights @ (x * x)) * float(weights @ (y * y))
        return float(weights @ (x * y)) / scale**0.5 if scale > 0 else np.nan

    if any(level.max() == 0 for level in levels):
        return None, None, None
    ends = percentiles(np.array([correlation(weights) for weights in draws.weights()]))
    return correlation(np.ones(len(first))), *(ends or (None, None))


def _midranks(level: NDArray[np.int64], weights: Floats) -> Floats:
    """(n,) the mean place of each value among all, where pair i stands ``weights[i]`` times."""
    held = np.bincount(level, weights)
    return (held.cumsum() - held / 2)[level]
