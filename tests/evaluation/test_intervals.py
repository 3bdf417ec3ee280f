"""Intervals against values worked out by hand, and against what they promise: 95 % coverage."""

from __future__ import annotations

import math

import numpy as np
import pytest

from genrm_lightning.evaluation.intervals import clustered_interval, effective_n, paired_bootstrap, wilson


def test_wilson_hand_worked():
    # p = 0.5, n = 100: centre stays 0.5; half = z sqrt(0.0025 + z²/40000) / (1 + z²/100) with z = 1.959964:
    # 1.959964 * sqrt(0.0025 + 0.000096036) / 1.038415 = 0.0961692
    assert wilson(0.5, 100) == pytest.approx((0.4038308, 0.5961692), abs=1e-6)
    # p = 0, n = 10: 0 and z²/(n + z²) = 3.841459/13.841459
    assert wilson(0.0, 10) == pytest.approx((0.0, 3.841459 / 13.841459), abs=1e-7)
    # Newcombe (1998), table I: 15 of 148, score method without continuity correction.
    assert wilson(15 / 148, 148) == pytest.approx((0.0624, 0.1605), abs=5e-5)


def test_wilson_is_symmetric_and_stays_in_range():
    for p in (0.0, 0.01, 0.3, 0.5, 0.97, 1.0):
        low, high = wilson(p, 37)
        assert 0.0 <= low <= p <= high <= 1.0
        assert wilson(1 - p, 37) == pytest.approx((1 - high, 1 - low), abs=1e-12)


@pytest.mark.parametrize(("p", "n", "confidence"), [(1.1, 10, 0.95), (math.nan, 10, 0.95), (0.5, 0, 0.95), (0.5, 9, 1)])
def test_wilson_refuses(p, n, confidence):
    with pytest.raises(ValueError, match="expected"):
        wilson(p, n, confidence)


def test_effective_n_hand_worked():
    # Both orders always agree: var = p(1-p), so a pair is one trial.
    assert effective_n([1, 1, 0, 0]) == 4
    # Means 1, .5, .5, 0: p = 0.5, var = (0.25 + 0 + 0 + 0.25)/4 = 0.125, n_eff = 4 * 0.25 / 0.125 = 8 = 2 n.
    assert effective_n([1, 0.5, 0.5, 0]) == 8
    # Means 1, 1, .5, 0: p = 0.625, var = (2*0.140625 + 0.015625 + 0.390625)/4 = 0.171875, n_eff = 0.9375/0.171875.
    assert effective_n([1, 1, 0.5, 0]) == pytest.approx(0.9375 / 0.171875)
    # Always A: every pair is half right, variance 0; not more than 2 n is claimed.
    assert effective_n([0.5] * 10) == 20
    assert effective_n([0.5] * 9 + [1.0]) == 20
    # All right or all wrong says nothing of the correlation.
    assert effective_n([1.0] * 7) == effective_n([0.0] * 7) == 7


def test_effective_n_gives_the_clustered_standard_error():
    """Miller (2411.00640), clustered standard errors, written out over presentations."""
    generator = np.random.default_rng(0)
    scores = (generator.random((50, 2)) < generator.random((50, 1))).astype(float)
    means, overall = scores.mean(1), scores.mean()
    residual = scores - overall
    clustered = math.sqrt(sum((r[:, None] * r[None, :]).sum() for r in residual)) / scores.size
    assert math.sqrt(overall * (1 - overall) / effective_n(means)) == pytest.approx(clustered, rel=1e-12)


@pytest.mark.parametrize("means", [[], [[0.5]], [0.5, math.nan], [1.5], [-0.1, 0.5]])
def test_effective_n_refuses(means):
    with pytest.raises(ValueError, match="expected the pair means"):
        effective_n(means)


def _outcomes(generator: np.random.Generator, sets: int, pairs: int, agree: float) -> np.ndarray:
    """(sets, pairs) pair means with p = 0.7, the second order a copy of the first with probability ``agree``."""
    first = generator.random((sets, pairs)) < 0.7
    second = np.where(generator.random((sets, pairs)) < agree, first, generator.random((sets, pairs)) < 0.7)
    return (first.astype(float) + second) / 2


@pytest.mark.parametrize("agree", [0.0, 0.5, 1.0])
def test_interval_covers_the_truth_at_95_percent(agree):
    means = _outcomes(np.random.default_rng(1), 1500, 120, agree)
    covered = [low <= 0.7 <= high for _, low, high in map(clustered_interval, means)]
    assert 0.93 <= np.mean(covered) <= 0.975


