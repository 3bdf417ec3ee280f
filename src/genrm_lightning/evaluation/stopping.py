"""Sequential stopping: no more samples of a pair whose verdict further ones would hardly change.

A pair is looked at after ``first``, 2 ``first``, 4 ``first``, ... and at last after all K samples of each order. At a
look, k of K drawn, the votes to come are predicted: with a Beta(a, b) prior on an order's probability of a vote for A
and s votes for A so far, K - k further ones hold j with the Beta-Binomial probability

``C(K-k, j) B(a + s + j, b + K - s - j) / B(a + s, b + k - s)``.

The *error* of stopping is the expected change of the pair's score (1, 1/2 for a tie, 0) between the votes so far and
all K: another verdict counts 1, one that becomes a tie or was one 1/2. Sampling ends where it is at most ``alpha``.
Because that holds wherever a pair stops, the mean change over pairs that the prior describes is at most ``alpha``,
however often one looks; and so is the change of the accuracy. At ``alpha`` = 0 only what *cannot* change stops
(curtailment), whatever the prior.

Soft votes take the sum of p(A) for s. Probabilities vary less than votes of the same mean, so votes predicted in their
place err on the careful side. Where a judge's p(A) hardly depends on the rationale they do so by far; there each can
count for ``weight`` votes of the same mean, which have the variance of its own (k, K and s above times the weight).

The two orders are taken as independent. A judge led by position alone has the same p(A) in both: there the pair's
verdict is next to a tie, hardly ever decided, and the level is reached rather than undercut.

Others stop on the posterior that the leader leads (Aggarwal et al., Adaptive-Consistency, arXiv 2305.11860) or on a
window of equal answers (Li et al., ESC, arXiv 2401.10480): neither is the question whether K samples would say
otherwise. Wald's SPRT needs an indifference region, and no K.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from data_tools.errors import UserError
from genrm_lightning.evaluation.intervals import paired_difference
from genrm_lightning.evaluation.voting import Floats, Samples, Scope, doubling, interval, samples

MOST_VOTES = 10  # that a p(A) may count for


@dataclass
class StoppingSettings:
    """When a pair has samples enough; the most it may have is the sampling's n_samples.

    Attributes:
        alpha: error level: how much a pair's score may change, in the mean, between the votes drawn and all of them;
            0 stops only where the rest cannot change the verdict.
        first: samples of each order before the first look; each further look comes after twice as many.
        votes: soft counts p(A), as the accuracy of evaluate does; hard counts votes.
        scope: order: each order's verdict is to stand, as the accuracy of evaluate reads it; pair: the one verdict
            from both orders together (a judge that contradicts itself in the other order then draws nearly all).
        prior: a, b of the Beta prior on an order's probability of A. The command votes fits it to stored judgments; a
            judge that is often in doubt, or led by position, stops too early under the default, which expects neither.
        weight: votes that one p(A) counts for (soft votes only), at least 1; fitted likewise. Above 1 the level holds
            only where p(A) of all pairs varies as the fit says.
    """

    alpha: float = 0.05
    first: int = 2
    votes: Literal["soft", "hard"] = "soft"
    scope: Scope = "order"
    prior: tuple[float, float] = (0.5, 0.5)
    weight: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.alpha < 1:
            raise UserError(f"stopping.alpha: {self.alpha} is not in [0, 1)")
        if self.first < 1:
            raise UserError(f"stopping.first: {self.first} is not above 0")
        for name, known in (("votes", ("soft", "hard")), ("scope", ("order", "pair"))):
            if getattr(self, name) not in known:
                raise UserError(f"stopping.{name}: '{getattr(self, name)}' is none of {', '.join(known)}")
        if len(self.prior) != 2 or not all(0 < value < math.inf for value in self.prior):
            raise UserError(f"stopping.prior: {self.prior} is not two numbers above 0")
        if not 1 <= self.weight <= MOST_VOTES:
            raise UserError(f"stopping.weight: {self.weight} is not in [1, {MOST_VOTES}]")
        if self.weight != 1 and self.votes == "hard":
            raise UserError(f"stopping.weight: {self.weight} is for soft votes; a hard vote counts for one")

    def looks(self, k_max: int) -> list[int]:
        """Samples of each order at each look; the last is all of them."""
        return doubling(self.first, k_max)


def error(totals: Floats, k: int, k_max: int, settings: StoppingSettings) -> Floats:
    """(n,) expected change of the pairs' scores between k samples of each order and k_max.

    Args:
        totals: (n, 2) votes for A so far, or the sums of p(A), of both orders.
    """
    if not len(totals):
        return np.zeros(0)
    now = _scores(totals, k, settings.scope)  # (n, 2 or 1)
    votes, thrown = totals * settings.weight, k * settings.weight
    more = math.ceil((k_max - k) * settings.weight)
    further = np.arange(more + 1)
    ahead = _predicted(votes, thrown, more, settings.prior)  # (n, 2, more + 1)
    if settings.scope == "order":
        then = (np.sign(votes[..., None] + further - (thrown + more) / 2) + 1) / 2
        return (ahead * np.abs(then - now[..., None])).sum(-1).mean(-1)
    # By how much the response that is A in the first order gains on the other one: -more..more.
    gain = np.zeros((len(totals), 2 * more + 1))
    for j in further:
        gain[:, j : j + more + 1] += ahead[:, 0, j, None] * ahead[:, 1, ::-1]
    lead = votes[:, :1] - votes[:, 1:] + np.arange(-more, more + 1)
    return (gain * np.abs((np.sign(lead) + 1) / 2 - now)).sum(-1)


def stops(counted: Floats, settings: StoppingSettings) -> NDArray[np.int64]:
    """(n,) the samples of each order at which each pair stops.

    Args:
        counted: (n, 2, K) what :func:`counts` gives.
    """
    n, _, k_max = counted.shape
    result = np.full(n, k_max)
    going = np.arange(n)
    for k in settings.looks(k_max)[:-1]:
        done = error(counted[going, :, :k].sum(-1), k, k_max, settings) <= settings.alpha
        result[going[done]] = k
        going = going[~done]
    return result


def counts(given: Samples, votes: str) -> Floats:
    """(n, 2, K) what a sample counts for A: its p(A), or 1 or 0 as it voted."""
    return given.p_a if votes == "soft" else (given.voted + 1.0) / 2


def stopped(judgments: pl.DataFrame, settings: StoppingSettings) -> pl.DataFrame:
    """The rows of a table of K samples an order that would have been drawn with sequential stopping.

    Raises:
        ValueError: as in :func:`~genrm_lightning.evaluation.voting.samples`.
    """
    given = samples(judgments)
    limits = pl.DataFrame({"pair_id": given.pair_ids, "limit": stops(counts(given, settings.votes), settings)})
    table = judgments.join(limits, on="pair_id", how="left", maintain_order="left")
    return table.filter(pl.col("sample_index") < pl.col("limit")).drop("limit")


def simulate(
    given: Samples, settings: StoppingSettings, groups: Sequence[str] | None = None
) -> dict[str, float | int | str]:
    """What stopping would have done to stored samples.

    Args:
        groups: the pairs' clusters, as in :func:`~genrm_lightning.evaluation.voting.curve`.

    Returns:
        accuracy, low, high: of the verdicts where sampling stopped, with its 95 % interval over pairs; full_accuracy,
        full_low, full_high: of those of all K; diff, diff_low, diff_high: the first minus the second, paired; changed:
        mean change of a pair's score, to be held against alpha; tokens, samples: shares of all that are drawn; rounds:
        how often a pair is asked for, in the mean (each time its prompts are computed again).
    """
    counted = counts(given, settings.votes)
    ends = stops(counted, settings)
    drawn = np.arange(given.k) < ends[:, None]  # (n, K)
    right = given.right_is_a if settings.scope == "order" else given.right_is_a[:, :1]

    def scores(totals: Floats, k) -> Floats:
        of_a = _scores(totals, k, settings.scope)
        return np.where(right, of_a, 1 - of_a)

    early = scores((counted * drawn[:, None]).sum(-1), ends)
    full = scores(counted.sum(-1), given.k)
    pairs, all_pairs = early.mean(1), full.mean(1)
    names = ("accuracy", "low", "high")
    share, all_tokens = float(drawn.mean()), given.n_tokens.sum()  # a judge may write verdicts alone
    return {
        "alpha": settings.alpha,
        "votes": settings.votes,
        "scope": settings.scope,
        **dict(zip(names, interval(pairs, groups), strict=True)),
        **dict(zip((f"full_{name}" for name in names), interval(all_pairs, groups), strict=True)),
        **dict(zip(("diff", "diff_low", "diff_high"), paired_difference(all_pairs, pairs, groups), strict=True)),
        "changed": float(np.abs(early - full).mean()),
        "tokens": float((given.n_tokens * drawn[:, None]).sum() / all_tokens) if all_tokens else share,
        "samples": share,
        "rounds": float(1 + sum((ends > k).mean() for k in settings.looks(given.k)[:-1])),
    }


def fit(counted: Floats) -> tuple[tuple[float, float], float]:
    """(prior, weight): the Beta(a, b) of an order's probability θ of A, and the votes that a sample counts for.

    By moments of ``counted`` (n, 2, K >= 2), without bias at any K: E[θ] from all values, E[θ²] from products of two
    samples of one order. The weight is E[θ(1-θ)], the variance of a vote, over that of a sample about its θ: 1 for hard
    votes. Two orders of coins (θ = 1/2, votes of 0 or 1) are added, so that samples that never disagree still leave a
    prior. a + b is cut to [0.02, 1000], the weight to [1, 10].

    Raises:
        ValueError: one sample an order, which says nothing of how alike two are.
    """
    values = counted.reshape(-1, counted.shape[-1])
    n, k = values.shape
    if k < 2:
        raise ValueError("expected at least 2 samples an order, got 1: they tell how alike an order's samples are")
    squares, total = (values**2).sum(-1), values.sum(-1)
    mean, own, other = (
        float((found.sum() + 2 * coin) / (n + 2))
        for found, coin in ((total / k, 0.5), (squares / k, 0.5), ((total**2 - squares) / (k * (k - 1)), 0.25))
    )
    spread = other - mean**2
    size = 1000.0 if spread <= 0 else min(max((mean - other) / spread, 0.02), 1000.0)
    weight = min(max((mean - other) / (own - other), 1.0), float(MOST_VOTES)) if own > other else float(MOST_VOTES)
    return (mean * size, (1 - mean) * size), weight


def _scores(totals: Floats, k: int | NDArray[np.int64], scope: Scope) -> Floats:
    """The share of the verdict that goes to A in each order (n, 2), or to the first order's A in the pair (n, 1)."""
    if scope == "order":
        return (np.sign(totals - np.reshape(k, (-1, 1)) / 2) + 1) / 2
    return (np.sign(totals[:, :1] - totals[:, 1:]) + 1) / 2


def _predicted(totals: Floats, k: float, further: int, prior: tuple[float, float]) -> Floats:
    """(n, 2, further + 1) Beta-Binomial probabilities of 0, 1, ... votes for A among the further ones."""
    a, b = prior[0] + totals[..., None], prior[1] + k - totals[..., None]
    j = np.arange(further)
    # The ratio of each probability to the one before: no Gamma function, and totals need not be whole.
    steps = np.log((further - j) / (j + 1)) + np.log(a + j) - np.log(b + further - 1 - j)
    logs = np.concatenate([np.zeros_like(a), steps.cumsum(-1)], -1)
    weights = np.exp(logs - logs.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True)
