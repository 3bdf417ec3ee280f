"""Stopping against exact enumeration, and its error level on data that follow the prior."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from math import comb, lgamma

import numpy as np
import polars as pl
import pytest

from data_tools.errors import UserError
from data_tools.schema import JUDGMENT, conform
from genrm_lightning.evaluation.scores import set_scores
from genrm_lightning.evaluation.stopping import StoppingSettings, counts, error, fit, simulate, stopped, stops
from genrm_lightning.evaluation.voting import SCOPES, Samples, samples, verdicts

K = 32


def thrown(n: int, k: int, prior: tuple[float, float], seed: int = 0) -> Samples:
    """Pairs whose orders have probabilities of A from the prior; a sample is sure of its vote."""
    random = np.random.default_rng(seed)
    heads = random.random((n, 2, k)) < random.beta(*prior, size=(n, 2))[..., None]
    own = random.random(n) < 0.5
    voted = np.where(heads, 1, -1).astype(np.int8)
    tokens = random.integers(5, 20, size=(n, 2, k)).astype(np.int32)
    ids = [f"p{i:05d}" for i in range(n)]
    return Samples(ids, np.stack([own, ~own], 1), heads.astype(np.float64), voted, voted, tokens)


def as_table(given: Samples) -> pl.DataFrame:
    """The JUDGMENT rows of the samples."""
    n, _, k = given.p_a.shape
    letters = np.where(given.voted == 1, "A", "B").reshape(-1)
    return conform(
        pl.DataFrame(
            {
                "pair_id": np.repeat(given.pair_ids, 2 * k),
                "swapped": np.tile(np.repeat([False, True], k), n),
                "sample_index": np.tile(np.arange(k), 2 * n),
                "vote": letters,
                "verdict": letters,
                "p_a": given.p_a.reshape(-1),
                "n_tokens": given.n_tokens.reshape(-1),
            }
        ),
        JUDGMENT,
    )


def beta_binomial(j: int, m: int, a: float, b: float) -> float:
    def beta(x: float, y: float) -> float:
        return lgamma(x) + lgamma(y) - lgamma(x + y)

    return comb(m, j) * np.exp(beta(a + j, b + m - j) - beta(a, b))


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("totals", [(3.0, 1.0), (4.0, 4.0), (0.0, 2.0), (3.7, 0.2)])
def test_the_error_is_the_expected_change_over_all_futures(scope, totals):
    """Enumerated with Gamma functions: 4 of 9 drawn, prior Beta(0.3, 0.8)."""
    k, k_max, (a, b) = 4, 9, (0.3, 0.8)

    def score(s0: float, s1: float, k: int) -> np.ndarray:
        margins = [s0 - k / 2, s1 - k / 2] if scope == "order" else [s0 - s1]
        return (np.sign(margins) + 1) / 2

    expected = 0.0
    for j0, j1 in product(range(k_max - k + 1), repeat=2):
        p = 1.0
        for j, s in ((j0, totals[0]), (j1, totals[1])):
            p *= beta_binomial(j, k_max - k, a + s, b + k - s)
        change = score(totals[0] + j0, totals[1] + j1, k_max) - score(*totals, k)
        expected += p * np.abs(change).mean()
    found = error(np.array([totals]), k, k_max, StoppingSettings(scope=scope, prior=(a, b)))
    assert found[0] == pytest.approx(expected)


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("alpha", [0.01, 0.05, 0.2])
@pytest.mark.parametrize("prior", [(0.5, 0.5), (0.1, 0.4), (2.0, 1.0)])
def test_the_stated_level_holds_where_the_prior_does(scope, alpha, prior):
    given = thrown(3000, K, prior)
    found = simulate(given, StoppingSettings(alpha=alpha, votes="hard", scope=scope, prior=prior))
    # A pair stops where its own error is at most alpha: the mean stays below. Three standard errors of at most that.
    assert found["changed"] <= alpha + 3 * (alpha / 3000) ** 0.5
    assert abs(found["diff"]) <= found["changed"] + 1e-12
    assert found["tokens"] < 1 and found["samples"] == pytest.approx(found["tokens"], rel=0.05)


@pytest.mark.parametrize("mirrored", [False, True], ids=["position alone", "content alone"])
@pytest.mark.parametrize("scope", SCOPES)
def test_the_level_holds_where_one_order_tells_the_other(scope, mirrored):
    """The orders are taken as independent; here one's p(A) is the other's, or that of its B."""
    prior, alpha, n = (1.8, 1.8), 0.05, 1500
    shares = np.random.default_rng(1).beta(*prior, size=n)
    both = np.stack([shares, 1 - shares if mirrored else shares], 1)
    heads = np.random.default_rng(2).random((n, 2, K)) < both[..., None]
    given = replace(thrown(n, K, (1, 1)), voted=np.where(heads, 1, -1).astype(np.int8))
    found = simulate(given, StoppingSettings(alpha=alpha, votes="hard", scope=scope, prior=prior))
    assert found["changed"] <= alpha and found["tokens"] < 0.95


def test_verdicts_without_rationales_have_a_share_too():
    given = thrown(50, 8, (0.3, 0.3))
    found = simulate(replace(given, n_tokens=given.n_tokens * 0), StoppingSettings(0.05))
    assert 0 < found["tokens"] == found["samples"] < 1


def test_a_higher_level_draws_less():
    given = thrown(500, K, (0.3, 0.3))
    for scope in SCOPES:
        shares = [
            simulate(given, StoppingSettings(a, votes="hard", scope=scope))["tokens"] for a in (0, 0.01, 0.05, 0.2)
        ]
        assert shares == sorted(shares, reverse=True) and shares[0] > 2 * shares[-1]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("votes", ["hard", "soft"])
def test_at_level_zero_no_verdict_changes_and_what_cannot_change_stops(seed, scope, votes):
    random = np.random.default_rng(seed)
    k, first = int(random.integers(4, 20)), int(random.integers(1, 4))
    given = thrown(200, k, (0.3, 0.3), seed)
    given = replace(given, p_a=np.where(given.voted == 1, 1.0, 0.0) * random.random(given.p_a.shape))
    settings = StoppingSettings(alpha=0, first=first, votes=votes, scope=scope)
    found = simulate(given, settings)
    assert found["changed"] == found["diff"] == 0
    ends, counted = stops(counts(given, votes), settings), counts(given, votes)
    for k_now in settings.looks(k)[:-1]:
        # Whatever comes, between nothing and all for A.
        sums, more = counted[..., :k_now].sum(-1), k - k_now
        if scope == "order":
            fixed = ((sums > k / 2) | (sums + more < k / 2)).all(1)
        else:
            fixed = np.abs(sums[:, 0] - sums[:, 1]) > more
        assert (ends[fixed] <= k_now).all() and (ends[~fixed] != k_now).all()


def test_a_judge_that_is_sure_needs_two_looks_at_most_and_one_that_contradicts_itself_all_for_the_pair():
    given = thrown(40, K, (0.5, 0.5))
    sure = replace(given, voted=np.ones_like(given.voted))  # A in both orders
    order = StoppingSettings(votes="hard")
    assert set(stops(counts(sure, "hard"), order)) == {4}
    assert set(stops(counts(sure, "hard"), replace(order, scope="pair"))) == {K}


def test_stopped_tables_are_scored_as_they_stand(preferences):
    """Consumers take tables of unequal K, and every presentation weighs alike there."""
    given = thrown(60, 16, (0.4, 0.4))
    table, settings = as_table(given), StoppingSettings(alpha=0.05, votes="hard")
    kept = stopped(table, settings)
    ends = stops(counts(samples(table), "hard"), settings)
    assert verdicts(kept)["n_samples"].to_list() == ends.tolist() and len(set(ends)) > 2
    found = simulate(samples(table), settings)
    scores = set_scores(
        kept.with_columns(p_a=pl.col("vote") == "A").cast({"p_a": pl.Float32}), preferences(given.pair_ids)
    )
    assert scores.accuracy + scores.tie_rate / 2 == pytest.approx(found["accuracy"])
    by_hand = kept.group_by("pair_id", "swapped").agg(pl.col("n_tokens").mean())["n_tokens"].mean()
    assert scores.mean_n_tokens == pytest.approx(by_hand) != pytest.approx(kept["n_tokens"].mean())
    with pytest.raises(ValueError, match="stopped early"):
        simulate(samples(kept), settings)


def test_no_pairs_and_no_further_samples():
    assert error(np.zeros((0, 2)), 2, 8, StoppingSettings()).shape == (0,)
    assert error(np.array([[5.0, 3.0]]), 8, 8, StoppingSettings()).tolist() == [0.0]


@pytest.mark.parametrize("prior", [(0.5, 0.5), (0.1, 0.4), (3.0, 1.0)])
@pytest.mark.parametrize("k", [2, 16])
def test_prior_and_weight_are_found_again(prior, k):
    given = thrown(8000, k, prior)
    (a, b), weight = fit(counts(given, "hard"))
    assert a / (a + b) == pytest.approx(prior[0] / sum(prior), abs=0.02)
    assert a + b == pytest.approx(sum(prior), rel=0.15)
    assert weight == pytest.approx(1, abs=1e-9)
    # A p(A) that is the mean of five votes counts for five.
    soft = thrown(4000, 5 * k, prior).p_a.reshape(4000, 2, k, 5).mean(-1)
    (a, b), weight = fit(soft)
    assert a + b == pytest.approx(sum(prior), rel=0.15) and weight == pytest.approx(5, rel=0.1)


def test_a_prior_is_found_for_judges_without_any_doubt_or_any_difference():
    ones = np.ones((50, 2, 4))
    always, weight = fit(ones)
    assert 0 < always[1] < 0.05 < always[0] < 1.05 and weight == pytest.approx(1)
    assert fit(ones / 2) == ((500.0, 500.0), 10.0)
    with pytest.raises(ValueError, match="at least 2 samples"):
        fit(ones[..., :1])


@pytest.mark.parametrize("scope", SCOPES)
def test_the_level_holds_for_probabilities_of_the_stated_weight_and_they_stop_earlier(scope):
    """Each p(A) is the mean of four votes."""
    random = np.random.default_rng(0)
    shares = random.beta(2.0, 1.5, size=(2000, 2))
    given = replace(thrown(2000, K, (1, 1)), p_a=random.binomial(4, shares[..., None], size=(2000, 2, K)) / 4)
    settings = StoppingSettings(alpha=0.05, scope=scope, prior=(2.0, 1.5))
    careful, weighed = simulate(given, settings), simulate(given, replace(settings, weight=4.0))
    assert careful["changed"] <= weighed["changed"] <= 0.05 and weighed["tokens"] < 0.75 * careful["tokens"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"alpha": 1.0}, "stopping.alpha: 1.0"),
        ({"alpha": float("nan")}, "stopping.alpha"),
        ({"first": 0}, "stopping.first: 0"),
        ({"votes": "free"}, "stopping.votes: 'free'"),
        ({"scope": "set"}, "stopping.scope: 'set'"),
        ({"prior": (0.5, 0.0)}, "stopping.prior"),
        ({"weight": 0.9}, "stopping.weight: 0.9"),
        ({"weight": 2.0, "votes": "hard"}, "stopping.weight: 2.0 is for soft votes"),
    ],
)
def test_refuses(changes, message):
    with pytest.raises(UserError, match=message):
        StoppingSettings(**changes)
