"""Intervals against values worked out by hand, and against what they promise: 95 % coverage."""

from __future__ import annotations

import math

import numpy as np
import pytest

from genrm_lightning.evaluation.intervals import clustered_interval, effective_n, paired_difference, wilson


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
    # Both orders always agree: with one pair right and one wrong added, var = p(1-p), so a pair is one trial.
    assert effective_n([1, 1, 0, 0]) == 4
    # Means 1, .5, .5, 0 and the added 1 and 0: p = 0.5, the squares sum to 4 * 0.25, n_eff = 4 * 6 * 0.25 / 1.
    assert effective_n([1, 0.5, 0.5, 0]) == 6
    # Always A: every pair is half right; not more than 2 n is claimed.
    assert effective_n([0.5] * 10) == 20
    # All right or all wrong says nothing of the correlation.
    assert [effective_n([1.0] * 7), effective_n([0.0] * 7)] == pytest.approx([7, 7])


def test_effective_n_of_clusters_hand_worked():
    # Three pairs that share one outcome are one trial, whatever the outcomes are.
    shared, groups = [1, 1, 1, 0, 0, 0, 1, 1, 1], list("aaabbbccc")
    assert effective_n(shared, groups) == pytest.approx(3)
    assert effective_n([1.0] * 9, groups) == pytest.approx(3)
    # Clusters of 1 and 3: a pair lies on average in one of m = (1 + 9)/4 = 2.5, and 4/2.5 = 1.6 trials are left.
    assert effective_n([1.0] * 4, list("abbb")) == pytest.approx(1.6)
    # Names of groups are names alone.
    assert effective_n(shared, groups) == effective_n(shared, [ord(g) for g in groups])


def test_effective_n_tends_to_the_clustered_standard_error():
    """Miller (2411.00640), clustered standard errors, written out over presentations; clusters of three pairs."""
    generator = np.random.default_rng(0)
    hard = generator.random((4000, 1, 1))
    scores = (generator.random((4000, 3, 2)) < hard).astype(float)
    overall = scores.mean()
    residual = (scores - overall).reshape(4000, 6)
    clustered = math.sqrt(sum((r[:, None] * r[None, :]).sum() for r in residual)) / scores.size
    groups = np.repeat(np.arange(4000), 3).tolist()
    n_eff = effective_n(scores.mean(2).ravel(), groups)
    assert math.sqrt(overall * (1 - overall) / n_eff) == pytest.approx(clustered, rel=1e-3)


@pytest.mark.parametrize("means", [[], [[0.5]], [0.5, math.nan], [1.5], [-0.1, 0.5]])
def test_effective_n_refuses(means):
    with pytest.raises(ValueError, match="expected the pair means"):
        effective_n(means)
    with pytest.raises(ValueError, match="a group for each of 2 pairs, got 3"):
        effective_n([0, 1], ["a", "b", "c"])


def _outcomes(generator: np.random.Generator, sets: int, pairs: int, agree: float, p: float = 0.7) -> np.ndarray:
    """(sets, pairs) pair means, the second order a copy of the first with probability ``agree``."""
    first = generator.random((sets, pairs)) < p
    second = np.where(generator.random((sets, pairs)) < agree, first, generator.random((sets, pairs)) < p)
    return (first.astype(float) + second) / 2


