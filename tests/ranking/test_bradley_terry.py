"""Strengths from comparisons."""

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import expit, logit
from scipy.stats import t as scipy_t

from genrm_lightning.ranking.bradley_terry import POSITION_SD, strengths, student


def played(n, m, seed, soft=False):
    draw = np.random.default_rng(seed)
    theta = draw.normal(0, 1.5, n)
    i = draw.integers(n, size=m)
    j = (i + draw.integers(1, n, size=m)) % n
    p = expit(theta[i] - theta[j])
    return theta, i, j, p if soft else (draw.uniform(size=m) < p).astype(float)


@pytest.mark.parametrize("soft", [False, True])
def test_the_maximum_is_that_of_the_quasi_likelihood(soft):
    _, i, j, y = played(7, 40, 0, soft)
    both = np.stack([expit(logit(y.clip(0.02, 0.98)) + 1.5), expit(logit(y.clip(0.02, 0.98)) - 1)], 1)
    found = strengths(7, i, j, both, prior_sd=1.3)

    def loss(x):
        d = (x[i] - x[j])[:, None] + x[7] * np.array([1, -1])
        fit = -(both * np.log(expit(d)) + (1 - both) * np.log(expit(-d))).sum() / found.dispersion
        return fit + (x[:7] ** 2).sum() / (2 * 1.3**2) + x[7] ** 2 / (2 * POSITION_SD**2)

    best = minimize(loss, np.zeros(8), method="BFGS", options={"gtol": 1e-9})
    assert np.r_[found.theta, found.position] == pytest.approx(best.x, abs=2e-3)
    assert found.position > 0.1 and found.orders == 2


def test_a_liking_for_a_position_moves_no_strength():
    theta = np.array([1.5, 0.5, 0, -0.5, -1.5])
    i, j = np.triu_indices(5, 1)
    d = theta[i] - theta[j]
    for liking in (-3.0, 0.0, 3.0):
        found = strengths(5, i, j, expit(np.stack([d + liking, d - liking], 1)))
        assert found.theta == pytest.approx(theta, abs=0.1) and found.position == pytest.approx(liking, abs=0.1)


def test_who_shows_both_orders_alike_gains_nothing_by_showing_two():
    """Votes of 0 and 1 that both orders share count once: half of them are worth no less."""
    i, j = np.tile(np.triu_indices(8, 1), 12)
    y = np.random.default_rng(6).integers(0, 2, len(i)).astype(float)
    one, two = strengths(8, i, j, y), strengths(8, i, j, np.stack([y, y], 1))
    assert two.dispersion == pytest.approx(2 * one.dispersion, rel=0.02) and two.orders == 2 and one.orders == 1
    assert two.covariance == pytest.approx(one.covariance, rel=0.03, abs=2e-4)


def test_equal_texts_say_nothing_of_the_judge():
    theta = np.array([1.0, 0, 0, 0, -1])
    i, j = np.triu_indices(5, 1)
    same = (theta[i] == 0) & (theta[j] == 0)
    d = (theta[i] - theta[j])[:, None] + 2 * np.array([1, -1])
    y = np.where(same[:, None], 0.5, expit(d))
    found = strengths(5, i, j, y, told=~same)
    assert found.position == pytest.approx(2, abs=0.05) and found.theta == pytest.approx(theta, abs=0.05)
    assert found.freedom == pytest.approx(strengths(5, i[~same], j[~same], y[~same]).freedom, abs=0.3)


def test_even_answers_tell_of_the_position():
    """Half of these are even, as of two votes many are, and count like any other: without them β is 1.36."""
    draw = np.random.default_rng(0)
    i, j = np.triu_indices(10, 1)
    found = []
    for _ in range(40):
        d = draw.normal(0, 0.3, 10)
        p = expit((d[i] - d[j])[:, None] + np.array([1, -1]))
        found.append(strengths(10, i, j, draw.binomial(2, p) / 2).position)
    assert np.mean(found) == pytest.approx(1.1, abs=0.1)  # few comparisons exaggerate


def half(found):
    low, high = found.intervals()
    return (high - low) / 2


@pytest.mark.parametrize("n", [2, 3])
@pytest.mark.parametrize("position", [0.0, 1.0])
def test_who_is_surer_is_believed_more(n, position):
    """Every pair, exactly by Bradley-Terry: what the prior pulls back is no noise. Of votes of 1 less is believed."""
    i, j = np.triu_indices(n, 1)
    nothing, best = half(strengths(n, [], [], [])), []
    for odds in np.r_[0:2:0.1, 2:7:0.25]:
        y = expit((odds * (j - i))[:, None] + position * np.array([1, -1]))
        found = strengths(n, i, j, y)
        assert (half(found) < nothing / 2).all()
        best.append(found.best()[0])
    assert (np.diff(best) >= -0.002).all() and best[-1] > 0.99
    votes = strengths(n, i, j, np.ones((len(i), 2)))
    assert best[2] < votes.best()[0] < best[-1] and (half(votes) < nothing).all()


@pytest.mark.parametrize("n", [2, 3, 4, 5])
def test_no_comparison_makes_anything_less_certain(n):
    draw = np.random.default_rng(n)
    i, j = np.triu_indices(n, 1)
    nothing = half(strengths(n, [], [], []))
    for k in range(60):
        m = draw.integers(1, len(i) + 1)
        odds = draw.normal(0, 3, m)[:, None] + draw.choice([0, 1, 3]) * np.array([1, -1])
        y = expit(odds) if k % 3 else draw.binomial(3, expit(odds)) / 3
        assert (half(strengths(n, i[:m], j[:m], y)) <= nothing * 1.001).all()


@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.99])
@pytest.mark.parametrize("freedom", [2, 3, 7.5, 50, 1e6])
def test_quantiles_of_students_t(confidence, freedom):
    exact = scipy_t.ppf((1 + confidence) / 2, freedom)
    assert student(confidence, freedom) == pytest.approx(exact, rel=0.07 if confidence == 0.99 else 0.01)


def test_a_position_that_decides_all_leaves_all_open():
    """Every comparison even, by votes of 0 and 1: no residual, and yet nothing known."""
    i, j = np.triu_indices(16, 1)
    found = strengths(16, i, j, np.tile([1.0, 0.0], (len(i), 1)))
    low, high = found.intervals()
    assert found.theta == pytest.approx(np.zeros(16), abs=1e-6) and (high - low > 2).all()
    assert found.best() == pytest.approx(np.full(16, 1 / 16), abs=0.04)


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
    assert (found.theta == 0).all() and found.covariance == pytest.approx(4 * (np.eye(3) - 1 / 3))
    assert found.best() == pytest.approx(np.full(3, 1 / 3), abs=0.04)
    assert strengths(1, [], [], []).win_rates() == [0.5]


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
