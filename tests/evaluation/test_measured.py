"""What is measured of a judge, against scikit-learn and values worked out by hand."""

from __future__ import annotations

import json
import math

import numpy as np
import polars as pl
import pytest
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss, cohen_kappa_score, precision_recall_curve, roc_auc_score

from data_tools.order import chosen_is_a
from genrm_lightning.evaluation import votes
from genrm_lightning.evaluation.bootstrap import Draws
from genrm_lightning.evaluation.discrimination import auroc
from genrm_lightning.evaluation.intervals import clustered_interval, paired_difference
from genrm_lightning.evaluation.measured import measure
from genrm_lightning.evaluation.outcomes import outcomes
from genrm_lightning.evaluation.paired import paired
from genrm_lightning.evaluation.scores import compare, pair_scores, presentations, set_scores
from genrm_lightning.evaluation.slices import pair_confidence, risk_coverage

R, W, I = "right", "wrong", "INVALID"  # noqa: E741
# Both orders of each pair; no confidence lies on the edge of a bin.
FOUR = {
    "p1": ([(0.92, R)], [(0.83, R)]),  # right in both orders
    "p2": ([(0.62, R)], [(0.28, W)]),  # the same letter twice
    "p3": ([(0.17, W)], [(0.22, I)]),  # wrong in both
    "p4": ([(0.5, I)], [(0.92, R)]),  # a tie, then right
}


@pytest.fixture
def many(judgments, preferences):
    """60 pairs of 25 prompts with scores on a grid, so that many are equal, and ties among them."""
    generator = np.random.default_rng(0)
    p = np.clip(np.round(generator.normal(0.62, 0.25, (60, 2)), 2), 0, 1)
    p[:4, 0] = 0.5
    said = generator.choice([R, W, I], (60, 2), p=[0.6, 0.3, 0.1])
    ids = [f"p{i:02}" for i in range(60)]
    table = judgments({name: tuple([(float(p[i, j]), said[i, j])] for j in (0, 1)) for i, name in enumerate(ids)})
    pairs = preferences(ids, [("x", "y", None)[i % 3] for i in range(60)])
    texts = {"chosen": ["c" * int(n) for n in generator.integers(1, 60, 60)], "rejected": ["r" * 30] * 60}
    groups = pl.Series([f"g{i % 25}" for i in range(60)])
    return table, pairs.with_columns(group_id=groups, **{name: pl.Series(text) for name, text in texts.items()})


