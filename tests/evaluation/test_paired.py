"""The difference of two judges on the same pairs."""

from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest

from genrm_lightning.evaluation.intervals import paired_difference
from genrm_lightning.evaluation.measured import measure
from genrm_lightning.evaluation.paired import paired

R, W = "right", "wrong"
NAMES = ("accuracy", "free_accuracy", "ece", "brier")


@pytest.fixture
def two(judgments, preferences):
    """Two judges on 80 pairs of 40 prompts: the second is sometimes what the first is, and better."""
    generator = np.random.default_rng(0)
    first = generator.random((80, 2))
    second = np.where(generator.random((80, 2)) < 0.6, first, generator.beta(4, 1, (80, 2)))
    tables = [
        judgments({f"p{i:02}": tuple([(float(p[i, j]), R if p[i, j] > 0.6 else W)] for j in (0, 1)) for i in range(80)})
        for p in (first, second)
    ]
    groups = pl.Series([f"g{i // 2}" for i in range(80)])
    return *tables, preferences([f"p{i:02}" for i in range(80)], ["x", None] * 40).with_columns(group_id=groups)


def test_differences_are_those_of_the_two_measured(two):
    first, second, pairs = two
    found = paired(first, second, pairs)
    before, after = measure(first, pairs), measure(second, pairs)
    for name in NAMES:
        own = found[name]
        assert own["diff"] == pytest.approx(after[name] - before[name])
        # Of the ECE no interval is known that holds what it promises.
        assert own["low"] is own["high"] is None if name == "ece" else own["low"] < own["diff"] < own["high"]
    assert found["accuracy"]["low"] > 0 and found["brier"]["high"] < 0  # it is better
    # Narrower than if the judges had been asked about different pairs.
    apart = sum((table["brier_high"] - table["brier_low"]) ** 2 for table in (before, after)) ** 0.5
    assert found["brier"]["high"] - found["brier"]["low"] < apart
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert list(found["by"]["category"]) == ["(none)", "x"]
    x = pairs.filter(pl.col("category") == "x")
    alone = [table.filter(pl.col("pair_id").is_in(x["pair_id"].implode())) for table in (first, second)]
    expected = {name: value for name, value in paired(*alone, x).items() if name in ("n_pairs", *NAMES)}
    assert found["by"]["category"]["x"] == expected


def test_swapped_judges_give_the_opposite(two):
    first, second, pairs = two
    one, other = paired(first, second, pairs), paired(second, first, pairs)
    assert one["ece"]["diff"] == -other["ece"]["diff"]
    for name in ("accuracy", "free_accuracy", "brier"):
        back = (-other[name]["diff"], -other[name]["high"], -other[name]["low"])
        assert tuple(one[name].values()) == pytest.approx(back, abs=1e-12)


def test_the_same_judge_does_not_differ(two):
    first, _, pairs = two
    found = paired(first, first, pairs)
    for name in ("ece", "brier"):  # the same pairs are drawn for both
        assert tuple(found[name].values()) == (0, None, None)
    assert found["accuracy"]["low"] < 0 < found["accuracy"]["high"]


def test_pairs_that_one_judge_alone_read(two):
    first, second, pairs = two
    names = sorted(pairs["pair_id"])
    left = first.filter(pl.col("pair_id") != names[0])
    right = second.filter(~pl.col("pair_id").is_in(names[-2:]))
    found = paired(left, right, pairs)
    assert (found["n_pairs"], found["n_only_first"], found["n_only_second"]) == (77, 2, 1)
    own = paired(left, right, pairs.filter(pl.col("pair_id").is_in(names[1:-2])).with_columns(category=None))
    assert {name: own[name] for name in NAMES} == {name: found[name] for name in NAMES} and own["by"]["category"] == {}


def test_one_pair(judgments, preferences):
    tables = [judgments({"p": ([(p, R)], [(p, R)])}) for p in (0.2, 0.9)]
    found = paired(*tables, preferences(["p"]))
    assert found["accuracy"] == paired_difference([0], [1])._asdict()
    assert found["brier"]["diff"] == pytest.approx(0.1**2 - 0.8**2, abs=1e-6)
    assert found["brier"]["low"] is found["brier"]["high"] is None


def test_refuses(two):
    first, second, pairs = two
    with pytest.raises(ValueError, match="expected a pair that both judges judged, got 80 and 80 others"):
        paired(first, second.with_columns(pair_id=pl.format("q{}", "pair_id")), pairs)
    with pytest.raises(ValueError, match="1 judged pairs are not among the given pairs"):
        paired(first, second, pairs.head(79))
