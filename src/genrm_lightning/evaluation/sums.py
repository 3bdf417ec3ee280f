"""The numbers of a set that are functions of sums over its pairs: of all pairs, of a slice, or of a bootstrap's draws.

Each pair has a row of features; :func:`read` turns sums of such rows into the numbers. So a set, its slices and a
thousand draws go through the same few lines.

**Cohen's kappa** (J. Cohen, "A coefficient of agreement for nominal scales", 1960) is the agreement of two raters over
presentations: the label, which says "A is better" or "B is better", and the judge's letter. A tie (p_a of exactly 0.5)
is a third answer of the judge's, which the label never gives: no agreement, and none by chance. With ``p_o`` the
accuracy and ``t`` the share of ties, chance is ``p_e = (1 - t) / 2`` whatever the judge's bias, for each response
stands once as A and the label says A half of the time: ``kappa = (p_o - p_e) / (1 - p_e)``; without ties ``2 p_o - 1``.
"""

from __future__ import annotations

import numpy as np

from genrm_lightning.evaluation.bootstrap import Draws, Floats, basic, percentiles
from genrm_lightning.evaluation.calibration import brier, gaps, null_eces
from genrm_lightning.evaluation.outcomes import Outcomes

NAMES = ("accuracy", "free_accuracy", "ece", "brier", "kappa")


def features(own: Outcomes) -> Floats:
    """(n, F) of each pair."""
    plain = [np.ones(len(own)), own.accuracy, own.free_accuracy, brier(own), own.tie.mean(1)]
    return np.concatenate([np.stack(plain, axis=1), gaps(own)], axis=1)


def read(sums: Floats) -> dict[str, Floats]:
    """The numbers named in ``NAMES``, each (...), of features summed over pairs (..., F)."""
    n, sums = sums[..., 0], sums[..., 1:]
    accuracy, free, squares, ties = (sums[..., i] / n for i in range(4))
    chance = (1 - ties) / 2
    return {
        "accuracy": accuracy,
        "free_accuracy": free,
        "ece": np.abs(sums[..., 4:]).sum(-1) / n,
        "brier": squares,
        "kappa": (accuracy - chance) / (1 - chance),
    }


def numbers(own: Outcomes) -> dict[str, float]:
    """Of a set."""
    return {name: float(value) for name, value in read(features(own).sum(0)).items()}


def intervals(own: Outcomes, draws: Draws) -> dict[str, tuple[float, float] | None]:
    """Of a set: 95 % bootstrap intervals, percentiles but for the ECE; None where the draws do not differ.

    The ECE of a finite sample is too large in the mean and that of its resamples larger still, so the percentiles may
    lie above it as a whole; its interval is the basic one. Of a judge that is nearly calibrated that lies too high
    still. So the low end is 0 unless the ECE is beyond 97.5 % of those that a calibrated judge of the same confidences
    would have (:func:`~.calibration.null_eces`): the interval holds 0 where the set does not refute calibration.
    """
    drawn = read(draws.sums(features(own)))
    found = {name: percentiles(values) for name, values in drawn.items()}
    ece = numbers(own)["ece"]
    ends = basic(ece, drawn["ece"], (0.0, 1.0))
    if ends is not None and ece <= np.quantile(null_eces(own), 0.975):
        ends = 0.0, ends[1]
    return {**found, "ece": ends}
