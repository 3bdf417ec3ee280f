"""What a calibrated judge's ECE would be, and whether the ECE's interval holds the truth."""

from __future__ import annotations

import numpy as np
import pytest

from genrm_lightning.evaluation.bootstrap import Draws
from genrm_lightning.evaluation.calibration import null_eces
from genrm_lightning.evaluation.outcomes import Outcomes
from genrm_lightning.evaluation.sums import intervals, numbers


def judge(p_right, cluster=None) -> Outcomes:
    """Of the probability of the right response, (n, 2)."""
    p_right = np.asarray(p_right, dtype=np.float64)
    n = len(p_right)
    is_a = np.stack([np.arange(n) % 2 == 0, np.arange(n) % 2 == 1], axis=1)
    right = p_right > 0.5
    members = np.arange(n) if cluster is None else np.asarray(cluster)
    ids = np.array([f"p{i}" for i in range(n)], dtype=object)
    return Outcomes(ids, members, is_a, np.where(is_a, p_right, 1 - p_right), right, right.astype(float))


def drawn_judge(generator, cluster, temperature: float) -> Outcomes:
    """A judge whose log-odds are ``temperature`` times the true ones; labels of a cluster are correlated by 0.5."""
    n = len(cluster)
    logit = np.abs(generator.normal(1.0, 1.5, n))
    shared = generator.random(cluster.max() + 1)[cluster]
    u = np.where(generator.random(n) < 0.5**0.5, shared, generator.random(n))
    side = np.where(u < 1 / (1 + np.exp(-logit)), 1, -1)
    return judge(np.repeat(1 / (1 + np.exp(-temperature * side * logit))[:, None], 2, axis=1), cluster)


@pytest.mark.parametrize("pairs_a_cluster", [1, 4])
def test_the_interval_of_the_ece_holds_zero_where_it_is_zero(pairs_a_cluster):
    generator = np.random.default_rng(0)
    cluster = np.arange(160) // pairs_a_cluster
    draws = Draws(cluster, 200)
    calibrated = [intervals(drawn_judge(generator, cluster, 1.0), draws)["ece"] for _ in range(60)]
    assert np.mean([low == 0 for low, _ in calibrated]) >= 0.9  # the basic interval alone: half of them
    # It is no interval that always begins at 0: three times the log-odds, an ECE of 0.14, is refuted.
    surer = [intervals(drawn_judge(generator, cluster, 3.0), draws)["ece"] for _ in range(40)]
    assert np.mean([0 < low < 0.14 < high for low, high in surer]) >= 0.8


def test_labels_are_drawn_from_the_confidences_one_a_pair():
    both = null_eces(judge([(0.9, 0.9)]))
    assert sorted(set(both.round(6))) == [0.1, 0.9]  # both orders are right or wrong together
    assert both.mean() == pytest.approx(0.9 * 0.1 + 0.1 * 0.9, abs=0.04)
    # A judge that always says A: one label makes one order right and the other wrong, or, as each order is 60 % sure,
    # at times both right; never both wrong.
    biased = null_eces(judge([(0.6, 0.4)]))
    assert sorted(set(biased.round(6))) == [0.1, 0.4] and (biased > 0.3).mean() == pytest.approx(0.2, abs=0.05)
    assert (null_eces(judge([(0.5, 0.5), (1.0, 0.0)])) == 0).all()
    assert (null_eces(judge([(0.7, 0.8)], None), 5) == null_eces(judge([(0.7, 0.8)]), 5)).all()


def test_the_mean_is_that_of_labels_drawn_one_by_one():
    generator = np.random.default_rng(2)
    p = generator.uniform(0.5, 1, 40)
    plain = [
        numbers(judge(np.repeat(np.where(generator.random(40) < p, p, 1 - p)[:, None], 2, 1)))["ece"]
        for _ in range(500)
    ]
    found = null_eces(judge(np.stack([p, p], 1)))
    assert found.mean() == pytest.approx(np.mean(plain), rel=0.05)
    assert np.quantile(found, 0.975) == pytest.approx(np.quantile(plain, 0.975), rel=0.1)


def test_pairs_that_are_right_together_are_drawn_together():
    p = np.repeat([0.7, 0.3], [140, 60])[:, None] * np.ones((1, 2))  # 70 % of the pairs are right
    alone, together = (null_eces(judge(p, cluster)) for cluster in (None, np.arange(200) // 10))
    assert np.quantile(together, 0.975) > 2 * np.quantile(alone, 0.975)
