"""Accuracy against the distance from the training set."""

from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest
from scipy.stats import spearmanr

from genrm_lightning.evaluation.bootstrap import Draws
from genrm_lightning.evaluation.intervals import clustered_interval
from genrm_lightning.evaluation.shift import shift, spearman

R, W = (0.9, "right"), (0.1, "wrong")


def table(judgments, scores):
    """Pairs p000, p001, ... that are right in so many of their orders."""
    return judgments({f"p{i:03}": ([R if s > 0 else W], [R if s > 1 else W]) for i, s in enumerate(scores)})


def test_hand_worked(judgments, preferences):
    distances = pl.DataFrame(
        {"pair_id": [f"p{i:03}" for i in (5, 4, 3, 2, 1, 0, 9)], "distance": [6, 5, 4, 3, 2, 1, 7]}
    )
    pairs = preferences([f"p{i:03}" for i in range(6)], ["far" if i > 3 else None if i else "near" for i in range(6)])
    found = shift(table(judgments, [2, 2, 2, 1, 1, 0]), pairs, distances, train="train.parquet", n_bins=3)
    rows = [(row["low"], row["high"], row["n_pairs"], row["accuracy"]) for row in found["bins"]]
    assert rows == [(1, 2, 2, 1), (3, 4, 2, 0.75), (5, 6, 2, 0.25)]
    # Ranks of the accuracy: 5, 5, 5, 2.5, 2.5, 1 against 1 to 6.
    assert found["spearman"] == pytest.approx(np.corrcoef([5, 5, 5, 2.5, 2.5, 1], range(1, 7))[0, 1])
    assert -1 <= found["spearman_low"] <= found["spearman"] <= found["spearman_high"] <= 1
    names = [(row["name"], row["distance"], row["n_pairs"], row["accuracy"]) for row in found["categories"]]
    assert names == [("near", 1, 1, 1), ("(none)", 3, 3, pytest.approx(5 / 6)), ("far", 5.5, 2, 0.25)]
    expected = clustered_interval([0.5, 0])
    far = found["categories"][-1]
    assert (far["accuracy"], far["accuracy_low"], far["accuracy_high"]) == pytest.approx(expected)
    assert found["train"] == "train.parquet" and json.loads(json.dumps(found, allow_nan=False)) == found


def test_spearman_against_scipy_in_every_draw():
    generator = np.random.default_rng(0)
    first = generator.integers(0, 12, 40).astype(float)
    second = (generator.random(40) < first / 12) + 0.5
    draws = Draws(np.arange(40) // 2, 200)
    found = spearman(first, second, draws)
    assert found[0] == pytest.approx(spearmanr(first, second).statistic)
    drawn = [np.repeat(np.arange(40), weights.astype(int)) for weights in draws.weights()]
    by_hand = [spearmanr(first[rows], second[rows]).statistic for rows in drawn]
    assert found[1:] == pytest.approx(tuple(np.quantile(by_hand, [0.025, 0.975])))


def test_pairs_of_one_prompt_widen_the_interval():
    generator = np.random.default_rng(1)
    distance = np.repeat(generator.random(30), 6)
    right = np.repeat((generator.random(30) > 0.5).astype(float), 6)
    alone, together = (spearman(distance, right, Draws(groups)) for groups in (np.arange(180), np.arange(180) // 6))
    assert together[2] - together[1] > 1.8 * (alone[2] - alone[1])


def test_what_is_constant_has_no_correlation(judgments, preferences):
    distances = pl.DataFrame({"pair_id": ["p000", "p001"], "distance": [0.5, 0.5]})
    for scores in ([2, 2], [2, 0]):
        found = shift(table(judgments, scores), preferences(["p000", "p001"]), distances, train="t")
        assert (found["spearman"], found["spearman_low"], found["spearman_high"]) == (None, None, None)
        assert [row["n_pairs"] for row in found["bins"]] == [2]
    one = shift(table(judgments, [1]), preferences(["p000"]), distances, train="t")
    assert one["spearman"] is None and one["bins"][0]["accuracy"] == 0.5


def test_dropped_pairs_need_no_distance(judgments, preferences):
    distances = pl.DataFrame({"pair_id": ["p000", "p001"], "distance": [0.1, 0.2]})
    pairs = preferences(["p000", "p001", "p002"])
    found = shift(table(judgments, [2, 0]), pairs, distances, train="t", dropped=["p002"])
    assert sum(row["n_pairs"] for row in found["bins"]) == 2 and found["spearman"] == pytest.approx(-1)


@pytest.mark.parametrize(
    ("distances", "message"),
    [
        ({"pair_id": ["p000"], "distance": [0.1]}, "got none for 1"),
        ({"pair_id": ["p000", "p001"], "distance": [0.1, float("nan")]}, "got none for 1"),
        ({"pair_id": ["p000", "p001", "p001"], "distance": [0.1, 0.2, 0.3]}, "got 3 of 2 pairs"),
    ],
)
def test_refuses(judgments, preferences, distances, message):
    with pytest.raises(ValueError, match=message):
        shift(table(judgments, [2, 0]), preferences(["p000", "p001"]), pl.DataFrame(distances), train="t")
    with pytest.raises(ValueError, match="at least 1 bin"):
        shift(table(judgments, [2, 0]), preferences(["p000", "p001"]), pl.DataFrame(distances), train="t", n_bins=0)
