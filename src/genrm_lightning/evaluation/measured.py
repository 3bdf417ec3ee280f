"""All that is measured of one judge on one set, as plain values for JSON: an entry of scores.json.

On top of :mod:`~genrm_lightning.evaluation.scores`: calibration, discrimination, agreement and position bias with
intervals, slices, a baseline that reads nothing, costs, and what the votes tell where there are several samples. The
definitions stand in the modules that this one puts together.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
import polars as pl

from genrm_lightning.evaluation import votes
from genrm_lightning.evaluation.bootstrap import Draws, percentiles
from genrm_lightning.evaluation.calibration import reliability
from genrm_lightning.evaluation.discrimination import auroc, precision_recall
from genrm_lightning.evaluation.intervals import paired_difference
from genrm_lightning.evaluation.outcomes import Floats, Outcomes, outcomes
from genrm_lightning.evaluation.scores import set_scores, without
from genrm_lightning.evaluation.slices import by_column, by_length, longer_wins, pair_confidence, risk_coverage
from genrm_lightning.evaluation.sums import intervals, numbers


def measure(
    judgments: pl.DataFrame,
    preferences: pl.DataFrame,
    *,
    dropped: Collection[str] = (),
    rewards: pl.DataFrame | None = None,
    seconds: float | None = None,
    probabilities: bool = True,
) -> dict[str, Any]:
    """Measure one judge on one set.

    Args:
        judgments: JUDGMENT rows of one judge on one set: both orders of every pair, the same number of samples each
            (pairs may differ).
        preferences: the PREFERENCE rows of exactly that set, those that were not judged too.
        dropped: ids of pairs that were not judged because they did not fit; counted, and in no other number.
        rewards: of a judge that scores each response by itself: pair_id, chosen_reward, rejected_reward of the judged
            pairs. Their differences take the place of p_a in auroc and pr, their distances order the pairs of
            ``risk_coverage``: p_a is a float32, 1 from 17 on.
        seconds: that the judging took.
        probabilities: whether p_a is meant as one. False (scores of any scale, squashed): ece and brier are None, those
            of slices too, and reliability is empty.

    Returns:
        The fields of :class:`~.scores.SetScores`, and

        - accuracy_bootstrap_low, accuracy_bootstrap_high, free_accuracy_bootstrap_low, free_accuracy_bootstrap_high:
          percentile bootstrap over clusters, beside the clustered Wilson intervals of SetScores; None where all
          draws are alike, as below;
        - position_bias, share_a less one half, with _low and _high: half the paired difference of the shares of A, B;
        - ece, brier, kappa (:mod:`~.sums`), auroc, each with _low and _high (bootstrap over clusters; where all draws
          are alike Wilson's ends of a kappa without ties, which is twice the accuracy less 1);
        - reliability (:func:`~.calibration.reliability`), pr (:func:`~.discrimination.precision_recall`);
        - longer_wins, by_length, by, risk_coverage (:mod:`~.slices`);
        - tokens_per_verdict, seconds_per_verdict (None where not told): a verdict is one presentation, all its samples;
        - votes (:func:`genrm_lightning.evaluation.votes.report`) where a pair has several samples of an order.

        No value is NaN: what is not defined is None.

    Raises:
        ValueError: as in :func:`~.scores.set_scores`; rewards of other pairs, twice of one, or none that is a number.
    """
    scores = set_scores(judgments, preferences, dropped).as_dict()
    judged = without(preferences, dropped).sort("pair_id")
    own = outcomes(judgments, judged)
    draws = Draws(own.cluster)
    sure, toward_a = pair_confidence(own), None
    if rewards is not None:
        margin = _margins(own, rewards)
        sure, toward_a = np.abs(margin), np.where(own.right_is_a, margin[:, None], -margin[:, None])
    bias, bias_low, bias_high = _position_bias(own)
    found: dict[str, Any] = {
        **scores,
        **_bootstrapped(own, draws, toward_a),
        "position_bias": bias,
        "position_bias_low": bias_low,
        "position_bias_high": bias_high,
        "reliability": reliability(own) if probabilities else [],
        "pr": precision_recall(own, toward_a),
        "longer_wins": longer_wins(own, judged),
        "by_length": by_length(own, judged, preferences),
        "by": by_column(own, judged, probabilities),
        "tokens_per_verdict": float(judgments["n_tokens"].sum()) / scores["n_presentations"],
        "seconds_per_verdict": None if seconds is None else seconds / scores["n_presentations"],
        "risk_coverage": risk_coverage(own, sure),
    }
    if not own.tie.any() and found["kappa_low"] is None:
        found |= {f"kappa_{end}": 2 * scores[f"accuracy_{end}"] - 1 for end in ("low", "high")}
    if not probabilities:
        found |= {f"{name}{end}": None for name in ("ece", "brier") for end in ("", "_low", "_high")}
    if scores["n_samples"] > scores["n_presentations"]:
        found["votes"] = votes.report(judgments, judged)
    return found


def _bootstrapped(own: Outcomes, draws: Draws, toward_a: Floats | None) -> dict[str, float | None]:
    values, ends = numbers(own), intervals(own, draws)
    areas = auroc(own, draws, toward_a)
    values["auroc"], ends["auroc"] = float(areas[0]), percentiles(areas[1:])
    found: dict[str, float | None] = {}
    for name, interval in ends.items():
        low, high = interval or (None, None)
        # Their values and Wilson intervals are among the fields of SetScores.
        key = f"{name}_bootstrap" if name in ("accuracy", "free_accuracy") else name
        found |= {} if key != name else {name: values[name]}
        found |= {f"{key}_low": low, f"{key}_high": high}
    return found


def _position_bias(own: Outcomes) -> tuple[float, float, float]:
    """Mean, low, high. A pair that chooses A in both orders has a difference of 1, one that is consistent 0."""
    share = own.chooses_a.mean(1)
    diff, low, high = paired_difference(1 - share, share, own.cluster)
    return diff / 2, low / 2, high / 2


def _margins(own: Outcomes, rewards: pl.DataFrame) -> Floats:
    """(n,) the chosen response's reward less the rejected one's."""
    ids = pl.DataFrame({"pair_id": pl.Series(own.pair_ids.tolist(), dtype=pl.String)})
    known = ids.join(rewards, on="pair_id", how="left", maintain_order="left")
    margin = known.select((pl.col("chosen_reward") - pl.col("rejected_reward")).cast(pl.Float64)).to_series()
    if not rewards.height == known.height == len(own) or not margin.is_finite().fill_null(False).all():
        raise ValueError(
            f"expected two finite rewards for each of {len(own)} judged pairs, got {rewards.height} rows, of which "
            f"{int(margin.is_finite().fill_null(False).sum())} are"
        )
    return np.asarray(margin.to_numpy())