def test_counting_presentations_would_not_cover():
    """What the effective size is for: with orders that agree, 2 n trials give an interval that is too narrow."""
    means = _outcomes(np.random.default_rng(1), 1500, 120, 1.0)
    covered = [low <= 0.7 <= high for low, high in (wilson(float(m.mean()), 240) for m in means)]
    assert np.mean(covered) < 0.90


def test_paired_bootstrap_hand_worked():
    # Two pairs, differences 0 and 1: resampled means are 0, 0.5, 1 with probabilities 1/4, 1/2, 1/4.
    assert paired_bootstrap([0.5, 0.0], [0.5, 1.0]) == (0.5, 0.0, 1.0)
    # One pair of forty differs by 1: P(mean = 0) = (39/40)^40 = 0.363 > 0.025, so low = 0; the count is
    # binomial with P(more than 3) = 0.0176 < 0.025 < P(more than 2) = 0.0771, so high = 3/40.
    assert paired_bootstrap([0.0] * 40, [1.0] + [0.0] * 39) == pytest.approx((0.025, 0.0, 0.075))
    # The same change everywhere has no spread.
    assert paired_bootstrap([0.5] * 5, [1.0] * 5) == (0.5, 0.5, 0.5)


def test_paired_bootstrap_properties():
    generator = np.random.default_rng(3)
    first, second = generator.integers(0, 3, (2, 80)) / 2
    one = paired_bootstrap(first, second, seed=5)
    assert one == paired_bootstrap(first, second, seed=5)
    assert one != paired_bootstrap(first, second, seed=6)
    assert one.diff == pytest.approx(second.mean() - first.mean())
    assert one.low < one.diff < one.high
    back = paired_bootstrap(second, first, seed=5)
    assert back == pytest.approx((-one.diff, -one.high, -one.low), abs=0.01)
    # Drawing pairs one by one gives the same interval but for the noise of 10,000 resamples.
    difference = second - first
    drawn = difference[generator.integers(0, 80, (10_000, 80))].mean(1)
    assert (one.low, one.high) == pytest.approx(tuple(np.quantile(drawn, [0.025, 0.975])), abs=0.0126)


def test_paired_bootstrap_does_not_depend_on_the_block(monkeypatch):
    """Many distinct values (several samples a pair) are drawn in blocks; none of the resamples may be lost."""
    generator = np.random.default_rng(4)
    first, second = generator.random((2, 64))
    whole = paired_bootstrap(first, second, resamples=1001)
    monkeypatch.setattr("genrm_lightning.evaluation.intervals._BLOCK", 64 * 100)
    assert paired_bootstrap(first, second, resamples=1001) == whole


def test_pairing_narrows_the_interval():
    """Judges that find the same pairs hard: the paired interval is narrower than for the same numbers unpaired."""
    generator = np.random.default_rng(5)
    first = (generator.random(200) < 0.6).astype(float)
    second = np.where(generator.random(200) < 0.1, 1.0, first)
    paired, shuffled = paired_bootstrap(first, second), paired_bootstrap(first, generator.permutation(second))
    assert paired.diff == pytest.approx(shuffled.diff)
    assert paired.high - paired.low < 0.6 * (shuffled.high - shuffled.low)


def test_paired_bootstrap_covers_the_truth_at_95_percent():
    generator = np.random.default_rng(6)
    before, after = generator.random((2, 400, 100, 2)) < np.array([0.5, 0.7])[:, None, None, None]
    after = np.where(generator.random(after.shape) < 0.5, after, before)  # true difference: 0.5 * 0.2
    covered = []
    for index, (first, second) in enumerate(zip(before.mean(-1), after.mean(-1), strict=True)):
        _, low, high = paired_bootstrap(first, second, resamples=2000, seed=index)
        covered.append(low <= 0.1 <= high)
    assert 0.91 <= np.mean(covered) <= 0.985


def test_paired_bootstrap_refuses():
    with pytest.raises(ValueError, match="same pairs for both judges, got 2 and 3"):
        paired_bootstrap([0, 1], [0, 1, 1])
    with pytest.raises(ValueError, match="second judge's pair means"):
        paired_bootstrap([0, 1], [0, math.nan])
    with pytest.raises(ValueError, match="at least 1 resample"):
        paired_bootstrap([0, 1], [0, 1], resamples=0)
