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
LEAST = 20  # pairs behind an agreement that a confidence is chosen by
_TRIED = 20  # confidences


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
    judgments: pl.DataFrame, people: pl.DataFrame, confidences: tuple[float, ...] = CONFIDENCES, tie: float = 0.0
) -> list[Promise]:
    """Coverage and agreement at each confidence.

    Args:
        judgments: JUDGMENT rows, both orders.
        people: PREFERENCE rows of the same pairs, as people labelled them; others are passed over.
        tie: p − 0.5 up to which a pair is a tie, which gets no label.

    Raises:
        ValueError: no pair is in both tables; as :func:`~genrm_lightning.evaluation.voting.verdicts`.
    """
    table = _compared(judgments, people)
    return [_promise(table, confidence, tie) for confidence in confidences]


def least_confidence(judgments: pl.DataFrame, people: pl.DataFrame, agreement: float, tie: float = 0.0) -> Promise:
    """The lowest confidence at which held-out pairs show this agreement, however many confidences are tried.

    Tried are those that label 5, 10, ... 100 % of the pairs, 20 or more. One shows the agreement where the lower end
    of its interval is at least that, each interval at a level of 1 - 0.05/20, so that all twenty hold together
    (Bonferroni; as SGR of Geifman and El-Yaniv, arXiv 1705.08500, section 3): none is taken for its luck.

    Returns:
        The promise at that confidence, with the interval at that level: the plain one would be of a number that was
        chosen for being high.

    Raises:
        UserError: none does; says how far the judge comes.
    """
    if not 0.5 <= agreement < 1:
        raise UserError(f"--agreement: {agreement} is not in [0.5, 1)")
    table = _compared(judgments, people)
    tried = np.unique(np.quantile(table["p"], np.arange(_TRIED) / _TRIED, method="higher"))
    found = [_promise(table, float(c), tie, 1 - 0.05 / _TRIED) for c in tried]
    enough = [one for one in found if one.n_pairs >= LEAST]
    held = min((one for one in enough if one.low >= agreement), key=lambda one: one.confidence, default=None)
    if held is None:
        best = max(enough, key=lambda one: one.low, default=None)
        far = f"{best.low:.1%} at {best.confidence:.3f} is the most" if best else f"there are fewer than {LEAST}"
        raise UserError(
            f"--agreement: {agreement:g} is not shown by the held-out pairs at any confidence ({far}); "
            "ask for less, name more pairs, or train a better judge"
        )
    return held


def _compared(judgments: pl.DataFrame, people: pl.DataFrame) -> pl.DataFrame:
    """p (of the response that the judge chooses), right (1, 0; 0.5 at one half) and cluster of the pairs in both."""
    table = verdicts(judgments).join(clusters(people), on="pair_id", how="inner", maintain_order="left")
    if table.is_empty():
        raise ValueError("expected judgments of the labelled pairs, got none of them")
    p = pl.col("p_chosen")
    return table.select("cluster", p=pl.max_horizontal(p, 1 - p), right="soft")


def _promise(table: pl.DataFrame, confidence: float, tie: float = 0.0, level: float = 0.95) -> Promise:
    given = table.filter((pl.col("p") >= confidence) & (pl.col("p") - 0.5 > tie))
    share = given.height / table.height
    if given.is_empty():
        return Promise(confidence, share, 0, None, None, None)
    interval = clustered_interval(given["right"].to_numpy(), given["cluster"], level)
    return Promise(confidence, share, given.height, *interval)
