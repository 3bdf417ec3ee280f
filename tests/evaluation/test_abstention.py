"""Risk and coverage against brute force."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest

from genrm_lightning.evaluation.abstention import COVERAGES, aurc, risk_coverage, selective
from genrm_lightning.evaluation.intervals import clustered_interval


def test_by_hand():
    # Rising uncertainty: right, wrong, right, half.
    risks = risk_coverage([0.5, 0, 1, 0], [0.9, 0.1, 0.2, 0.3])
    assert risks.tolist() == pytest.approx([0, 1 / 2, 1 / 3, 1.5 / 4])
    assert aurc([0.5, 0, 1, 0], [0.9, 0.1, 0.2, 0.3])["aurc"] == pytest.approx(risks.mean())


@pytest.mark.parametrize("seed", range(4))
def test_equal_uncertainties_are_averaged_over_their_orders(seed):
    random = np.random.default_rng(seed)
    errors, uncertainty = random.integers(0, 3, 6) / 2, random.integers(0, 3, 6)
    curves = []
    for order in permutations(range(6)):
        if (np.diff(uncertainty[list(order)]) >= 0).all():
            curves.append(errors[list(order)].cumsum() / np.arange(1, 7))
    assert risk_coverage(errors, uncertainty) == pytest.approx(np.mean(curves, axis=0))
    best = min(np.mean(errors[list(order)].cumsum() / np.arange(1, 7)) for order in permutations(range(6)))
    found = aurc(errors, uncertainty)
    assert found["best"] == pytest.approx(best) and found["risk"] == pytest.approx(errors.mean())
    assert found["low"] <= found["aurc"] <= found["high"]


def test_an_uncertainty_that_says_nothing_has_the_area_of_no_order():
    found = aurc([0, 1, 1, 0], [0.5] * 4)
    assert found["aurc"] == found["risk"] == 0.5


def test_the_interval_counts_clusters_and_covers():
    random = np.random.default_rng(0)
    errors, uncertainty = random.random(60).round(), random.random(60)
    alone, again = (aurc(errors, uncertainty) for _ in range(2))
    assert alone == again
    three = aurc(np.tile(errors, 3), np.tile(uncertainty, 3), [f"{i}" for i in range(60)] * 3)
    assert three["aurc"] == pytest.approx(alone["aurc"], abs=0.02)
    assert three["high"] - three["low"] == pytest.approx(alone["high"] - alone["low"], rel=0.15)
    # Sixty pairs of one law: the interval holds the area of very many in about 19 of 20 sets.
    risk = np.linspace(0, 1, 20000)
    truth = (risk.cumsum() / np.arange(1, 20001)).mean()
    held = 0
    for _ in range(20):
        uncertainty = random.random(60)
        found = aurc((random.random(60) < uncertainty).astype(float), uncertainty)
        held += found["low"] <= truth <= found["high"]
    assert held >= 16


def test_selective_accuracy():
    scores = np.array([1, 1, 0, 1, 0.5, 0, 1, 0, 0, 0.5])
    uncertainty = np.array([0, 0, 0, 0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    rows = selective(scores, uncertainty, [f"{i}" for i in range(10)])
    assert [row["coverage"] for row in rows] == list(COVERAGES) == [1.0, 0.9, 0.8, 0.7, 0.5]
    assert [row["n_pairs"] for row in rows] == [10, 9, 8, 7, 5]
    assert [row["threshold"] for row in rows] == [0.6, 0.5, 0.4, 0.3, 0.1]
    assert rows[3]["accuracy"] == pytest.approx(4.5 / 7)
    assert (rows[3]["accuracy"], rows[3]["low"], rows[3]["high"]) == pytest.approx(clustered_interval(scores[:7]))
    # Four of ten are equally sure: whoever answers one of them answers all.
    few = selective(np.ones(10), np.array([0.0] * 8 + [1, 1]))
    assert [row["covered"] for row in few] == [1.0, 1.0, 0.8, 0.8, 0.8]


def test_refuses():
    for spoilt in (([], []), ([1], [1, 2]), ([[1]], [[1]]), ([1], [float("nan")]), ([float("nan")], [1])):
        with pytest.raises(ValueError):
            risk_coverage(*spoilt)
