"""Votes of several samples: maj@K, soft votes and free verdicts, and what accuracy K samples buy.

K counts samples of *an order*: a pair judged at K has 2K samples. Its verdict is read in one of three ways (reading):

- **hard**: the response with more votes (JUDGMENT.vote, drawn at the sampling's verdict temperature): self-consistency,
  maj@K (Wang et al., arXiv 2203.11171);
- **soft**: the response with the higher mean probability at the forced verdict (Generative Verifiers, arXiv
  2408.15240);
- **free**: the response that more of the model's own texts name; INVALID names none, and a verdict that no text names
  is wrong;

and over one of two scopes: **pair**: one verdict from the samples of both orders together; **order**: a verdict an
order, whose scores are averaged (the accuracy of :mod:`~genrm_lightning.evaluation.scores`).

A tie scores one half, in every reading, scope and K: what a coin would get, without drawing one and without letting p_a
into the hard votes; a judge that always says A gets the half that it deserves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from math import comb
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from data_tools.judging import Verdict
from data_tools.order import chosen_is_a
from genrm_lightning.evaluation.intervals import clustered_interval
from genrm_lightning.evaluation.scores import check_judgments

Reading = Literal["hard", "soft", "free"]
Scope = Literal["pair", "order"]
READINGS: tuple[Reading, ...] = ("hard", "soft", "free")
SCOPES: tuple[Scope, ...] = ("pair", "order")
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Samples:
    """A JUDGMENT table of n pairs with K samples of each order, as arrays; axis 1: swapped False, True.

    Attributes:
        pair_ids: n, sorted.
        right_is_a: (n, 2) whether the preferred response stands as A.
        p_a: (n, 2, K) float64.
        voted: (n, 2, K) int8: 1 for A, -1 for B (the hard votes).
        named: (n, 2, K) int8: 1 for A, -1 for B, 0 for INVALID (the texts' verdicts).
        n_tokens: (n, 2, K) of the rationales.
    """

    pair_ids: list[str]
    right_is_a: NDArray[np.bool_]
    p_a: Floats
    voted: NDArray[np.int8]
    named: NDArray[np.int8]
    n_tokens: NDArray[np.int32]

    @property
    def k(self) -> int:
        return self.p_a.shape[2]


def samples(judgments: pl.DataFrame) -> Samples:
    """The arrays of a table in which every pair has the same number of samples.

    Raises:
        ValueError: pairs have different numbers of samples (a table of sequential stopping), a vote is missing, or as
            in :func:`~genrm_lightning.evaluation.scores.set_scores`.
    """
    check_judgments(judgments)
    counts = judgments.group_by("pair_id").len().sort("pair_id")
    uneven = counts.filter(pl.col("len") != counts["len"].max())
    if uneven.height:
        raise ValueError(
            f"expected {counts['len'].max() // 2} samples an order of every pair, got {uneven['len'][0] // 2} of "
            f"'{uneven['pair_id'][0]}': its sampling was stopped early"
        )
    _check_votes(judgments)
    table = judgments.sort("pair_id", "swapped", "sample_index").select(
        pl.col("p_a").cast(pl.Float64), "n_tokens", vote=_letter("vote"), verdict=_letter("verdict")
    )
    ids = counts["pair_id"].to_list()
    own = np.array([chosen_is_a(pair_id, False) for pair_id in ids])
    p_a, n_tokens, voted, named = (column.to_numpy().reshape(len(ids), 2, -1) for column in table)
    return Samples(ids, np.stack([own, ~own], 1), p_a, voted, named, n_tokens)


def expected_scores(given: Samples, k: int, reading: Reading, scope: Scope = "pair") -> Floats:
    """(n,) the score of each pair's verdict at K = k: its mean over draws of k of the stored samples of each order.

    Without bias at any k, whatever the order in which samples were drawn, and the same at every call. Votes are
    counted over *all* subsets, by the hypergeometric distribution; mean probabilities have no such formula: there all
    pairs of cyclic windows of k neighbours are taken. At k = K it is the score of the verdict itself: 0, 1/2 or 1.

    Raises:
        ValueError: k is not in 1..K.
    """
    if not 1 <= k <= given.k:
        raise ValueError(f"expected k of the {given.k} samples an order, got {k}")
    if reading == "soft":
        return _soft(given, k, scope)
    votes = given.voted if reading == "hard" else given.named
    return majority_scores(votes * np.where(given.right_is_a, 1, -1)[..., None], k, scope)


def majority_scores(votes: NDArray[np.signedinteger], k: int, scope: Scope = "pair") -> Floats:
    """(n,) the score of the majority of k of the K samples of each order, in the mean over all subsets.

    Args:
        votes: (n, 2, K): 1 for the right response, -1 for the wrong one, 0 for none.
    """
    right, wrong = (votes == 1).sum(-1), (votes == -1).sum(-1)  # (n, 2)
    cells, index = np.unique(np.concatenate([right, wrong], 1), axis=0, return_inverse=True)
    values = [_counted(int(r0), int(w0), int(r1), int(w1), votes.shape[2], k, scope) for r0, r1, w0, w1 in cells]
    return np.array(values, dtype=np.float64)[index.reshape(-1)]


def curve(given: Samples, groups: Sequence[str] | None = None) -> list[dict[str, float | int | str]]:
    """Accuracy by K, a row for each K = 1, 2, 4, ... and the K that is stored, reading and scope.

    Args:
        groups: the pairs' clusters (:func:`~genrm_lightning.evaluation.scores.clusters`) in the order of their ids.

    Returns:
        k, reading, scope, accuracy with the ends of its 95 % interval over pairs, and tokens: rationale tokens a pair
        (both orders), in the mean.
    """
    tokens = float(given.n_tokens.mean())
    rows = []
    for reading in READINGS:
        for scope in SCOPES:
            for k in doubling(1, given.k):
                accuracy, low, high = interval(expected_scores(given, k, reading, scope), groups)
                row = {"k": k, "reading": reading, "scope": scope, "tokens": 2 * k * tokens}
                rows.append({**row, "accuracy": accuracy, "low": low, "high": high})
    return rows


def interval(scores: Floats, groups: Sequence[str] | None) -> tuple[float, float, float]:
    """(accuracy, low, high) of the pairs' scores."""
    # Sums of probabilities may leave [0, 1] by a rounding.
    return clustered_interval(scores.clip(0.0, 1.0), groups)


def doubling(first: int, last: int) -> list[int]:
    """first, twice that and so on below ``last``; then ``last``.

    >>> doubling(2, 12)
    [2, 4, 8, 12]
    """
    steps = []
    while first < last:
        steps.append(first)
        first *= 2
    return [*steps, last]


def verdicts(judgments: pl.DataFrame) -> pl.DataFrame:
    """One row a pair, sorted by its id: what all its samples say, however many they are.

    Returns:
        pair_id, n_samples (an order), n_tokens (of all its rationales), p_chosen (mean probability of the preferred
        response over both orders), votes_chosen (its share of the votes), hard, soft, free (score of the pair's
        verdict: 0, 1/2 or 1), entropy and vote_entropy (nats, 0 to ln 2: CoT-entropy, arXiv 2502.11250, of the
        verdict's distribution over the sampled rationales and both orders, by p_chosen and by votes_chosen).

    Raises:
        ValueError: as in :func:`~genrm_lightning.evaluation.scores.set_scores`.
    """
    check_judgments(judgments)
    _check_votes(judgments)
    ids = judgments["pair_id"].unique().sort()
    own = pl.DataFrame({"pair_id": ids, "own": [chosen_is_a(pair_id, False) for pair_id in ids]})
    right_is_a = pl.col("own") != pl.col("swapped")
    right = pl.when(right_is_a).then(1).otherwise(-1).cast(pl.Int32)
    orders = (
        judgments.join(own, on="pair_id")
        .sort("pair_id", "swapped", "sample_index")
        .group_by("pair_id", "swapped", maintain_order=True)
        .agg(
            right_is_a=right_is_a.first(), n_samples=pl.len().cast(pl.Int32), n_tokens=pl.col("n_tokens").sum(),
            p_a=pl.col("p_a").cast(pl.Float64).mean(), hard=(_letter("vote") * right).sum(),
            free=(_letter("verdict") * right).sum(), named=_letter("verdict").abs().sum(),
        )
    )  # fmt: skip
    p_right = pl.when("right_is_a").then("p_a").otherwise(1 - pl.col("p_a"))
    # One order's p(A) against the other's: unlike 1 - p it is exact, and the same for either response.
    margin = pl.when("right_is_a").then("p_a").otherwise(-pl.col("p_a")).sum()
    pairs = orders.group_by("pair_id", maintain_order=True).agg(
        n_samples=pl.col("n_samples").first(),
        n_tokens=pl.col("n_tokens").sum(),
        p_chosen=p_right.mean(),
        votes_chosen=0.5 + pl.col("hard").sum() / (2 * pl.col("n_samples").sum()),
        hard=(pl.col("hard").sum().sign() + 1) / 2,
        soft=(margin.sign() + 1) / 2,
        free=pl.when(pl.col("named").sum() > 0).then((pl.col("free").sum().sign() + 1) / 2).otherwise(0.0),
    )
    return pairs.with_columns(entropy=_entropy("p_chosen"), vote_entropy=_entropy("votes_chosen"))


def _letter(column: str) -> pl.Expr:
    """1 for A, -1 for B, 0 for neither."""
    value = pl.col(column)
    return pl.when(value == Verdict.A.value).then(1).when(value == Verdict.B.value).then(-1).otherwise(0).cast(pl.Int8)


def _check_votes(judgments: pl.DataFrame) -> None:
    if not judgments["vote"].is_in([Verdict.A.value, Verdict.B.value]).fill_null(False).all():
        raise ValueError("expected a vote of A or B in every row, got another or none")


def _entropy(column: str) -> pl.Expr:
    """Of a coin that falls so with the probability ``column``, nats."""
    p = pl.col(column)
    # 0 log 0 is 0, and rounding may carry a probability past 1.
    return sum((pl.when(q > 0).then(q * (1 / q).log()).otherwise(0.0) for q in (p, 1 - p)), start=pl.lit(0.0))


def _soft(given: Samples, k: int, scope: Scope) -> Floats:
    """(n,) share of the windows whose mean p(A) is on the right side, ties half."""
    starts = given.k if k < given.k else 1
    around = np.concatenate([given.p_a, given.p_a[..., : k - 1]], -1)
    windows = np.lib.stride_tricks.sliding_window_view(around, k, axis=-1)[:, :, :starts].sum(-1)  # (n, 2, starts)
    sides = np.where(given.right_is_a, 1.0, -1.0)
    if scope == "order":
        return ((np.sign(windows - k / 2) * sides[..., None] + 1) / 2).mean((1, 2))
    # The right response is A in one order and B in the other: it wins where it is the likelier A.
    shares = [np.sign(windows[:, 0] - np.roll(windows[:, 1], shift, -1)).mean(-1) for shift in range(starts)]
    return (np.mean(shares, axis=0) * sides[:, 0] + 1) / 2


@cache
def _counted(right0: int, wrong0: int, right1: int, wrong1: int, n: int, k: int, scope: Scope) -> float:
    """Expected score of the vote of k of n samples of each order, which hold so many right and wrong ones."""
    (lead0, none0), (lead1, none1) = _leads(right0, wrong0, n, k), _leads(right1, wrong1, n, k)
    if scope == "order":
        return float(_score(lead0) - none0 / 2 + _score(lead1) - none1 / 2) / 2
    return float(_score(np.convolve(lead0, lead1)) - none0 * none1 / 2)


def _score(lead: Floats) -> float:
    """P(lead > 0) + P(lead = 0) / 2 of a distribution over -m..m."""
    middle = len(lead) // 2
    return lead[middle + 1 :].sum() + lead[middle] / 2


@cache
def _leads(right: int, wrong: int, n: int, k: int) -> tuple[Floats, float]:
    """Of k drawn from n without replacement: the distribution of right - wrong over -k..k, and P(neither occurs)."""
    neither, total = n - right - wrong, comb(n, k)
    lead = np.zeros(2 * k + 1)
    for r in range(min(right, k) + 1):
        for w in range(max(0, k - r - neither), min(wrong, k - r) + 1):
            lead[k + r - w] += comb(right, r) * comb(wrong, w) * comb(neither, k - r - w) / total
    return lead, comb(neither, k) / total
