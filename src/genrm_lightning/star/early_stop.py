"""Stop a STaR run when its newest judge is worse than the best one before it, beyond doubt.

Judged on validation pairs (``data.validation_rows``), which no iteration trains on and no table shows as a result: a
run that stopped by the held-out sets it reports would report its luck. The best of several has luck of its own: with
every iteration the stop comes a little sooner than the 95 % of a single comparison say.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from data_tools.artifact import read_table
from data_tools.schema import JUDGMENT, PREFERENCE
from genrm_lightning.evaluation.intervals import clustered_interval
from genrm_lightning.evaluation.report import percent, points
from genrm_lightning.evaluation.scores import clusters, compare, pair_scores, presentations, without
from genrm_lightning.star.fitting import WARM_START
from genrm_lightning.star.settings import VALIDATION, StarSettings
from genrm_lightning.star.stage import Artifact


def numbers(settings: StarSettings, pairs: Artifact, evaluated: Artifact) -> dict[str, float]:
    """Accuracy on the validation pairs for a report row, with its interval; nothing where there are none."""
    if not settings.data.validation_rows:
        return {}
    judgments, preferences = _tables(pairs, evaluated)
    scores = pair_scores(presentations(judgments)).join(clusters(preferences), on="pair_id", maintain_order="left")
    names = [f"accuracy_{VALIDATION}{end}" for end in ("", "_low", "_high")]
    return dict(zip(names, clustered_interval(scores["accuracy"].to_numpy(), scores["cluster"]), strict=True))


def verdict(
    settings: StarSettings, pairs: Artifact, rows: Sequence[Mapping[str, Any]], evaluated: Sequence[Artifact]
) -> dict[str, Any] | None:
    """Whether the last row's judge ends the run: the paired difference to the best before lies wholly below zero.

    Returns:
        None, or ``after`` and ``best`` (labels), ``diff``, ``low``, ``high`` (fractions) and ``n_pairs``.
    """
    if settings.early_stop is None:
        return None
    best = max(range(len(rows) - 1), key=lambda i: rows[i][f"accuracy_{VALIDATION}"])  # the first of several
    before, _ = _tables(pairs, evaluated[best])
    after, preferences = _tables(pairs, evaluated[-1])
    (diff, low, high), n_pairs = compare(before, after, preferences)
    if high >= 0:
        return None
    return {
        "after": rows[-1]["label"],
        "best": rows[best]["label"],
        "diff": diff,
        "low": low,
        "high": high,
        "n_pairs": n_pairs,
    }


def said(stop: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> str:
    """A line for people."""
    accuracy = {row["label"]: f"{percent(row[f'accuracy_{VALIDATION}'])} %" for row in rows}
    interval = f"95 %: {points(stop['low'])} to {points(stop['high'])}"
    return (
        f"stopped after {stop['after']}: its accuracy on the {stop['n_pairs']} validation pairs is "
        f"{accuracy[stop['after']]}, that of {stop['best']} {accuracy[stop['best']]} "
        f"({points(stop['diff'])} points, {interval}); the best judge is that of {stop['best']}"
    )


def judge_of(settings: StarSettings, rows: Sequence[Mapping[str, Any]], label: str) -> str:
    """The folder of a row's judge, or the backbone."""
    row = next(row for row in rows if row["label"] == label)
    folder = {"warm_start": WARM_START, "iteration": f"iteration-{row['iteration']}"}.get(row["kind"])
    return settings.backbone if folder is None else str(Path(settings.run) / folder / "fit" / "judge")


def _tables(pairs: Artifact, evaluated: Artifact) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Judgments on the validation pairs, and those of the pairs that fitted."""
    preferences = read_table(pairs.folder / f"{VALIDATION}.parquet", PREFERENCE)
    dropped = evaluated.facts.get("dropped", {}).get(VALIDATION, [])
    return read_table(evaluated.folder / f"{VALIDATION}.parquet", JUDGMENT), without(preferences, dropped)
