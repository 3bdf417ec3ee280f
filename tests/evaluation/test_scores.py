"""Scores of a set against values worked out by hand."""

from __future__ import annotations

import json

import polars as pl
import pytest

from data_tools.order import chosen_is_a
from genrm_lightning.evaluation.intervals import paired_difference, wilson
from genrm_lightning.evaluation.scores import clusters, compare, corpus_distinct_share, repetition, set_scores

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
    # Right presentations: 2 + 1 + 0 + 1 of 8; pair means 1, .5, 0, .5 and the added 1 and 0: n_eff = 4 * 6 * 0.25 / 1.
    assert scores.accuracy == 0.5
    assert (scores.accuracy_low, scores.accuracy_high) == pytest.approx(wilson(0.5, 6))
    # Right texts: 3 + 1 + 0 + 3 of 16, three INVALID. Pair means .75, .25, 0, .75 and the added 1 and 0: p = 2.75/6,
    # squares 2*.75² + .25² + 1 - 6p² = 0.9270833, n_eff = 4 * 6 * p(1-p) / 0.9270833 = 6.42697.
    assert scores.free_accuracy == 7 / 16
    assert (scores.free_accuracy_low, scores.free_accuracy_high) == pytest.approx(wilson(7 / 16, 6.4269663))
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
    assert corpus_distinct_share([]) == corpus_distinct_share(["", "a b"]) == 0


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


def test_compare(judgments, preferences):
    better = {**FOUR, "p3": ([(0.9, R)] * 2, [(0.9, R)] * 2)}
    # The rows are aligned by pair, not by place.
    found, n_pairs = compare(judgments(FOUR), judgments(better).reverse())
    assert n_pairs == 4
    assert found == paired_difference([0, 0, 0, 0], [0, 0, 1, 0]) and found.diff == 0.25
    assert compare(judgments(FOUR), judgments(dict(reversed(FOUR.items()))))[0].diff == 0
    assert compare(judgments(FOUR), judgments(better), preferences(list(FOUR)))[0] == found  # four prompts
    with pytest.raises(ValueError, match="same pairs"):
        compare(judgments(FOUR), judgments({k: v for k, v in FOUR.items() if k != "p2"}))
    with pytest.raises(ValueError, match="same pairs"):
        compare(judgments(FOUR), judgments(better), preferences(["p1", "p2", "p3"]))


def test_pairs_of_one_group_or_prompt_are_one_cluster(preferences):
    def turn(text):
        return [{"role": "user", "content": text}]

    frame = preferences(list("abcdefg")).with_columns(
        pl.Series("group_id", ["1", "1", None, None, None, "1", None]),
        pl.Series("source", ["x", "x", "x", "x", "x", "y", None]),
        pl.Series("prompt", [turn(text) for text in ("q", "r", "s", " S\n", "t", "u", "group x 1")]),
    )
    found = dict(clusters(frame).iter_rows())
    assert found["a"] == found["b"]  # one group
    assert found["c"] == found["d"]  # one prompt
    # Group ids are a source's own, and no text is a group.
    assert len({found[pair] for pair in "acefg"}) == 5


def test_intervals_count_prompts_not_pairs(judgments, preferences):
    """Twelve pairs over three prompts that are right or wrong together are worth three trials."""
    ids = [f"p{i:02d}" for i in range(12)]
    right, wrong = ([(0.9, R)], [(0.9, R)]), ([(0.1, W)], [(0.1, W)])
    before = judgments({pair: wrong for pair in ids})
    after = judgments({pair: right if i % 3 else wrong for i, pair in enumerate(ids)})
    turns = [[{"role": "user", "content": f"prompt {i % 3}"}] for i in range(12)]
    pairs = preferences(ids).with_columns(pl.Series("prompt", turns))
    scores = set_scores(after, pairs)
    assert (scores.accuracy_low, scores.accuracy_high) == pytest.approx(wilson(8 / 12, 3))
    assert scores.free_accuracy_low == scores.accuracy_low == scores.categories["kind"]["accuracy_low"]
    together, alone = compare(before, after, pairs)[0], compare(before, after)[0]
    assert together == paired_difference([0] * 12, [0, 1, 1] * 4, [0, 1, 2] * 4)
    assert together.diff == alone.diff and together.high - together.low > 1.5 * (alone.high - alone.low)
