"""Scores of a set against values worked out by hand."""

from __future__ import annotations

import json

import polars as pl
import pytest

from data_tools.order import chosen_is_a
from genrm_lightning.evaluation.intervals import wilson
from genrm_lightning.evaluation.scores import compare, distinct_share, repetition, set_scores

R, W, I = "right", "wrong", "INVALID"  # noqa: E741
# Four pairs, both orders, two samples each.
FOUR = {
    "p1": ([(0.9, R), (0.8, R)], [(0.7, R), (0.9, I)]),  # right in both orders
    "p2": ([(0.9, R), (0.3, W)], [(0.2, W), (0.4, W)]),  # mean 0.6 right, mean 0.3 wrong
    "p3": ([(0.1, W), (0.2, W)], [(0.3, I), (0.1, I)]),  # wrong in both: consistent all the same
    "p4": ([(0.75, R), (0.25, W)], [(0.9, R), (0.9, R)]),  # mean exactly 0.5: no choice, wrong
}


def test_hand_worked(judgments, preferences):
    scores = set_scores(judgments(FOUR), preferences(list(FOUR), ["x", "x", "y", None]))
    assert (scores.n_pairs, scores.n_presentations, scores.n_samples) == (4, 8, 16)
    # Right presentations: 2 + 1 + 0 + 1 of 8; pair means 1, .5, 0, .5, so n_eff = 4 * 0.25 / 0.125 = 8.
    assert scores.accuracy == 0.5
    assert (scores.accuracy_low, scores.accuracy_high) == pytest.approx(wilson(0.5, 8))
    # Right texts: 3 + 1 + 0 + 3 of 16, three INVALID. Pair means .75, .25, 0, .75: p = 0.4375,
    # var = (2*0.3125² + 0.1875² + 0.4375²)/4 = 0.10546875, n_eff = 4 * 0.24609375/0.10546875 = 9.33, capped at 8.
    assert scores.free_accuracy == 7 / 16
    assert (scores.free_accuracy_low, scores.free_accuracy_high) == pytest.approx(wilson(7 / 16, 8))
    assert scores.invalid_rate == 3 / 16
    assert scores.position_consistent_accuracy == 1 / 4
    assert scores.position_consistency == 2 / 4
    assert scores.tie_rate == 1 / 8
    # Each pair's right letter is once A and once B: p1 and p3 vote A once each. p2 chooses right, then wrong: the same
    # letter twice. p4 is a tie (half), then right.
    p2 = 2 if chosen_is_a("p2", False) else 0
    p4 = 0.5 + chosen_is_a("p4", True)
    assert scores.share_a == pytest.approx((1 + p2 + 1 + p4) / 8)
    assert scores.mean_p_right == pytest.approx((3.3 + 1.8 + 0.7 + 2.8) / 16, abs=1e-7)
    assert scores.mean_n_tokens == 10
    assert scores.length_share == 0


def test_categories(judgments, preferences):
    categories = set_scores(judgments(FOUR), preferences(list(FOUR), ["x", "x", "y", None])).categories
    assert list(categories) == ["(none)", "x", "y"]
    assert [(c["n_pairs"], c["accuracy"]) for c in categories.values()] == [(1, 0.5), (2, 0.75), (1, 0.0)]
    low, high = wilson(0.0, 1)
    assert (categories["y"]["accuracy_low"], categories["y"]["accuracy_high"]) == pytest.approx((low, high))


@pytest.mark.parametrize("letter", ["A", "B"])
def test_a_judge_that_always_says_one_letter_is_half_right(judgments, preferences, letter):
    frame = judgments({f"p{i}": ([(0.9, R)], [(0.9, R)]) for i in range(30)}).with_columns(
        p_a=pl.lit(0.9 if letter == "A" else 0.1, dtype=pl.Float32), verdict=pl.lit(letter)
    )
    scores = set_scores(frame, preferences([f"p{i}" for i in range(30)]))
    assert scores.accuracy == scores.free_accuracy == 0.5
    assert scores.share_a == (letter == "A")
    assert scores.position_consistency == scores.position_consistent_accuracy == 0
    # 60 trials are claimed, not infinitely many although every pair is the same.
    assert (scores.accuracy_low, scores.accuracy_high) == pytest.approx(wilson(0.5, 60))