@pytest.mark.parametrize("agree", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("p", [0.7, 0.9, 0.99])
def test_interval_covers_the_truth_at_95_percent(agree, p):
    means = _outcomes(np.random.default_rng(1), 1500, 120, agree, p)
    covered = [low <= p <= high for _, low, high in map(clustered_interval, means)]
    assert 0.93 <= np.mean(covered) <= 0.985


@pytest.mark.parametrize("n", [5, 20, 100])
def test_a_worse_result_never_has_a_higher_lower_end(n):
    """From all right to all half right: each pair that loses an order lowers the interval's lower end."""
    lows = [clustered_interval([1.0] * (n - half) + [0.5] * half)[1] for half in range(n + 1)]
    assert lows == sorted(lows, reverse=True)


def test_pairs_of_one_prompt_are_not_independent():
    """50 prompts of 6 pairs that are right or wrong together: only clusters keep what the interval promises."""
    generator = np.random.default_rng(2)
    before, after = (np.repeat(generator.random((2, 800, 50)) < 0.7, 6, axis=2)).astype(float)
    groups = np.repeat(np.arange(50), 6).tolist()
    assert np.mean([low <= 0.7 <= high for _, low, high in (clustered_interval(x, groups) for x in after)]) >= 0.92
    assert np.mean([low <= 0.7 <= high for _, low, high in map(clustered_interval, after)]) < 0.7
    found = [paired_difference(a, b, groups) for a, b in zip(before, after, strict=True)]
    assert np.mean([d.low <= 0 <= d.high for d in found]) >= 0.92
    alone = [paired_difference(a, b) for a, b in zip(before, after, strict=True)]
    assert np.mean([d.low <= 0 <= d.high for d in alone]) < 0.7


def test_counting_presentations_would_not_cover():
    """What the effective size is for: with orders that agree, 2 n trials give an interval that is too narrow."""
    means = _outcomes(np.random.default_rng(1), 1500, 120, 1.0)
    covered = [low <= 0.7 <= high for low, high in (wilson(float(m.mean()), 240) for m in means)]
    assert np.mean(covered) < 0.90


def test_paired_difference_hand_worked():
    # Bonett and Price: p12 = (f12 + 1)/(n + 2), p21 likewise; p12 - p21 ± z sqrt((p12 + p21 - (p12 - p21)²)/(n + 2)).
    # 40 pairs, 6 better and 1 worse: p12 = 7/42, p21 = 2/42.
    first = [0.0] * 6 + [1.0] + [0.0] * 33
    second = [1.0] * 6 + [0.0] + [0.0] * 33
    better, worse = 7 / 42, 2 / 42
    half = 1.959964 * math.sqrt((better + worse - (better - worse) ** 2) / 42)
    expected = (5 / 40, better - worse - half, better - worse + half)
    assert paired_difference(first, second) == pytest.approx(expected, abs=1e-6)
    # All of two pairs change fully: D' = 2/4, squares 2*0.25 + 0.25 + 2.25 = 3, half = z sqrt(3)/4; cut at 1.
    assert paired_difference([0, 0], [1, 1]) == pytest.approx((1.0, 0.5 - 1.959964 * math.sqrt(3) / 4, 1.0), abs=1e-6)
    # The same two pairs as one cluster: m = 2, D' = 2/6, squares (2*2/3)² + 4*((2/3)² + (4/3)²) = 96/9.
    low = 1 / 3 - 1.959964 * math.sqrt(96 / 9) / 6
    assert paired_difference([0, 0], [1, 1], ["a", "a"]) == pytest.approx((1.0, low, 1.0), abs=1e-6)


def test_paired_difference_properties():
    generator = np.random.default_rng(3)
    first, second = generator.integers(0, 3, (2, 80)) / 2
    one = paired_difference(first, second)
    assert one.diff == pytest.approx(second.mean() - first.mean())
    assert one.low < one.diff < one.high
    back = paired_difference(second, first)
    assert back == pytest.approx((-one.diff, -one.high, -one.low), abs=1e-12)
    wider = paired_difference(first, second, confidence=0.99)
    assert wider.low < one.low and one.high < wider.high
    # Away from the ends it is the bootstrap's interval, drawn here pair by pair.
    difference = second - first
    drawn = difference[generator.integers(0, 80, (10_000, 80))].mean(1)
    assert (one.low, one.high) == pytest.approx(tuple(np.quantile(drawn, [0.025, 0.975])), abs=0.02)


@pytest.mark.parametrize("n", [1, 2, 10, 100])
@pytest.mark.parametrize(("before", "after"), [(0.0, 0.0), (0.5, 1.0), (0.0, 1.0), (1.0, 0.0), (1.0, 1.0)])
def test_where_every_pair_changes_alike_there_is_a_width_all_the_same(n, before, after):
    found = paired_difference([before] * n, [after] * n)
    assert -1 <= found.low <= found.diff <= found.high <= 1
    assert found.high - found.low > 1.9 / (n + 2)


def test_pairing_narrows_the_interval():
    """Judges that find the same pairs hard: the paired interval is narrower than for the same numbers unpaired."""
    generator = np.random.default_rng(5)
    first = (generator.random(200) < 0.6).astype(float)
    second = np.where(generator.random(200) < 0.1, 1.0, first)
    paired, shuffled = paired_difference(first, second), paired_difference(first, generator.permutation(second))
    assert paired.diff == pytest.approx(shuffled.diff)
    assert paired.high - paired.low < 0.6 * (shuffled.high - shuffled.low)


def test_paired_difference_covers_the_truth_at_95_percent():
    generator = np.random.default_rng(6)
    before, after = generator.random((2, 1500, 100, 2)) < np.array([0.5, 0.7])[:, None, None, None]
    after = np.where(generator.random(after.shape) < 0.5, after, before)  # true difference: 0.5 * 0.2
    found = [paired_difference(a, b) for a, b in zip(before.mean(-1), after.mean(-1), strict=True)]
    assert 0.935 <= np.mean([d.low <= 0.1 <= d.high for d in found]) <= 0.975


@pytest.mark.parametrize("agree", [0.0, 0.8])
@pytest.mark.parametrize("p", [0.7, 0.9, 0.97, 0.99])
@pytest.mark.parametrize("n", [60, 200])
def test_paired_difference_covers_the_truth_near_the_ceiling(p, agree, n):
    """From a judge that always says A (every pair half right) to one that is nearly always right."""
    after = _outcomes(np.random.default_rng(7), 1000, n, agree, p)
    found = [paired_difference(np.full(n, 0.5), x) for x in after]
    assert np.mean([d.low <= p - 0.5 <= d.high for d in found]) >= 0.93


def test_paired_difference_refuses():
    with pytest.raises(ValueError, match="same pairs for both judges, got 2 and 3"):
        paired_difference([0, 1], [0, 1, 1])
    with pytest.raises(ValueError, match="second judge's pair means"):
        paired_difference([0, 1], [0, math.nan])
    with pytest.raises(ValueError, match="a group for each of 2 pairs, got 1"):
        paired_difference([0, 1], [0, 1], ["a"])
    with pytest.raises(ValueError, match="confidence in"):
        paired_difference([0, 1], [0, 1], confidence=95)
