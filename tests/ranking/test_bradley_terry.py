"""Strengths from comparisons."""

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import expit

from genrm_lightning.ranking.bradley_terry import cycles, strengths


def played(n, m, seed, soft=False):
    draw = np.random.default_rng(seed)
    theta = draw.normal(0, 1.5, n)
    i = draw.integers(n, size=m)
    j = (i + draw.integers(1, n, size=m)) % n
    p = expit(theta[i] - theta[j])
    return theta, i, j, p if soft else (draw.uniform(size=m) < p).astype(float)


@pytest.mark.parametrize("soft", [False, True])
def test_the_mode_is_the_optimum_of_the_posterior(soft):
    _, i, j, y = played(7, 40, 0, soft)
    w = np.random.default_rng(1).uniform(0.5, 3, 40)

    def loss(theta):
        d = theta[i] - theta[j]
        return -(w * (y * np.log(expit(d)) + (1 - y) * np.log(expit(-d)))).sum() + (theta**2).sum() / (2 * 1.3**2)

    found = strengths(7, i, j, y, w, prior_sd=1.3)
    best = minimize(loss, np.zeros(7), method="BFGS", options={"gtol": 1e-9})
    assert found.theta == pytest.approx(best.x, abs=1e-5)
    steps = np.eye(7) * 1e-4
    numeric = np.array(
        [
            [
                (loss(found.theta + a + b) - loss(found.theta + a) - loss(found.theta + b) + loss(found.theta)) / 1e-8
                for a in steps
            ]
            for b in steps
        ]
    )
    assert np.linalg.inv(found.covariance) == pytest.approx(numeric, abs=1e-2)


def test_many_comparisons_find_the_strengths_and_intervals_hold():
    inside = []
    for seed in range(20):
        theta, i, j, y = played(8, 800, seed)
        found = strengths(8, i, j, y, prior_sd=10)
        low, high = found.intervals()
        inside += list((low <= theta - theta.mean()) & (theta - theta.mean() <= high))
    assert 0.9 <= np.mean(inside) <= 0.99


def test_who_wins_throughout_stays_finite():
    found = strengths(3, [0, 0, 0, 1], [1, 2, 1, 2], [1, 1, 1, 1])
    assert list(found.order) == [0, 1, 2] and np.abs(found.theta).max() < 5
    rates = found.win_rates()
    assert rates[0] > rates[1] > rates[2] and rates.mean() == pytest.approx(0.5)
    best = found.best()
    assert best.sum() == pytest.approx(1) and best[0] > 0.6 and best[0] > best[1] > best[2]


def test_without_comparisons_all_are_equal():
    found = strengths(3, [], [], [])
    assert (found.theta == 0).all() and found.covariance == pytest.approx(4 * np.eye(3))
    assert found.best() == pytest.approx(np.full(3, 1 / 3), abs=0.04)
    assert strengths(1, [], [], []).win_rates() == [0.5]


def test_cycles():
    ring = ([0, 1, 2], [1, 2, 0])
    assert cycles(3, *ring, [1, 1, 1]) == (1, 1)
    assert cycles(3, *ring, [1, 1, 0]) == (0, 1)
    assert cycles(3, *ring, [1, 1, 0.5]) == (0, 1)
    assert cycles(4, *ring, [0.9, 0.8, 0.7]) == (1, 1)
    i, j = np.triu_indices(5, 1)
    assert cycles(5, i, j, np.ones(10)) == (0, 10)
    draw = np.random.default_rng(0)
    y = draw.integers(0, 2, 10).astype(float)
    beats = np.zeros((5, 5), bool)
    beats[i, j], beats[j, i] = y > 0, y < 1
    by_hand = sum(
        beats[a, b] and beats[b, c] and beats[c, a] for a in range(5) for b in range(5) for c in range(5)
    ) // 3  # fmt: skip
    assert cycles(5, i, j, y) == (by_hand, 10)


@pytest.mark.parametrize(
    ("n", "i", "j", "y", "said"),
    [
        (0, [], [], [], "at least one candidate"),
        (2, [0], [2], [1], "candidates in 0..1"),
        (2, [0], [0], [1], "against itself"),
        (2, [0], [1], [1.5], "outcomes in"),
        (2, [0], [1], [np.nan], "outcomes in"),
        (2, [0, 1], [1], [1], "one length"),
    ],
)
def test_what_is_no_comparison(n, i, j, y, said):
    with pytest.raises(ValueError, match=said):
        strengths(n, i, j, y)