def test_all_ties_are_wrong(judgments, preferences):
    scores = set_scores(judgments({"p": ([(0.5, I)], [(0.5, I)])}), preferences(["p"]))
    assert (scores.accuracy, scores.tie_rate, scores.share_a, scores.position_consistency) == (0, 1, 0.5, 0)


def test_row_order_does_not_matter(judgments, preferences):
    frame, pairs = judgments(FOUR), preferences(list(FOUR))
    assert set_scores(frame.sample(fraction=1, shuffle=True, seed=1), pairs.reverse()) == set_scores(frame, pairs)


def test_free_text_and_forced_verdict_are_kept_apart(judgments, preferences):
    scores = set_scores(judgments({"p": ([(0.9, W)], [(0.9, I)])}), preferences(["p"]))
    assert (scores.accuracy, scores.free_accuracy, scores.invalid_rate) == (1, 0, 0.5)


def test_json(judgments, preferences):
    scores = set_scores(judgments(FOUR), preferences(list(FOUR))).as_dict()
    assert json.loads(json.dumps(scores, allow_nan=False)) == scores


def test_rationale_health(judgments, preferences):
    texts = ["a b c d", "A b c", None, "x x x x x"]  # the last: 3 of 3-grams, 1 distinct
    frame = judgments({"p": ([(0.9, R)] * 2, [(0.9, R)] * 2)}).with_columns(
        rationale=pl.Series(texts), finish_reason=pl.Series(["stop", "length", None, "length"])
    )
    scores = set_scores(frame, preferences(["p"]))
    # 3-grams: abc bcd | abc | xxx xxx xxx: 6, of which abc, bcd, xxx are distinct.
    assert scores.distinct_3grams == 3 / 6
    assert scores.mean_repetition == pytest.approx((0 + 0 + 0 + 2 / 3) / 4)
    assert scores.length_share == 2 / 4


def test_repetition():
    assert repetition("") == repetition("one two") == repetition("a b c d e") == 0
    assert repetition("a b c a b c") == pytest.approx(1 / 4)  # abc bca cab abc
    assert repetition("Good\ngood  good GOOD") == 1 / 2
    assert distinct_share([]) == distinct_share(["", "a b"]) == 0


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: f.filter(~((pl.col("pair_id") == "p3") & pl.col("swapped"))), "both orders of every pair.*'p3'"),
        (
            lambda f: f.filter(~((pl.col("pair_id") == "p2") & pl.col("swapped") & (pl.col("sample_index") == 1))),
            "expected 2 samples.*got 1 of 'p2' with swapped=True",
        ),
        (lambda f: pl.concat([f, f.head(1)]), "each sample once.*'p1'"),
        (lambda f: f.with_columns(p_a=pl.lit(None, dtype=pl.Float32)), "16 nulls in 'p_a'"),
        (lambda f: f.with_columns(p_a=pl.lit(float("nan"), dtype=pl.Float32)), "p_a in"),
        (lambda f: f.with_columns(p_a=pl.col("p_a") + 1), "p_a in"),
        (lambda f: f.with_columns(verdict=pl.lit("TIE")), "expected verdicts A, B, INVALID, got TIE"),
        (lambda f: f.filter(pl.col("pair_id") != "p4"), "same pairs.*1 only in the other.*'p4'"),
        (lambda f: f.clear(), "at least one pair"),
    ],
)
def test_refuses(judgments, preferences, spoil, message):
    with pytest.raises(ValueError, match=message):
        set_scores(spoil(judgments(FOUR)), preferences(list(FOUR)))


def test_refuses_a_pair_that_is_listed_twice(judgments, preferences):
    with pytest.raises(ValueError, match="1 repeated"):
        set_scores(judgments(FOUR), preferences([*FOUR, "p1"]))


def test_compare(judgments):
    better = {**FOUR, "p3": ([(0.9, R)] * 2, [(0.9, R)] * 2)}
    (diff, low, high), n_pairs = compare(judgments(FOUR), judgments(better).reverse())
    # One pair of four goes from 0 to 1: the mean of four draws has P(0) = 0.316, and P(at most 3/4) = 0.996.
    assert (diff, low, high, n_pairs) == (0.25, 0.0, 0.75, 4)
    # The rows are aligned by pair, not by place: a judge against itself is 0 everywhere.
    assert compare(judgments(FOUR), judgments(dict(reversed(FOUR.items()))))[0] == (0, 0, 0)
    with pytest.raises(ValueError, match="same pairs"):
        compare(judgments(FOUR), judgments({k: v for k, v in FOUR.items() if k != "p2"}))
