"""What the benchmarks share: their judged pairs, weighted means with intervals, the form of a protocol.

Every published score here is a tree of weighted means: outcomes of pairs (or prompts) are averaged in *cells*, cells
into sections, sections into the score. A bootstrap draw gives each cluster a count, so all draws together are two
matrix products.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from data_tools.order import chosen_is_a
from genrm_lightning.evaluation.scores import clusters

DRAWS = 2000
SEED = 0
_BLOCK = 4_000_000  # counts held at once

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Rows:
    """The pairs of one benchmark.

    Attributes:
        frame: PREFERENCE rows with cluster, judged (whether the judge was asked) and, null where it was not,
            own, other: 1 for a verdict for the chosen response, 0.5 for none (p(A) of exactly 0.5), 0 for the rejected
            one; in the order that is drawn for the pair, and in the other one;
            preferred: the same for both orders together, by the mean of p(right), compared exactly;
            chosen_reward, rejected_reward: null of judges without rewards.
        scored: whether there are rewards.
    """

    frame: pl.DataFrame
    scored: bool

    @property
    def judged(self) -> pl.DataFrame:
        return self.frame.filter("judged")

    def unjudged(self) -> list[str]:
        """A line about pairs that were not judged, where there are any."""
        n = self.frame.height - self.judged.height
        return [f"{n} of {self.frame.height} pairs were not judged (they did not fit the judge)"] if n else []


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


def plain(text: str) -> str:
    """Lower case, letters and digits alone: how names are compared.

    >>> plain("RM-Bench"), plain("rm_bench")
    ('rmbench', 'rmbench')
    """
    return re.sub(r"[\W_]+", "", text.lower())


def rows(
    shown: pl.DataFrame, preferences: pl.DataFrame, rewards: pl.DataFrame | None, sources: Sequence[str]
) -> Rows | None:
    """The rows of one benchmark, in the order of ``preferences``; None where there are none.

    Raises:
        ValueError: a pair was judged that ``preferences`` has not, stands there twice, or has no finite reward.
    """
    names = preferences["source"].unique().drop_nulls().to_list()
    its = [name for name in names if plain(name) in sources]
    frame = preferences.filter(pl.col("source").is_in(its))
    strange = shown.join(preferences, on="pair_id", how="anti")
    if strange.height:
        raise ValueError(f"expected judgments of pairs in the preferences, got '{strange['pair_id'][0]}' beside them")
    if frame.is_empty():
        return None
    if frame["pair_id"].is_duplicated().any():
        raise ValueError(
            f"expected each pair once, got '{frame.filter(pl.col('pair_id').is_duplicated())['pair_id'][0]}' again"
        )
    frame = frame.join(clusters(frame), on="pair_id", how="left", maintain_order="left")
    frame = frame.join(_verdicts(shown), on="pair_id", how="left", maintain_order="left")
    frame = frame.with_columns(judged=pl.col("own").is_not_null())
    if rewards is None:
        empty = pl.lit(None, dtype=pl.Float64)
        return Rows(frame.with_columns(chosen_reward=empty, rejected_reward=empty), scored=False)
    rewards = rewards.select("pair_id", "chosen_reward", "rejected_reward")
    frame = frame.join(rewards, on="pair_id", how="left", maintain_order="left")
    finite = pl.col("chosen_reward").is_finite() & pl.col("rejected_reward").is_finite()
    lacking = frame.filter(pl.col("judged") & ~finite.fill_null(False))
    if lacking.height:
        raise ValueError(f"expected two finite rewards of every judged pair, got none of '{lacking['pair_id'][0]}'")
    return Rows(frame, scored=True)


def _verdicts(shown: pl.DataFrame) -> pl.DataFrame:
    """pair_id, own, other, preferred, of pairs judged in both orders."""

    def choice(right: str, wrong: str) -> pl.Expr:
        return pl.when(right).then(1.0).when(wrong).then(0.0).otherwise(0.5)

    sides = {
        swapped: shown.filter(pl.col("swapped") == swapped).select(
            "pair_id", choice("right", "wrong").alias(name), pl.col("p_a").alias(f"p_{name}")
        )
        for swapped, name in ((False, "own"), (True, "other"))
    }
    both = sides[False].join(sides[True], on="pair_id")
    first = pl.Series([chosen_is_a(pair_id, False) for pair_id in both["pair_id"]], dtype=pl.Boolean)
    # Chosen is A in one order and B in the other, so p(right) is above 0.5 in the mean where p(A) is higher in the
    # first: no 1 - p is formed, which would round a tie to one side.
    a = pl.when(first).then("p_own").otherwise("p_other")
    b = pl.when(first).then("p_other").otherwise("p_own")
    preferred = pl.when(a > b).then(1.0).when(a < b).then(0.0).otherwise(0.5)
    return both.with_columns(preferred=preferred).select("pair_id", "own", "other", "preferred")


def shares(weights: Mapping[str, float]) -> dict[str, float]:
    """The same ratios, summing to 1."""
    total = sum(weights.values())
    return {cell: weight / total for cell, weight in weights.items()}


def higher(tie: float) -> pl.Expr:
    """1 where the chosen response has the higher reward, 0 where the other has, ``tie`` where they are equal."""
    chosen, rejected = pl.col("chosen_reward"), pl.col("rejected_reward")
    return pl.when(chosen > rejected).then(1.0).when(chosen < rejected).then(0.0).otherwise(tie)


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

    def sums(rows: Iterable[Mapping[str, float]]) -> Floats:
        # A cell that was never seen has no column; its weight goes to the section's others all the same.
        scale = [(row, sum(row.values()) / sum(w for cell, w in row.items() if cell in observed)) for row in rows]
        return weighted(means, np.array([[row.get(cell, 0.0) * by for cell in cells] for row, by in scale]))

    of_sections = sums(one.cells for one in there.values())
    if overall is None:
        weights = np.array([[one.weight or 0.0 for one in there.values()]])
        score = weighted(of_sections, weights / weights.sum())[:, 0]
    else:
        score = sums([overall])[:, 0]
    result |= _interval(score)
    for place, (title, one) in enumerate(there.items()):
        result["sections"][title] = {**_interval(of_sections[:, place]), "n": one.n, "weight": one.weight}
    return result


def _interval(draws: Floats) -> dict[str, float]:
    low, high = np.nanquantile(draws[1:], [0.025, 0.975])
    return {name: _rounded(value) for name, value in (("score", draws[0]), ("low", low), ("high", high))}


def _rounded(value: float) -> float:
    """Weights that sum to 1 but for the last bit must not make 0.9999999999999999 of a judge that is always right."""
    return round(float(value), 12)
