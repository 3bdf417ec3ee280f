"""Draws of whole clusters, against draws that are written out, and what their intervals promise."""

from __future__ import annotations

import numpy as np
import pytest

from genrm_lightning.evaluation.bootstrap import Draws, basic, percentiles
from genrm_lightning.evaluation.intervals import clustered_interval


def test_sums_are_those_of_the_pairs_that_were_drawn():
    members = np.array([0, 2, 0, 1, 2, 2])
    values = np.arange(12, dtype=float).reshape(6, 2)
    draws = Draws(members, 70)  # more than are multiplied at a time
    by_hand = []
    for row in draws.counts:
        drawn = [
            pair
            for cluster, times in enumerate(row)
            for _ in range(times)
            for pair in np.flatnonzero(members == cluster)
        ]
        by_hand.append(values[drawn].sum(0))
    assert draws.sums(values) == pytest.approx(np.array(by_hand))
    weighted = [weights @ values for weights in draws.weights()]
    assert np.array(weighted) == pytest.approx(np.array(by_hand))


def test_as_many_clusters_are_drawn_as_there_are_each_as_often_in_the_mean():
    counts = Draws(np.repeat(np.arange(30), 3), 4000).counts
    assert (counts.sum(1) == 30).all()
    # Multinomial: mean 1 and variance 1 - 1/30 of each cluster.
    assert counts.mean(0) == pytest.approx(np.ones(30), abs=0.08)
    assert counts.var(0) == pytest.approx(np.full(30, 29 / 30), abs=0.15)


def test_the_same_draws_at_every_call():
    members = np.arange(9)
    assert (Draws(members).counts == Draws(members).counts).all()


def test_one_cluster_is_always_drawn():
    draws = Draws(np.zeros(4, dtype=np.int64), 5)
    assert (draws.sums(np.ones((4, 1))) == 4).all()


@pytest.mark.parametrize("members", [np.array([], dtype=np.int64), np.zeros((2, 2), dtype=np.int64)])
def test_refuses(members):
    with pytest.raises(ValueError, match="cluster of at least one pair"):
        Draws(members)


def test_percentiles():
    assert percentiles(np.arange(1001.0)) == pytest.approx((25.0, 975.0))
    assert percentiles(np.array([0.0, np.nan, 1.0])) == pytest.approx((0.025, 0.975))
    assert percentiles(np.array([0.5, np.nan, 0.5])) is None  # no width is no interval
    assert percentiles(np.array([0.5, np.nan])) is None


def test_basic_is_mirrored_cut_and_holds_the_value():
    drawn = np.arange(1001.0) / 1000  # 0.025 and 0.975 are its percentiles
    assert basic(0.4, drawn, (-1.0, 1.0)) == pytest.approx((-0.175, 0.775))
    assert basic(0.4, drawn, (0.0, 0.5)) == pytest.approx((0.0, 0.5))
    assert basic(0.4, drawn + 1, (0.0, 1.0)) == pytest.approx((0.0, 0.4))
    assert basic(0.4, np.full(9, 0.4), (0.0, 1.0)) is None


def test_coverage_beside_wilson():
    """Clusters of 1 to 6 pairs that are alike: near the ceiling the bootstrap sees too little."""
    generator = np.random.default_rng(1)
    members = np.repeat(np.arange(60), np.tile([1, 2, 3, 4, 5, 6], 10))
    draws = Draws(members, 400)
    covered = {}
    for truth in (0.6, 0.99):
        of_cluster = generator.beta(2.3 * truth, 2.3 * (1 - truth), (200, 60))
        pairs = (generator.random((200, len(members))) < of_cluster[:, members]).astype(float)
        sums = draws.sums(np.concatenate([np.ones((1, len(members))), pairs]).T)
        ends = np.quantile(sums[:, 1:] / sums[:, :1], [0.025, 0.975], axis=0)
        wilson = np.array([clustered_interval(row, members)[1:] for row in pairs]).T
        covered[truth] = [np.mean((low <= truth) & (truth <= high)) for low, high in (ends, wilson)]
    assert min(covered[0.6]) >= 0.9
    assert covered[0.99][0] < 0.85 and covered[0.99][1] >= 0.93
