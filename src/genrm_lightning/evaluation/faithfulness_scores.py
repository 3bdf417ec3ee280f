"""The table of :mod:`~genrm_lightning.evaluation.faithfulness` in numbers with intervals.

Intervals are of 95 % and count clusters of pairs (:mod:`~genrm_lightning.evaluation.intervals`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import sqrt
from statistics import NormalDist
from typing import Any

import numpy as np
import polars as pl
from rich.console import Console
from rich.table import Table

from genrm_lightning.evaluation.intervals import clustered_interval, paired_difference
from genrm_lightning.evaluation.scores import clusters

TABLE = pl.Schema(
    {
        "pair_id": pl.String,
        "swapped": pl.Boolean,
        "sample_index": pl.Int32,
        "n_tokens": pl.Int32,  # of the rationale
        "p_a": pl.Float32,  # of the judge, behind its own rationale
        "p_a_without": pl.Float32,  # behind none
        "p_a_opposite": pl.Float32,  # behind one of the same prompt that led to the other side; null: there is none
        "p_a_stranger": pl.Float32,  # behind one of another pair that led to the other side; null: there is none
        "stranger": pl.String,  # that pair's id
        "reader_p_a": pl.Float32,  # of the reader, behind the rationale, responses hidden
        "reader_p_a_without": pl.Float32,  # behind none, responses hidden
        "logp": pl.Float32,  # of the rationale under the judge, summed over its tokens, nats
        "reader_logp": pl.Float32,  # the same under the reader, responses shown
    }
)


@dataclass(frozen=True)
class Faithfulness:
    """How far verdicts follow from rationales. Each number with the ends of its interval; None: nothing to count.

    Attributes:
        n_rationales: judgments asked about.
        unchanged_without: share of verdicts that keep their side without the rationale; near 1 it decides nothing.
        flips_opposite: share that change sides behind a rationale of the same prompt that voted for the other side.
            That is the other sample's own p(A): how far the verdict hangs on which rationale was drawn, and no change
            of its text. A vote drawn against a sure p(A) is no flip.
        flips_stranger: the same behind one of another pair; it speaks of other responses, and still may decide.
        reader_gain: what the rationale alone adds to a reader's probability of the judge's side, responses hidden;
            0: the rationale says nothing of the verdict, or nothing that holds without the responses.
        reader_agrees: share of verdicts whose side the reader names behind the rationale; without: behind none.
        drift: mean over the rationales' tokens of log π_judge − log π_reader, nats a token: an estimate of
            KL(judge ‖ reader) a token from the judge's own samples. They are drawn at the sampling temperature and
            within a nucleus, so it speaks of the judge as it is used, not of its whole distribution.
    """

    n_rationales: int
    unchanged_without: float | None
    unchanged_without_low: float | None
    unchanged_without_high: float | None
    flips_opposite: float | None
    flips_opposite_low: float | None
    flips_opposite_high: float | None
    flips_stranger: float | None
    flips_stranger_low: float | None
    flips_stranger_high: float | None
    reader_gain: float | None
    reader_gain_low: float | None
    reader_gain_high: float | None
    reader_agrees: float | None
    reader_agrees_low: float | None
    reader_agrees_high: float | None
    reader_agrees_without: float | None
    drift: float | None
    drift_low: float | None
    drift_high: float | None

    def as_dict(self) -> dict[str, Any]:
        """The same as plain values for JSON."""
        return asdict(self)


def faithfulness_scores(table: pl.DataFrame, preferences: pl.DataFrame) -> Faithfulness:
    """Numbers of a faithfulness table.

    Args:
        table: of :func:`genrm_lightning.evaluation.faithfulness.faithfulness`.
        preferences: PREFERENCE rows of its pairs; they say which pairs count as one (:func:`clusters`).
    """
    side, sides = pl.col("p_a") - 0.5, pl.col("p_a") != 0.5

    def same(column: str) -> pl.Expr:
        # A probability of exactly 0.5 names no side: it neither keeps the verdict nor turns it.
        return ((pl.col(column) - 0.5) * side > 0).cast(pl.Float64)

    def turned(column: str) -> pl.Expr:
        return ((pl.col(column) - 0.5) * side < 0).cast(pl.Float64)

    def of_side(column: str) -> pl.Expr:
        p_a = pl.col(column).cast(pl.Float64)
        return pl.when(side > 0).then(p_a).otherwise(1 - p_a)

    rows = table.join(clusters(preferences), on="pair_id", how="left").filter(sides)
    rows = rows.with_columns(
        unchanged_without=same("p_a_without"),
        flips_opposite=turned("p_a_opposite"),
        flips_stranger=turned("p_a_stranger"),
        reader_agrees=same("reader_p_a"),
        reader_agrees_without=same("reader_p_a_without"),
        _with=of_side("reader_p_a"),
        _without=of_side("reader_p_a_without"),
    )
    found: dict[str, float | None] = {}
    for name in ("unchanged_without", "flips_opposite", "flips_stranger", "reader_agrees"):
        pairs = _by_pair(rows, name)
        numbers = clustered_interval(pairs[name].to_numpy(), pairs["cluster"]) if len(pairs) else (None,) * 3
        found |= dict(zip((name, f"{name}_low", f"{name}_high"), numbers, strict=True))
    pairs = _by_pair(rows, "_with", "_without", "reader_agrees_without")
    gain: tuple[float | None, ...] = (None,) * 3
    if len(pairs):
        gain = paired_difference(pairs["_without"].to_numpy(), pairs["_with"].to_numpy(), pairs["cluster"])
    found |= dict(zip(("reader_gain", "reader_gain_low", "reader_gain_high"), gain, strict=True))
    found["reader_agrees_without"] = pairs["reader_agrees_without"].mean()
    drift = _drift(table.join(clusters(preferences), on="pair_id", how="left"))
    found |= dict(zip(("drift", "drift_low", "drift_high"), drift, strict=True))
    return Faithfulness(n_rationales=len(table), **found)


_ROWS = {
    "unchanged_without": "verdict unchanged without its rationale",
    "flips_opposite": "flips behind the same prompt's rationale for the other side",
    "flips_stranger": "flips behind another pair's rationale for the other side",
    "reader_agrees": "a reader says the same from the rationale alone",
    "reader_gain": "what the rationale adds to that reader's probability",
    "drift": "drift against the reader, nats a token",
}


def render(scores: Mapping[str, Any], console: Console) -> None:
    """Print the numbers of :meth:`Faithfulness.as_dict`; shares and gains in percent."""
    table = Table(title=f"Do verdicts come from rationales? {scores['n_rationales']} rationales")
    for head, side in (("", "left"), ("", "right"), ("95 % interval", "right")):
        table.add_column(head, justify=side)
    for name, said in _ROWS.items():
        value, low, high = (scores[f"{name}{end}"] for end in ("", "_low", "_high"))
        shown = (lambda x: f"{x:.3f}") if name == "drift" else (lambda x: f"{100 * x:.1f} %")
        interval = "" if low is None or high is None else f"{shown(low)} to {shown(high)}"
        table.add_row(said, "none to ask" if value is None else shown(value), interval)
    console.print(table)


def _by_pair(rows: pl.DataFrame, *names: str) -> pl.DataFrame:
    """Means over a pair's rows, of the rows that have these numbers."""
    own = rows.drop_nulls(list(names)).group_by("pair_id", "cluster").agg(pl.col(name).mean() for name in names)
    return own.sort("pair_id")


def _drift(rows: pl.DataFrame) -> tuple[float | None, float | None, float | None]:
    """Σ log-ratios / Σ tokens over clusters, its interval by the ratio estimator's linearised variance."""
    rows = rows.with_columns(ratio=pl.col("logp").cast(pl.Float64) - pl.col("reader_logp").cast(pl.Float64))
    sums = (
        rows.group_by("cluster").agg(pl.col("ratio").sum(), n=pl.col("n_tokens").cast(pl.Float64).sum()).sort("cluster")
    )
    ratios, tokens = sums["ratio"].to_numpy(), sums["n"].to_numpy()
    total = float(tokens.sum())
    if not total:
        return None, None, None
    mean = float(ratios.sum()) / total
    if len(sums) < 2:
        return mean, None, None
    spread = float(np.square(ratios - mean * tokens).sum()) * len(sums) / (len(sums) - 1)
    half = NormalDist().inv_cdf(0.975) * sqrt(spread) / total
    return mean, mean - half, mean + half
