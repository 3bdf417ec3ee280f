"""How far a judge's labels can be trusted: its agreement with people, at each confidence.

A label below a confidence is not given. *Coverage* is the share of pairs that get one, *agreement* the share of these
on which judge and people choose the same response (1 - risk of Geifman and El-Yaniv, arXiv 1705.08500), with Wilson's
interval over prompts (:mod:`~genrm_lightning.evaluation.intervals`). What held-out pairs promise holds for pairs like
them: of the same kind, judged by the same judge in the same way.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import polars as pl

from data_tools.errors import UserError
from genrm_lightning.evaluation.intervals import clustered_interval
from genrm_lightning.evaluation.scores import clusters
from genrm_lightning.evaluation.voting import verdicts

CONFIDENCES = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 0.99)
LEAST = 20  # pairs behind an agreement that a threshold is chosen by


@dataclass(frozen=True)
class Promise:
    """What labels of at least this confidence are worth, on held-out pairs.

    Attributes:
        confidence: the least p of a label.
        coverage: share of pairs that get a label; those of exactly one half never do.
        n_pairs: that get one.
        agreement, low, high: with people, and its 95 % interval; None where no pair gets one.
    """

    confidence: float
    coverage: float
    n_pairs: int
    agreement: float | None
    low: float | None
    high: float | None

    def as_dict(self) -> dict[str, Any]:
        """The same as plain values for JSON."""
        return asdict(self)


def promises(
    judgments: pl.DataFrame, people: pl.DataFrame, confidences: tuple[float, ...] = CONFIDENCES
) -> list[Promise]:
    """Coverage and agreement at each confidence.

    Args:
        judgments: JUDGMENT rows, both orders.
        people: PREFERENCE rows of the same pairs, as people labelled them; others are passed over.

    Raises:
        ValueError: no pair is in both tables; as :func:`~genrm_lightning.evaluation.voting.verdicts`.
    """
    table = _compared(judgments, people)
    return [_promise(table, confidence) for confidence in confidences]


def least_confidence(judgments: pl.DataFrame, people: pl.DataFrame, agreement: float) -> Promise:
    """The lowest confidence whose agreement is at least this, its interval's lower end taken; at 20 pairs or more.

    Every p of the held-out pairs is tried, from 0.5 on: the first one from which on all that follow hold, so that a
    lucky threshold among poor ones is not taken.

    Raises:
        UserError: none does; says how far the judge comes.
    """
    if not 0.5 <= agreement < 1:
        raise UserError(f"--agreement: {agreement} is not in [0.5, 1)")
    table = _compared(judgments, people)
    tried = np.unique(np.quantile(table["p"], np.linspace(0, 1, 101), method="higher").clip(0.5))
    found = [one for one in (_promise(table, float(c)) for c in tried) if one.n_pairs >= LEAST]
    held = None
    for one in reversed(found):
        if one.low < agreement:
            break
        held = one
    if held is None:
        best = max(found, key=lambda one: one.low, default=None)
        far = f"the best is {best.low:.1%} at {best.confidence:.3f}" if best else f"there are fewer than {LEAST} pairs"
        raise UserError(
            f"--agreement: {agreement:g} is not shown by the held-out pairs at any confidence ({far}); "
            "ask for less, or train a better judge"
        )
    return held


def _compared(judgments: pl.DataFrame, people: pl.DataFrame) -> pl.DataFrame:
    """p (of the response that the judge chooses), right (1, 0; 0.5 at one half) and cluster of the pairs in both."""
    table = verdicts(judgments).join(clusters(people), on="pair_id", how="inner", maintain_order="left")
    if table.is_empty():
        raise ValueError("expected judgments of the labelled pairs, got none of them")
    p = pl.col("p_chosen")
    return table.select("cluster", p=pl.max_horizontal(p, 1 - p), right="soft")


def _promise(table: pl.DataFrame, confidence: float) -> Promise:
    given = table.filter((pl.col("p") >= confidence) & (pl.col("p") > 0.5))
    share = given.height / table.height
    if given.is_empty():
        return Promise(confidence, share, 0, None, None, None)
    return Promise(confidence, share, given.height, *clustered_interval(given["right"].to_numpy(), given["cluster"]))