def sides(table: pl.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """(whether A is the better response, p_a) of each presentation, written out."""
    better = [chosen_is_a(*row) for row in table.select("pair_id", "swapped").iter_rows()]
    return np.array(better), table["p_a"].to_numpy().astype(np.float64)


def test_against_scikit_learn(many):
    table, pairs = many
    found = measure(table, pairs)
    better, p_a = sides(table)
    assert found["auroc"] == pytest.approx(roc_auc_score(better, p_a), abs=1e-12)
    assert found["brier"] == pytest.approx(brier_score_loss(better, p_a), abs=1e-12)
    letters = np.where(p_a > 0.5, "A", np.where(p_a < 0.5, "B", "neither"))
    assert found["kappa"] == pytest.approx(cohen_kappa_score(np.where(better, "A", "B"), letters), abs=1e-12)
    precision, recall, _ = precision_recall_curve(better, p_a)
    expected = set(zip(recall.round(12), precision.round(12), strict=True))
    points = list(zip(found["pr"]["recall"], found["pr"]["precision"], strict=True))
    assert (
        30 <= len(points) <= 50 < len(np.unique(p_a)) and {(round(r, 12), round(p, 12)) for r, p in points} <= expected
    )
    assert points[0][0] == recall[-2] and points[-1] == pytest.approx((1.0, 0.5))
    assert found["pr"]["recall"] == sorted(found["pr"]["recall"])


def test_the_whole_curve_of_few_scores(judgments, preferences):
    table = judgments(FOUR)
    better, p_a = sides(table)
    precision, recall, _ = precision_recall_curve(better, p_a)
    found = measure(table, preferences(list(FOUR)))["pr"]
    assert found["recall"] == pytest.approx(recall[-2::-1].tolist()[: len(found["recall"])])
    assert found["precision"] == pytest.approx(precision[-2::-1].tolist()[: len(found["precision"])])
    assert len(found["recall"]) == len(np.unique(p_a))


def test_reliability_against_scikit_learn(judgments, preferences):
    generator = np.random.default_rng(1)
    p = generator.random((200, 2))  # no ties, none on an edge
    table = judgments({f"p{i}": tuple([(float(p[i, j]), R)] for j in (0, 1)) for i in range(200)})
    found = measure(table, preferences([f"p{i}" for i in range(200)]))
    better, p_a = sides(table)
    confidence, right = np.maximum(p_a, 1 - p_a), (p_a > 0.5) == better
    share, mean = calibration_curve(right, confidence, n_bins=20)  # of [0, 1]: the upper half is used
    rows = found["reliability"]
    assert [row["share_right"] for row in rows] == pytest.approx(share.tolist())
    assert [row["mean_p"] for row in rows] == pytest.approx(mean.tolist())
    assert [row["low"] for row in rows] == pytest.approx([0.5 + 0.05 * i for i in range(10)])
    assert sum(row["n"] for row in rows) == 400
    assert all(row["share_low"] < row["share_right"] < row["share_high"] for row in rows)
    weights = np.array([row["n"] for row in rows]) / 400
    assert found["ece"] == pytest.approx(float(weights @ np.abs(share - mean)))


def test_hand_worked(judgments, preferences):
    found = measure(judgments(FOUR), preferences(list(FOUR)), seconds=4.0)
    # Confidence and hit: .92 1, .83 1 | .62 1, .72 0 | .83 0, .78 0 | .5 tie, .92 1. By bin, hits less confidence:
    # .5 to: .5 - .5; .6 to: 1 - .62; .7 to: 0 - .72; .75 to: 0 - .78; .8 to: 1 - 1.66; .9 to: 2 - 1.84.
    assert found["ece"] == pytest.approx((0 + 0.38 + 0.72 + 0.78 + 0.66 + 0.16) / 8, abs=1e-7)
    assert [(row["n"], row["share_right"]) for row in found["reliability"]] == [
        (1, 0.5), (1, 1), (1, 0), (1, 0), (2, 0.5), (2, 1),
    ]  # fmt: skip
    squares = 0.08**2 + 0.17**2 + 0.38**2 + 0.72**2 + 0.83**2 + 0.78**2 + 0.25 + 0.08**2
    assert found["brier"] == pytest.approx(squares / 8, abs=1e-7)
    # 4 of 8 right, 1 of 8 a tie: chance 7/16.
    assert found["kappa"] == pytest.approx((1 / 2 - 7 / 16) / (1 - 7 / 16))
    assert found["position_bias"] == found["share_a"] - 0.5
    # p2 chooses one letter twice, p4 is a tie and a letter, the others are consistent.
    p2, p4 = (1 if chosen_is_a("p2", False) else -1), (0.5 if chosen_is_a("p4", True) else -0.5)
    bias = paired_difference([0.5, (1 - p2) / 2, 0.5, (1 - p4) / 2], [0.5, (1 + p2) / 2, 0.5, (1 + p4) / 2])
    expected = (bias.diff / 2, bias.low / 2, bias.high / 2)
    assert tuple(found[f"position_bias{end}"] for end in ("", "_low", "_high")) == pytest.approx(expected)
    assert (found["tokens_per_verdict"], found["seconds_per_verdict"]) == (10, 0.5)


def test_intervals_hold_the_numbers_and_all_of_set_scores_is_there(many):
    table, pairs = many
    found = measure(table, pairs)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert set_scores(table, pairs).as_dict().items() <= found.items()
    for name in ("ece", "brier", "auroc", "kappa", "position_bias", "accuracy_bootstrap", "free_accuracy_bootstrap"):
        value = found[name.removesuffix("_bootstrap")]
        assert found[f"{name}_low"] < value < found[f"{name}_high"], name
    # Away from the ends the two intervals of the accuracy say the same.
    assert found["accuracy_bootstrap_low"] == pytest.approx(found["accuracy_low"], abs=0.03)
    assert found["accuracy_bootstrap_high"] == pytest.approx(found["accuracy_high"], abs=0.03)
    assert "votes" not in found


def test_drawn_areas_are_those_of_the_drawn_pairs(many):
    own = outcomes(*many)
    draws = Draws(own.cluster, 5)
    areas = auroc(own, draws)
    for area, weights in zip(areas[1:], draws.weights(), strict=True):
        rows = np.repeat(np.arange(len(own)), weights.astype(int))
        assert area == pytest.approx(roc_auc_score(own.right_is_a[rows].ravel(), own.p_a[rows].ravel()))


def test_outcomes_agree_with_the_tables(many):
    own, pairs = outcomes(*many), pair_scores(presentations(many[0]))
    assert own.pair_ids.tolist() == pairs["pair_id"].to_list()
    for name in ("accuracy", "free_accuracy", "consistent"):
        assert getattr(own, name).tolist() == pairs[name].to_list()


def test_length_slices_hand_worked(judgments, preferences):
    pairs = preferences([f"p{i}" for i in range(9)])
    lengths = [1, 2, 3, 4, 5, 6, 7, 8, 9]  # beside 5: differences -4 to 4
    pairs = pairs.with_columns(chosen=pl.Series(["c" * n for n in lengths]), rejected=pl.lit("r" * 5))
    verdict = {f"p{i}": ([(0.9 if i > 5 else 0.1, R)],) * 2 for i in range(9)}
    found = measure(judgments(verdict), pairs)
    # Of nine values the sixths are the 2nd, 3rd, 5th, 6th and 8th: -3, -2, 0, 1 and 3.
    assert [(row["name"], row["n_pairs"], row["accuracy"]) for row in found["by_length"]] == [
        ("up to -3", 2, 0), ("-2", 1, 0), ("-1 to +0", 2, 0), ("+1", 1, 0), ("+2 to +3", 2, 1), ("from +4", 1, 1),
    ]  # fmt: skip
    assert [(row["low"], row["high"]) for row in found["by_length"]][::5] == [(None, -3), (4, None)]
    # The rule: 4 right, 1 as long, 4 wrong; the judge: 3 of 9 right.
    rule = [0.0] * 4 + [0.5] + [1.0] * 4
    assert found["longer_wins"]["accuracy"] == 0.5
    assert found["longer_wins"]["diff"] == pytest.approx(3 / 9 - 0.5)
    difference = paired_difference(rule, [0.0] * 6 + [1.0] * 3)
    assert (found["longer_wins"]["diff_low"], found["longer_wins"]["diff_high"]) == pytest.approx(difference[1:])
    # Pairs that one judge could not read move no bucket of its own.
    gone = [f"p{i}" for i in (6, 7, 8)]
    short = measure(judgments({k: v for k, v in verdict.items() if k not in gone}), pairs, dropped=gone)
    assert [row["name"] for row in short["by_length"]] == [row["name"] for row in found["by_length"]]
    assert short["by_length"][-1]["n_pairs"] == 0 and short["by_length"][-1]["accuracy"] is None
    assert (short["n_dropped"], short["n_pairs"]) == (3, 6)


def test_slices(many):
    table, pairs = many
    found = measure(table, pairs.with_columns(label_kind=pl.lit("human")))["by"]
    assert list(found) == ["category", "label_kind"] and list(found["category"]) == ["(none)", "x", "y"]
    every = measure(table, pairs)
    for name in ("accuracy", "accuracy_low", "free_accuracy", "position_consistency", "position_bias", "ece"):
        assert found["label_kind"]["human"][name] == pytest.approx(every[name]), name
    own = pairs.filter(pl.col("category") == "x")
    alone = measure(table.filter(pl.col("pair_id").is_in(own["pair_id"].implode())), own)
    assert found["category"]["x"] == pytest.approx({name: alone[name] for name in found["category"]["x"]})


def test_risk_coverage(many, judgments, preferences):
    table, pairs = many
    rows = measure(table, pairs)["risk_coverage"]
    assert len(rows) <= 20 and rows[-1]["coverage"] == 1
    assert rows[-1]["risk"] == pytest.approx(1 - measure(table, pairs)["accuracy"])
    own = outcomes(table, pairs)
    sure = pair_confidence(own)
    for row in rows:
        answered = np.argsort(-sure, kind="stable")[: round(row["coverage"] * 60)]
        accuracy, low, high = clustered_interval(own.accuracy[answered], own.cluster[answered])
        assert (row["risk"], row["risk_low"], row["risk_high"]) == pytest.approx((1 - accuracy, 1 - high, 1 - low))
    # Four pairs, sure by .375, .05, .305 and .21 of the mean of both orders.
    four = outcomes(judgments(FOUR), preferences(list(FOUR)))
    points = risk_coverage(four, pair_confidence(four))
    assert [row["coverage"] for row in points] == [1 / 4, 2 / 4, 3 / 4, 1]
    assert [row["risk"] for row in points] == pytest.approx([0, 1 / 2, 1 / 2, 1 / 2])
    assert len(risk_coverage(four, np.ones(4))) == 1


def test_rewards_order_the_pairs_where_probabilities_are_all_one(judgments, preferences):
    table = judgments({"p0": ([(1.0, R)],) * 2, "p1": ([(0.0, W)],) * 2})
    pairs = preferences(["p0", "p1"])
    rewards = pl.DataFrame({"pair_id": ["p1", "p0"], "chosen_reward": [-20.0, 50.0], "rejected_reward": [0.0, 0.0]})
    assert [row["risk"] for row in measure(table, pairs)["risk_coverage"]] == [0.5]
    assert [row["risk"] for row in measure(table, pairs, rewards=rewards)["risk_coverage"]] == [0, 0.5]
    for wrong in (rewards.head(1), pl.concat([rewards, rewards]), rewards.with_columns(chosen_reward=math.nan)):
        with pytest.raises(ValueError, match="two finite rewards for each of 2 judged pairs"):
            measure(table, pairs, rewards=wrong)


def test_large_rewards_are_ranked_though_their_probabilities_are_all_one(judgments, preferences):
    generator = np.random.default_rng(3)
    margin = generator.normal(10, 30, 100)
    margin[:5] = 0.0
    ids = [f"p{i:02}" for i in range(100)]
    p = (1 / (1 + np.exp(-margin))).tolist()
    table = judgments({name: ([(p[i], R)], [(p[i], R)]) for i, name in enumerate(ids)})
    rewards = pl.DataFrame({"pair_id": ids, "chosen_reward": margin + 1, "rejected_reward": np.ones(100)})
    found = measure(table, preferences(ids), rewards=rewards)
    better = np.repeat([True, False], 100)
    scores = np.concatenate([margin, -margin])
    assert found["auroc"] == pytest.approx(roc_auc_score(better, scores), abs=1e-12)
    assert found["auroc_low"] < found["auroc"] < found["auroc_high"]
    assert found["auroc"] != pytest.approx(measure(table, preferences(ids))["auroc"], abs=1e-3)
    precision, recall, _ = precision_recall_curve(better, scores)
    expected = set(zip(recall.round(12), precision.round(12), strict=True))
    points = {
        (round(r, 12), round(p, 12)) for r, p in zip(*(found["pr"][k] for k in ("recall", "precision")), strict=True)
    }
    assert points <= expected and min(found["pr"]["recall"]) == 0.01  # not a third of all pairs at once


def test_scores_of_any_scale_have_no_calibration(many):
    table, pairs = many
    known, found = measure(table, pairs), measure(table, pairs, probabilities=False)
    gone = {f"{name}{end}" for name in ("ece", "brier") for end in ("", "_low", "_high")}
    assert all(found[name] is None and known[name] is not None for name in gone)
    assert found["reliability"] == [] and known["reliability"]
    slices = [one for values in found["by"].values() for one in values.values()]
    assert slices and all(one["ece"] is None for one in slices)
    kept = found.keys() - gone - {"reliability", "by"}
    assert {name: found[name] for name in kept} == {name: known[name] for name in kept}
    differences = paired(table, table, pairs, probabilities=False)
    assert set(differences["ece"].values()) == set(differences["brier"].values()) == {None}
    assert differences["accuracy"]["diff"] == 0


def test_several_samples_have_votes(judgments, preferences):
    table = judgments({f"p{i}": ([(0.9, R), (0.4, W)], [(0.8, R), (0.7, R)]) for i in range(3)})
    pairs = preferences([f"p{i}" for i in range(3)])
    found = measure(table, pairs)
    assert found["votes"] == votes.report(table, pairs)
    assert found["tokens_per_verdict"] == 20
    json.dumps(found, allow_nan=False)


@pytest.mark.parametrize(
    ("sample", "expected"),
    [
        ((1.0, R), {"accuracy": 1, "ece": 0, "brier": 0, "auroc": 1, "kappa": 1}),
        ((0.0, W), {"accuracy": 0, "ece": 1, "brier": 1, "auroc": 0, "kappa": -1}),
        ((0.5, R), {"accuracy": 0, "ece": 0, "brier": 0.25, "auroc": 0.5, "kappa": 0}),
        ((0.9, I), {"accuracy": 1, "free_accuracy": 0, "invalid_rate": 1, "ece": 0.1}),
    ],
)
@pytest.mark.parametrize("n", [1, 12])
def test_ends(judgments, preferences, sample, expected, n):
    """All right, all wrong, all ties, no verdict in any text: of one pair and of several."""
    pairs = preferences([f"p{i}" for i in range(n)])
    found = measure(judgments({f"p{i}": ([sample], [sample]) for i in range(n)}), pairs)
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-6)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert list(found["by"]["category"]) == ["kind"]
    # What Wilson's interval is for: here a bootstrap sees no spread, which is no interval.
    for name in ("accuracy_bootstrap", "ece", "brier", "auroc"):
        assert found[f"{name}_low"] is found[f"{name}_high"] is None, name
    assert found["accuracy_high"] - found["accuracy_low"] > 1 / (n + 4)
    ends = found["kappa_low"], found["kappa_high"]
    if sample[0] == 0.5:  # with ties it is no function of the accuracy
        assert ends == (None, None)
    else:
        assert ends == (2 * found["accuracy_low"] - 1, 2 * found["accuracy_high"] - 1)


