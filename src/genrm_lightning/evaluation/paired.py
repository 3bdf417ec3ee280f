"""Two judges on the same pairs: by how much they differ, with intervals."""

from __future__ import annotations

from typing import Any

import polars as pl

from genrm_lightning.evaluation.bootstrap import Draws, percentiles
from genrm_lightning.evaluation.intervals import paired_difference
from genrm_lightning.evaluation.outcomes import Outcomes, outcomes
from genrm_lightning.evaluation.slices import groups
from genrm_lightning.evaluation.sums import features, numbers, read


def paired(
    first: pl.DataFrame, second: pl.DataFrame, preferences: pl.DataFrame, *, probabilities: bool = True
) -> dict[str, Any]:
    """The second judge minus the first, on the pairs that both judged.

    Accuracies have the interval of :func:`~.intervals.paired_difference` (Bonett and Price, clustered), the Brier
    score, where lower is better, the percentiles of a bootstrap over clusters that draws the same pairs for both.

    The difference of the ECEs has no interval: low and high are None. The ECE of a finite sample is too large, the more
    so the better calibrated a judge is, so the difference leans to one side by an amount that depends on the unknown
    ECEs. Neither the basic bootstrap, nor one of ECEs less their means under calibration
    (:func:`~.calibration.null_eces`), nor a combination of both judges' intervals holds what it promises.

    Args:
        first, second: JUDGMENT rows of two judges: both orders of every pair; numbers of samples may differ.
        preferences: PREFERENCE rows that hold all judged pairs, perhaps others.
        probabilities: whether both judges' p_a are meant as such; False: ece and brier are None.

    Returns:
        n_pairs; n_only_first, n_only_second: pairs that one judge alone judged (the other could not read them), which
        are in no other number; accuracy, free_accuracy, ece, brier: each diff, low, high (of the Brier score None
        where the draws do not differ); by: category -> value -> n_pairs and the same four, empty where no pair has a
        category.

    Raises:
        ValueError: no pair that both judged, a judged pair that is not among the preferences, or as in
            :func:`~.scores.set_scores`.
    """
    ids = [table["pair_id"].unique() for table in (first, second)]
    shared = ids[0].filter(ids[0].is_in(ids[1].implode()))
    if not len(shared):
        raise ValueError(f"expected a pair that both judges judged, got {len(ids[0])} and {len(ids[1])} others")
    tables = [table.filter(pl.col("pair_id").is_in(shared.implode())) for table in (first, second)]
    before, after = (outcomes(table, preferences) for table in tables)
    pairs = preferences.filter(pl.col("pair_id").is_in(shared.implode())).sort("pair_id")
    categories = [] if pairs["category"].null_count() == pairs.height else groups(pairs["category"])
    return {
        "n_pairs": len(shared),
        "n_only_first": len(ids[0]) - len(shared),
        "n_only_second": len(ids[1]) - len(shared),
        **_differences(before, after, probabilities),
        "by": {
            "category": {
                value: {"n_pairs": len(rows), **_differences(before.take(rows), after.take(rows), probabilities)}
                for value, rows in categories
            }
        },
    }


def _differences(before: Outcomes, after: Outcomes, probabilities: bool) -> dict[str, dict[str, float | None]]:
    clusters = before.cluster
    found: dict[str, tuple[float | None, ...]] = {
        "accuracy": paired_difference(before.accuracy, after.accuracy, clusters),
        "free_accuracy": paired_difference(before.free_accuracy, after.free_accuracy, clusters),
        "ece": (None, None, None),
        "brier": (None, None, None),
    }
    if probabilities:
        draws = Draws(clusters)
        drawn = [read(draws.sums(features(own)))["brier"] for own in (before, after)]
        values = [numbers(own) for own in (before, after)]
        ece, brier = (values[1][name] - values[0][name] for name in ("ece", "brier"))
        found |= {"ece": (ece, None, None), "brier": (brier, *(percentiles(drawn[1] - drawn[0]) or (None, None)))}
    return {name: dict(zip(("diff", "low", "high"), three, strict=True)) for name, three in found.items()}
