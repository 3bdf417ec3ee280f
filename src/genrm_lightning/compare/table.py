"""What a comparison found: accuracies with intervals over pairs, their spread over seeds, differences, costs.

Two uncertainties, never mixed up. *low* and *high* are the ends of a 95 % interval over pairs: how much the number
would move with other pairs of the same kind; each pair counts with its mean over the seeds, pairs of one prompt count
together (evaluation.intervals). *sd*, *min* and *max* are over seeds: how much it moves with another draw of samples
and batches on the same pairs. With one seed there is no spread.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

import numpy as np
import polars as pl

from genrm_lightning.evaluation.intervals import clustered_interval, paired_difference
from genrm_lightning.evaluation.scores import NO_CATEGORY, clusters, pair_scores, presentations, without

COSTS = ("pairs", "samples", "sampled_tokens", "steps", "trained_tokens", "seconds", "judging_seconds")


_EQUAL = 1.01  # parts of one table differ by a prompt


@dataclass(frozen=True)
class Judged:
    """One method's judgments, a table a seed.

    Attributes:
        name, label: of the method.
        tables: set (id, ood) -> JUDGMENT tables, one a seed.
        facts: what each seed took (COSTS), in the same order.
        writes: whether its judge writes rationales; else it has no text to parse.
    """

    name: str
    label: str
    tables: Mapping[str, Sequence[pl.DataFrame]]
    facts: Sequence[Mapping[str, Any]]
    writes: bool


def row(judged: Judged, preferences: Mapping[str, pl.DataFrame]) -> dict[str, Any]:
    """A method's row: flat but for ``categories_SET``.

    Returns:
        method, label, seeds; for each set ``accuracy_SET`` with ``_low`` and ``_high`` over pairs, ``_sd``, ``_min``
        and ``_max`` over seeds (None with one), ``position_consistent_accuracy_SET``, ``free_accuracy_SET`` and
        ``invalid_rate_SET`` (None where nothing is written), ``categories_SET``: {category: the same of accuracy, and
        n_pairs}; ``tokens_a_verdict``, over both sets; COSTS, as means over seeds.
    """
    found: dict[str, Any] = {"method": judged.name, "label": judged.label, "seeds": len(judged.facts)}
    for name, tables in judged.tables.items():
        pairs = _over_seeds(tables, preferences[name])
        found |= {f"accuracy_{name}{end}": value for end, value in _accuracy(pairs).items()}
        found[f"position_consistent_accuracy_{name}"] = float(pairs["both_right"].mean())
        found[f"free_accuracy_{name}"] = float(pairs["free_accuracy"].mean()) if judged.writes else None
        invalid = fmean(float((table["verdict"] == "INVALID").mean()) for table in tables)
        found[f"invalid_rate_{name}"] = invalid if judged.writes else None
        found[f"categories_{name}"] = {
            kind: {"n_pairs": len(members)} | {f"accuracy{end}": value for end, value in _accuracy(members).items()}
            for (kind,), members in sorted(pairs.partition_by("category", as_dict=True).items())
        }
    every = [table for tables in judged.tables.values() for table in tables]
    presented = sum(table.select("pair_id", "swapped").n_unique() for table in every)
    found["tokens_a_verdict"] = sum(int(table["n_tokens"].sum()) for table in every) / presented
    return found | {name: fmean(one[name] for one in judged.facts) for name in COSTS}


def differences(
    judged: Sequence[Judged], baselines: Sequence[str], preferences: Mapping[str, pl.DataFrame]
) -> list[dict[str, Any]]:
    """Accuracy of every method minus that of each baseline, pair by pair, with its interval over pairs.

    Each pair counts with its mean over the seeds. The interval is that of evaluation.intervals.paired_difference, which
    counts prompts and keeps a width where a bootstrap would see none. ``sd`` is over the seeds' own differences, None
    with one seed; where one of the two has one seed alone, it is the same for all of the other's.
    """
    by_name = {one.name: one for one in judged}
    result = []
    for baseline in (by_name[name] for name in baselines if name in by_name):
        for other in judged:
            for name in preferences if other is not baseline else ():
                first, second = (_over_seeds(one.tables[name], preferences[name]) for one in (baseline, other))
                change = paired_difference(
                    first["accuracy"].to_numpy(), second["accuracy"].to_numpy(), first["cluster"].to_list()
                )
                before, after = _seeds(first), _seeds(second)
                by_seed = after - before if len(before) == len(after) or 1 in (len(before), len(after)) else []
                result.append(
                    {"set": name, "baseline": baseline.name, "method": other.name, "n_pairs": len(first)}
                    | {**change._asdict(), "sd": stdev(by_seed) if len(by_seed) > 1 else None}
                )
    return result


def unequal(rows: Sequence[Mapping[str, Any]], wanted: Sequence[str]) -> dict[str, dict[str, float]]:
    """Of the ``wanted`` costs those that differ by more than a percent: cost -> {method: number}; 0 is left out."""
    found = {name: {one["method"]: one[name] for one in rows if one[name]} for name in wanted}
    return {
        name: numbers
        for name, numbers in found.items()
        if numbers and max(numbers.values()) > _EQUAL * min(numbers.values())
    }


def in_common(judged: Sequence[Judged], preferences: Mapping[str, pl.DataFrame]) -> tuple[list[Judged], dict[str, int]]:
    """The judgments of those pairs that every method has judged, and how many pairs of each set that leaves out."""
    dropped = {
        name: {pair for one in judged for facts in one.facts for pair in facts["dropped"][name]} for name in preferences
    }
    kept = [
        Judged(
            one.name, one.label,
            {name: [without(table, dropped[name]) for table in tables] for name, tables in one.tables.items()},
            one.facts, one.writes,
        )
        for one in judged
    ]  # fmt: skip
    return kept, {name: len(ids) for name, ids in dropped.items()}


def _over_seeds(tables: Sequence[pl.DataFrame], preferences: pl.DataFrame) -> pl.DataFrame:
    """A row a pair, sorted by its id: scores as means over the seeds, ``by_seed`` (a list), cluster and category."""
    scored = [pair_scores(presentations(table)) for table in tables]
    known = preferences.select("pair_id", category=pl.col("category").fill_null(NO_CATEGORY))
    pairs = scored[0].select("pair_id").join(clusters(preferences), on="pair_id", how="left", maintain_order="left")
    pairs = pairs.join(known, on="pair_id", how="left", maintain_order="left")
    if any(not one["pair_id"].equals(pairs["pair_id"]) for one in scored) or pairs["cluster"].null_count():
        raise ValueError("expected the same pairs from every seed, and preferences for them")
    by_seed = np.stack([one["accuracy"].to_numpy() for one in scored], axis=1)
    means = [
        pl.Series(name, np.mean([one[name].cast(pl.Float64).to_numpy() for one in scored], axis=0))
        for name in ("accuracy", "free_accuracy", "both_right")
    ]
    return pairs.with_columns(*means, pl.Series("by_seed", by_seed.tolist(), dtype=pl.List(pl.Float64)))


def _accuracy(pairs: pl.DataFrame) -> dict[str, float | None]:
    """The mean ("") with its interval over pairs, and the spread of the seeds' means."""
    mean, low, high = clustered_interval(pairs["accuracy"].to_numpy(), pairs["cluster"].to_list())
    seeds = _seeds(pairs).tolist()
    several = len(seeds) > 1
    return {
        "": mean,
        "_low": low,
        "_high": high,
        "_sd": stdev(seeds) if several else None,
        "_min": min(seeds) if several else None,
        "_max": max(seeds) if several else None,
    }


def _seeds(pairs: pl.DataFrame) -> np.ndarray:
    """(seeds,) each seed's accuracy over these pairs."""
    return np.array(pairs["by_seed"].to_list()).mean(axis=0)
