"""Where a judge is right: by what the pairs are, by how much longer the better response is, by how sure it is."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from data_tools.naive_rules import RULES
from genrm_lightning.evaluation.intervals import clustered_interval, paired_difference
from genrm_lightning.evaluation.outcomes import Floats, Outcomes
from genrm_lightning.evaluation.scores import NO_CATEGORY
from genrm_lightning.evaluation.sums import numbers

COLUMNS = ("category", "subset", "source", "label_kind")
N_LENGTHS = 6
N_COVERAGES = 20


def by_column(own: Outcomes, pairs: pl.DataFrame, probabilities: bool = True) -> dict[str, dict[str, dict[str, Any]]]:
    """For each of ``COLUMNS`` that has a value, and each of its values (null: "(none)"), the numbers of its pairs.

    Args:
        pairs: PREFERENCE rows of exactly the pairs of ``own``, in their order.
        probabilities: whether p_a is meant as one; False: ece is None.

    Returns:
        column -> value -> n_pairs, accuracy with accuracy_low and accuracy_high (clustered Wilson), free_accuracy,
        position_consistency, position_bias, ece. Values in their order.
    """
    known = [name for name in COLUMNS if pairs[name].null_count() < pairs.height]
    return {
        name: {value: _numbers(own.take(rows), probabilities) for value, rows in groups(pairs[name])} for name in known
    }


def groups(column: pl.Series) -> list[tuple[str, NDArray[np.int64]]]:
    """The values of a column in their order, null as "(none)", each with the places of its rows."""
    places = pl.DataFrame({"value": column.cast(pl.String).fill_null(NO_CATEGORY)}).with_row_index("place")
    found = places.group_by("value").agg("place").sort("value")
    return [(value, np.array(rows, dtype=np.int64)) for value, rows in found.iter_rows()]


def by_length(own: Outcomes, pairs: pl.DataFrame, every: pl.DataFrame) -> list[dict[str, Any]]:
    """Accuracy by how many characters the chosen response has more than the rejected one.

    The buckets are ``N_LENGTHS`` quantiles of ``every`` pair of the set, those that a judge could not read among them,
    so that all judges have the same; fewer where many differences are equal.

    Args:
        pairs: PREFERENCE rows of exactly the pairs of ``own``, in their order.
        every: PREFERENCE rows of the set.

    Returns:
        A row a bucket, the shortest chosen responses first: name, low and high (both inclusive; None at the two ends),
        n_pairs, accuracy with low_accuracy and high_accuracy (None in a bucket of which no pair was judged).
    """
    shares = np.arange(1, N_LENGTHS) / N_LENGTHS
    edges = np.unique(np.quantile(_longer_by(every), shares, method="inverted_cdf"))
    edges = edges[edges < _longer_by(every).max()]  # the last bucket holds something
    bucket = np.searchsorted(edges, _longer_by(pairs))
    rows = []
    for number in range(len(edges) + 1):
        low = int(edges[number - 1]) + 1 if number else None
        high = int(edges[number]) if number < len(edges) else None
        inside = np.flatnonzero(bucket == number)
        row: dict[str, Any] = {"name": _range(low, high), "low": low, "high": high, "n_pairs": len(inside)}
        found = _interval(own.take(inside)) if len(inside) else (None, None, None)
        rows.append({**row, **dict(zip(("accuracy", "low_accuracy", "high_accuracy"), found, strict=True))})
    return rows


def longer_wins(own: Outcomes, pairs: pl.DataFrame) -> dict[str, float]:
    """What the rule "the longer response wins" would score on the judged pairs (in characters; as long: half).

    Returns:
        accuracy, low, high: of the rule; diff, diff_low, diff_high: the judge's accuracy minus the rule's, paired.
    """
    points = pairs.select(RULES["longer"].points.cast(pl.Float64) / 2).to_series().to_numpy()
    accuracy, low, high = clustered_interval(points, own.cluster)
    diff, diff_low, diff_high = paired_difference(points, own.accuracy, own.cluster)
    rule = {"accuracy": accuracy, "low": low, "high": high}
    return {**rule, "diff": diff, "diff_low": diff_low, "diff_high": diff_high}


def risk_coverage(own: Outcomes, confidence: Floats) -> list[dict[str, float]]:
    """The error of the pairs that the judge is surest of: at most ``N_COVERAGES`` points in even steps of coverage.

    Risk is one minus the accuracy (:class:`~.scores.SetScores`), so at coverage 1 it is that of the set. Pairs of equal
    confidence are answered together: a point lies at the coverage that is reached, and there are fewer points then.

    Args:
        confidence: (n,) of the pairs; whether it is a probability does not matter.

    Returns:
        coverage, risk, and its clustered 95 % interval risk_low, risk_high, in the order of coverage.
    """
    unsure = -confidence
    thresholds = np.unique(np.quantile(unsure, np.arange(1, N_COVERAGES + 1) / N_COVERAGES, method="inverted_cdf"))
    rows = []
    for threshold in thresholds:
        answered = unsure <= threshold
        accuracy, low, high = _interval(own.take(answered))
        row = {"coverage": float(answered.mean()), "risk": 1 - accuracy}
        rows.append({**row, "risk_low": 1 - high, "risk_high": 1 - low})
    return rows


def pair_confidence(own: Outcomes) -> Floats:
    """(n,) how far the mean over both orders of the right response's probability is from a half: 0 for always A."""
    return np.abs(own.p_right.mean(1) - 0.5)


def _numbers(own: Outcomes, probabilities: bool) -> dict[str, Any]:
    accuracy, low, high = _interval(own)
    found = numbers(own)
    return {
        "n_pairs": len(own),
        "accuracy": accuracy,
        "accuracy_low": low,
        "accuracy_high": high,
        "free_accuracy": found["free_accuracy"],
        "position_consistency": float(own.consistent.mean()),
        "position_bias": float(own.chooses_a.mean()) - 0.5,
        "ece": found["ece"] if probabilities else None,
    }


def _interval(own: Outcomes) -> tuple[float, float, float]:
    return clustered_interval(own.accuracy, own.cluster)


def _longer_by(pairs: pl.DataFrame) -> NDArray[np.int64]:
    chosen, rejected = (pl.col(name).str.len_chars().cast(pl.Int64) for name in ("chosen", "rejected"))
    return pairs.select(chosen - rejected).to_series().to_numpy()


def _range(low: int | None, high: int | None) -> str:
    if low is None and high is None:
        return "any"
    if low is None:
        return f"up to {high:+d}"
    if high is None:
        return f"from {low:+d}"
    return f"{low:+d} to {high:+d}" if low < high else f"{low:+d}"