def test_a_single_cluster(judgments, preferences):
    pairs = preferences(list(FOUR)).with_columns(group_id=pl.lit("one"))
    found = measure(judgments(FOUR), pairs)
    assert found["brier_low"] is found["brier_high"] is None  # nothing is seen of the spread
    assert found["accuracy_low"] < 0.2 < 0.8 < found["accuracy_high"]


def test_row_order_does_not_matter(many):
    table, pairs = many
    assert measure(table.sample(fraction=1, shuffle=True, seed=1), pairs.reverse()) == measure(table, pairs)


def test_other_pairs_are_refused(many):
    table, pairs = many
    with pytest.raises(ValueError, match="same pairs"):
        measure(table, pairs.head(59))
    with pytest.raises(ValueError, match="1 judged pairs are not among the given pairs"):
        outcomes(table, pairs.head(59))
    with pytest.raises(ValueError, match="each pair once"):
        outcomes(table, pl.concat([pairs, pairs.head(1)]))


def test_compare_is_the_same_difference(many):
    table, pairs = many
    flipped = table.with_columns(p_a=1 - pl.col("p_a"))
    found = paired(table, flipped, pairs)
    difference, n = compare(table, flipped, pairs)
    assert tuple(found["accuracy"].values()) == pytest.approx(tuple(difference)) and found["n_pairs"] == n == 60
