"""Weighted means of outcomes with intervals, and the form of a protocol.

Every published score here is a tree of weighted means: outcomes of pairs (or prompts) are averaged in *cells*, cells
into sections, sections into the score. A bootstrap draw gives each cluster a count, so all draws together are two
matrix products.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from genrm_lightning.evaluation.benchmarks._ends import Alike, ends

DRAWS = 2000
SEED = 0
_BLOCK = 4_000_000  # counts held at once

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Section:
    """A section of a benchmark.

    Attributes:
        cells: factors of the cells it is the sum of; :func:`shares` for a mean.
        n: how many outcomes it has, in the unit of ``n_expected``.
        weight: its share of the score; None: reported beside.
    """

    cells: Mapping[str, float]
    n: int
    weight: float | None = None


@dataclass
class Outcomes:
    """Outcomes in cells: parallel lists, filled by :meth:`add`."""

    cluster: list[str] = field(default_factory=list)
    cell: list[str] = field(default_factory=list)
    value: list[float] = field(default_factory=list)

    def add(self, cells: str | Iterable[str], clusters: Iterable[str], values: Iterable[float]) -> None:
        values = list(values)
        self.value += values
        self.cell += [cells] * len(values) if isinstance(cells, str) else list(cells)
        self.cluster += list(clusters)

    def means(self) -> dict[str, tuple[float, int]]:
        """cell -> (mean, number of outcomes)."""
        table: dict[str, list[float]] = {}
        for cell, value in zip(self.cell, self.value, strict=True):
            table.setdefault(cell, []).append(value)
        return {cell: (_rounded(np.mean(values)), len(values)) for cell, values in table.items()}


def shares(weights: Mapping[str, float]) -> dict[str, float]:
    """The same ratios, summing to 1."""
    total = sum(weights.values())
    return {cell: weight / total for cell, weight in weights.items()}


def weighted(means: Floats, weights: Floats) -> Floats:
    """Weighted sums of cells, those without a value (NaN) left out and their weight shared by the rest.

    Args:
        means: (draws, cells).
        weights: (sums, cells), none negative.

    Returns:
        (draws, sums): ``sum w m · sum w / sum w of cells there``; NaN where no cell with a weight is there.
    """
    there = ~np.isnan(means)
    have = there.astype(np.float64) @ weights.T
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.nan_to_num(means) @ weights.T * np.where(have > 0, weights.sum(1) / have, np.nan)


def cell_means(outcomes: Outcomes, names: Sequence[str], draws: int = DRAWS, seed: int = SEED) -> Floats:
    """(1 + draws, cells): the mean of each cell, as observed and then in draws of as many clusters with replacement.

    A cell without outcomes (in a draw) is NaN.
    """
    clusters, members = np.unique(outcomes.cluster, return_inverse=True)
    index = {name: place for place, name in enumerate(names)}
    flat = members * len(names) + np.array([index[cell] for cell in outcomes.cell], dtype=np.int64)
    shape, size = (len(clusters), len(names)), len(clusters) * len(names)
    sums = np.bincount(flat, weights=outcomes.value, minlength=size).reshape(shape)
    counts = np.bincount(flat, minlength=size).reshape(shape).astype(np.float64)
    means = [_divided(sums.sum(0, keepdims=True), counts.sum(0, keepdims=True))]
    random = np.random.default_rng(seed)
    step = max(1, _BLOCK // len(clusters))
    for start in range(0, draws, step):
        n = min(step, draws - start)
        drawn = random.integers(len(clusters), size=(n, len(clusters))) + len(clusters) * np.arange(n)[:, None]
        times = np.bincount(drawn.ravel(), minlength=n * len(clusters)).reshape(n, -1).astype(np.float64)
        means.append(_divided(times @ sums, times @ counts))
    return np.concatenate(means)


def _divided(sums: Floats, counts: Floats) -> Floats:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(counts > 0, sums / counts, np.nan)


def report(
    name: str,
    outcomes: Outcomes,
    sections: Mapping[str, Section],
    subsets: Mapping[str, str],
    *,
    n_expected: int | None,
    unit: str = "pairs",
    missing: Iterable[str] = (),
    notes: Iterable[str] = (),
    overall: Mapping[str, float] | None = None,
) -> dict[str, Any]:
    """A protocol (see the package).

    Args:
        outcomes: all of them, by cluster and cell.
        sections: by name, in the authors' order. One with a weight and without rows is told of and left out; the
            score is then the mean of the others.
        subsets: name -> its cell; those without outcomes are left out.
        n_expected: how many of ``unit`` the whole benchmark has; sections' ``n`` counts the same.
        missing: lines that make it incomplete.
        notes: other lines.
        overall: factors of cells for the score, where it is no mean of sections.
    """
    missing = list(missing)
    observed = outcomes.means()
    there = {title: one for title, one in sections.items() if any(cell in observed for cell in one.cells)}
    empty = [title for title, one in sections.items() if one.weight is not None and title not in there]
    if empty:
        what = "section" if len(empty) == 1 else "sections"
        missing.insert(0, f"no rows in {what} {', '.join(empty)}: the score is over the others, not the benchmark's")
    n = sum(one.n for one in there.values() if one.weight is not None)
    if n_expected is not None and n != n_expected:
        missing.append(f"{n:,} {unit} are scored, the benchmark has {n_expected:,}")
    result = {
        "benchmark": name,
        **dict.fromkeys(("score", "low", "high")),
        "sections": {},
        "subsets": {
            title: {"score": observed[cell][0], "n": observed[cell][1]}
            for title, cell in subsets.items()
            if cell in observed
        },
        "n_expected": n_expected,
        "complete": not missing,
        "notes": [*missing, *notes],
    }
    if not any(one.weight is not None for one in there.values()):
        return result
    cells = sorted(observed)
    means = cell_means(outcomes, cells)

    def factors(rows: Iterable[Mapping[str, float]]) -> Floats:
        # A cell that was never seen has no column; its weight goes to the section's others all the same.
        scale = [(row, sum(row.values()) / sum(w for cell, w in row.items() if cell in observed)) for row in rows]
        return np.array([[row.get(cell, 0.0) * by for cell in cells] for row, by in scale])

    of_sections = factors(one.cells for one in there.values())
    drawn = weighted(means, of_sections)
    if overall is None:
        weights = shares({title: one.weight or 0.0 for title, one in there.items()})
        parts = np.array([list(weights.values())])
        score, of_score = weighted(drawn, parts)[:, 0], (parts @ of_sections)[0]
    else:
        (of_score,) = factors([overall])
        score = weighted(means, of_score[None])[:, 0]
    alike = Alike(outcomes.cluster, [cells.index(cell) for cell in outcomes.cell], outcomes.value)
    result |= _interval(score, of_score, alike)
    for place, (title, one) in enumerate(there.items()):
        own = _interval(drawn[:, place], of_sections[place], alike)
        result["sections"][title] = {**own, "n": one.n, "weight": one.weight}
    return result


def _interval(draws: Floats, factors: Floats, alike: Alike) -> dict[str, float | None]:
    low, high = ends(draws, factors, alike) or (None, None)
    found = {"score": draws[0], "low": low, "high": high}
    return {name: None if value is None else _rounded(value) for name, value in found.items()}


def _rounded(value: float) -> float:
    """Weights that sum to 1 but for the last bit must not make 0.9999999999999999 of a judge that is always right."""
    return round(float(value), 12)
