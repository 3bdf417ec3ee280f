"""``python -m benchmarks.ranking``: do the intervals of Bradley-Terry strengths hold, and how few comparisons do.

First table: the share of candidates whose 95 % interval holds the judge's own strength (what a fit to its expected
answers about every pair would give), with the mean half width, by judge (rows), candidates and schedule (columns).
Second: comparisons until the best one is taken with the stated confidence, and until Kendall's τ with the judge's own
order stays at 0.9, by schedule. Simulated judges, seeded; 64 candidates take most of the time: ``--scale`` takes less.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from benchmarks import entry
from benchmarks.ranking_judges import JUDGES, SimulatedJudge
from genrm_lightning.ranking.bradley_terry import Strengths, strengths
from genrm_lightning.ranking.schedule import Goal, Pair, first_round, next_round
from genrm_lightning.ranking.tournament import Ranking, RankingSettings, rank

Floats = NDArray[np.float64]
PROMPTS = {4: 400, 8: 200, 16: 60, 64: 12}  # so that each cell has 800 intervals or more
Chooser = Callable[[Strengths, Sequence[Pair], Goal, np.random.Generator], list[Pair]]


def main(argv: Sequence[str] | None = None) -> None:
    given = _flags(argv)
    console = Console(width=160)
    console.print(coverage_table(given.sizes, given.scale, given.spread))
    console.print(schedule_table([n for n in given.sizes if n >= 8], given.scale, given.spread))


def covered(judge: SimulatedJudge, n: int, prompts: int, settings: RankingSettings, spread: float = 1.0) -> Floats:
    """(prompts, n, 2): of each candidate whether its interval holds its strength, and half its width.

    Args:
        settings: goal order and n (n − 1) / 2 comparisons are a round robin.
        spread: sd of θ.
    """
    draw = np.random.default_rng(n)
    theta = {f"{k}": draw.normal(0, spread, n) for k in range(prompts)}
    if settings.goal == "order" and settings.most(n) == n * (n - 1) // 2:  # one fit does
        i, j = np.triu_indices(n, 1)
        fits = {name: strengths(n, i, j, judge.says(one[i] - one[j], draw)) for name, one in theta.items()}
    else:
        ranked = rank(dict.fromkeys(theta, n), referee(judge, theta, draw), settings)
        fits = {name: one.fit for name, one in ranked.items()}
    rows = []
    for name, fit in fits.items():
        low, high = fit.intervals()
        truth = judge.truth(theta[name])
        rows.append(np.stack([(low <= truth) & (truth <= high), (high - low) / 2], 1))
    return np.stack(rows)


def referee(judge: SimulatedJudge, theta: dict[str, Floats], draw: np.random.Generator) -> Callable:
    """A :data:`~genrm_lightning.ranking.tournament.Compare` of a simulated judge."""

    def compare(_: int, asked: list[tuple[str, int, int]]) -> list[tuple[float, float]]:
        d = np.array([theta[name][i] - theta[name][j] for name, i, j in asked])
        return [(float(first), float(second)) for first, second in judge.says(d, draw)]

    return compare


def coverage_table(sizes: Sequence[int], scale: float, spread: float) -> Table:
    table = Table("judge", title=f"Share of 95 % intervals that hold, half width; strengths of sd {spread:g}")
    columns = [(n, settings) for n in sizes for settings in _schedules(n)]
    for n, (name, _) in columns:
        table.add_column(f"{n}: {name}")
    for judge in JUDGES:
        cells = [covered(judge, n, max(2, round(PROMPTS[n] * scale)), one, spread) for n, (_, one) in columns]
        table.add_row(judge.name, *(f"{100 * c[..., 0].mean():.1f} ±{c[..., 1].mean():.2f}" for c in cells))
    return table


def _schedules(n: int) -> list[tuple[str, RankingSettings]]:
    every = n * (n - 1) // 2
    found = [("all", RankingSettings("order", comparisons=every)), ("best", RankingSettings("best"))]
    few = RankingSettings("order", comparisons=2 * n)
    return found[:1] + ([("2N", few)] if 2 * n < every else []) + found[1:]


def schedule_table(sizes: Sequence[int], scale: float, spread: float) -> Table:
    table = Table("schedule", title="Comparisons: to the best at 95 % (how often it was right; lacks) | to τ = 0.9")
    for n in sizes:
        table.add_column(f"{n}: best")
        table.add_column(f"{n}: τ 0.9")
    for name, choose in SCHEDULES.items():
        row = []
        for n in sizes:
            prompts = max(2, round(PROMPTS[n] * scale))
            spent, right, lacks = best_of(choose, n, prompts, spread)
            row += [
                f"{spent:.0f} ({100 * right:.0f} %; {lacks:.2f})",
                _count(ordered(choose, n, prompts, spread), n),
            ]
        table.add_row(name, *row)
    table.add_row("every pair", *(cell for n in sizes for cell in (f"{n * (n - 1) // 2}", "")))
    return table


def _count(spent: float, n: int) -> str:
    return f"{spent:.0f}" if np.isfinite(spent) else f"not in {min(12 * n, n * (n - 1) // 2)}"


def best_of(choose: Chooser, n: int, prompts: int, spread: float = 1.0, error: float = 0.05) -> tuple[float, ...]:
    """(comparisons, share right, what the one taken lacks of the best) in the mean over prompts, of noise 0.7."""
    found = []
    for theta, one, _ in _runs(choose, n, prompts, "best", spread, lambda one: one.best().max() >= 1 - error):
        taken = one.order[0]
        found.append((len(one.pairs), taken == theta.argmax(), theta.max() - theta[taken]))
    return tuple(np.mean(found, 0))


def ordered(choose: Chooser, n: int, prompts: int, spread: float = 1.0, tau: float = 0.9) -> float:
    """Comparisons at which the mean τ of the prompts first is ``tau``; infinite where it is not within 12 N."""
    runs = [(theta, history) for theta, _, history in _runs(choose, n, prompts, "order", spread, lambda _: False)]
    for spent in range(n, 12 * n + 1):
        reached = []
        for theta, history in runs:
            known = [fit for count, fit in history if count <= spent]
            reached.append(_tau(known[-1], theta))
        if np.mean(reached) >= tau:
            return float(spent)
    return float("inf")


def _runs(choose: Chooser, n: int, prompts: int, goal: Goal, spread: float, done: Callable[[Ranking], bool]):
    """Of each prompt its strengths, its ranking when it was done or at 12 N comparisons, and the fits on the way."""
    judge = SimulatedJudge("noise 0.7", 0.7)
    for k in range(prompts):
        draw = np.random.default_rng((n, k))
        theta = draw.normal(0, spread, n)
        # Answers that do not hang on when they are asked for: schedules are compared on the same judge.
        i, j = np.triu_indices(n, 1)
        said = dict(zip(zip(i.tolist(), j.tolist(), strict=True), judge.says(theta[i] - theta[j], draw), strict=True))
        one, history, pairs = Ranking(n), [], first_round(n, str(k))
        while pairs and len(one.pairs) < 12 * n:
            pairs = [(min(pair), max(pair)) for pair in pairs]
            for pair in pairs:
                one.add(pair, tuple(said[pair]))
            one.refit()
            history.append((len(one.pairs), one.fit.theta))
            if done(one):
                break
            pairs = choose(one.fit, one.pairs, goal, draw)
        yield theta, one, history


def _tau(found: Floats, theta: Floats) -> float:
    i, j = np.triu_indices(len(theta), 1)
    return float((np.sign(found[i] - found[j]) * np.sign(theta[i] - theta[j])).mean())


def _matching(n: int, score: Floats, done: Sequence[Pair]) -> list[Pair]:
    """Pairs not compared yet by their score (n, n), the highest first, each candidate in one at most."""
    asked = {frozenset(pair) for pair in done}
    i, j = np.triu_indices(n, 1)
    chosen: list[Pair] = []
    taken: set[int] = set()
    for at in np.argsort(-score[i, j], kind="stable"):
        pair = int(i[at]), int(j[at])
        if frozenset(pair) not in asked and not taken & set(pair):
            chosen.append(pair)
            taken |= set(pair)
    return chosen


def _random(fit: Strengths, done: Sequence[Pair], goal: Goal, draw: np.random.Generator) -> list[Pair]:
    return _matching(len(fit.theta), draw.uniform(size=(len(fit.theta),) * 2), done)


def _swiss(fit: Strengths, done: Sequence[Pair], goal: Goal, draw: np.random.Generator) -> list[Pair]:
    """Neighbours in the order so far."""
    return _matching(len(fit.theta), -np.abs(fit.theta[:, None] - fit.theta[None]), done)


def _thompson(fit: Strengths, done: Sequence[Pair], goal: Goal, draw: np.random.Generator) -> list[Pair]:
    """Double Thompson sampling's spirit (Wu, Liu, NeurIPS 2016): neighbours in an order drawn from the posterior."""
    n = len(fit.theta)
    drawn = fit.theta + np.linalg.cholesky(fit.covariance + 1e-9 * np.eye(n)) @ draw.standard_normal(n)
    high = drawn[:, None] + drawn[None] if goal == "best" else np.zeros((n, n))
    return _matching(n, high - np.abs(drawn[:, None] - drawn[None]), done)


SCHEDULES: dict[str, Chooser] = {
    "active (next_round)": lambda fit, done, goal, draw: next_round(fit, done, goal),
    "active, by the order's information": lambda fit, done, goal, draw: next_round(fit, done, "order"),
    "Swiss": _swiss,
    "Thompson": _thompson,
    "random": _random,
}


def _flags(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ranking", description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=list(PROMPTS), choices=list(PROMPTS))
    parser.add_argument("--scale", type=float, default=1.0, help="prompts, as a multiple")
    parser.add_argument("--spread", type=float, default=1.0, help="sd of the strengths")
    return parser.parse_args(argv)


if __name__ == "__main__":
    entry.run(main)
