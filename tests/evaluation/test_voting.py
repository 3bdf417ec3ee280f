"""Votes against values by hand, and expectations against every subset."""

from __future__ import annotations

from itertools import combinations, product

import numpy as np
import polars as pl
import pytest

from data_tools.order import chosen_is_a
from data_tools.schema import JUDGMENT, conform
from genrm_lightning.evaluation.scores import set_scores
from genrm_lightning.evaluation.voting import READINGS, SCOPES, curve, expected_scores, samples, verdicts

R, W, I = "right", "wrong", "INVALID"  # noqa: E741


def drawn(n_pairs: int, k: int, seed: int = 0) -> pl.DataFrame:
    """A table of random samples whose votes, texts and p(A) say different things."""
    random = np.random.default_rng(seed)
    rows = []
    for i, swapped in product(range(n_pairs), (False, True)):
        for index, p_a in enumerate(random.random(k).round(2).tolist()):
            rows.append(
                {
                    "pair_id": f"p{i:03d}",
                    "swapped": swapped,
                    "sample_index": index,
                    "p_a": p_a,
                    "vote": random.choice(["A", "B"]),
                    "verdict": random.choice(["A", "B", "INVALID"]),
                    "n_tokens": int(random.integers(1, 30)),
                }
            )
    return conform(pl.DataFrame(rows), JUDGMENT)


def score(right: float, wrong: float) -> float:
    return 1.0 if right > wrong else 0.5 if right == wrong else 0.0


def test_verdicts_by_hand(judgments):
    found = verdicts(
        judgments(
            {
                "p1": ([(0.9, R), (0.2, I)], [(0.75, I), (0.25, I)]),  # votes 2:2, p higher, one text: right
                "p2": ([(0.25, I)], [(0.25, I)]),  # wrong; no text names one: wrong, not a tie
                "p3": ([(0.75, R), (0.25, W)], [(0.25, W), (0.75, R)]),  # ties throughout
                "p4": ([(0.9, R)], [(0.3, R)]),  # one vote each, p in the right one's favour
            }
        )
    )
    assert found["pair_id"].to_list() == ["p1", "p2", "p3", "p4"]
    assert found["hard"].to_list() == [0.5, 0.0, 0.5, 0.5]
    assert found["soft"].to_list() == [1.0, 0.0, 0.5, 1.0]
    assert found["free"].to_list() == [1.0, 0.0, 0.5, 1.0]
    assert found["n_samples"].to_list() == [2, 1, 2, 1] and found["n_tokens"].to_list() == [40, 20, 40, 20]
    assert found["p_chosen"].to_list() == pytest.approx([0.525, 0.25, 0.5, 0.6])
    assert found["votes_chosen"].to_list() == [0.5, 0.0, 0.5, 0.5]
    entropy = [-sum(p * np.log(p) for p in (q, 1 - q)) for q in (0.525, 0.25, 0.5, 0.6)]
    assert found["entropy"].to_list() == pytest.approx(entropy, abs=1e-6)
    assert found["vote_entropy"].to_list() == pytest.approx([np.log(2), 0, np.log(2), np.log(2)])
    assert not np.signbit(found["vote_entropy"].to_numpy()).any()


@pytest.mark.parametrize("letter", ["A", "B"])
def test_a_judge_that_always_says_one_letter_is_half_right_in_every_reading(letter):
    frame = drawn(9, 4).with_columns(
        p_a=pl.lit(0.9 if letter == "A" else 0.1, dtype=pl.Float32), vote=pl.lit(letter), verdict=pl.lit(letter)
    )
    for row in curve(samples(frame)):
        assert row["accuracy"] == 0.5
    assert verdicts(frame).select(READINGS).unique().rows() == [(0.5, 0.5, 0.5)]


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("reading", ["hard", "free"])
@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_votes_are_counted_over_all_subsets(reading, scope, k):
    """The hypergeometric sum is the mean over every choice of k of the samples of each order."""
    given = samples(drawn(12, 4))
    votes = given.voted if reading == "hard" else given.named
    sided = votes * np.where(given.right_is_a, 1, -1)[..., None]
    for found, (first, second) in zip(expected_scores(given, k, reading, scope), sided, strict=True):
        scores = []
        for a, b in product(combinations(first, k), combinations(second, k)):
            groups = [a + b] if scope == "pair" else [a, b]
            scores.append(np.mean([score(g.count(1), g.count(-1)) if any(g) else 0.0 for g in groups]))
        assert found == pytest.approx(np.mean(scores))


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("k", [1, 2, 3, 5])
def test_probabilities_are_averaged_over_windows(scope, k):
    given = samples(drawn(12, 5))
    for found, p_a, right_is_a in zip(
        expected_scores(given, k, "soft", scope), given.p_a, given.right_is_a, strict=True
    ):
        means = [[sum(order[(i + j) % 5] for j in range(k)) / k for i in range(5)] for order in p_a]
        p_right = [[m if a else 1 - m for m in row] for a, row in zip(right_is_a, means, strict=True)]
        sums = [*p_right[0], *p_right[1]] if scope == "order" else [(a + b) / 2 for a, b in product(*p_right)]
        assert found == pytest.approx(np.mean([score(round(p, 9), 0.5) for p in sums]))


def test_few_of_many_stored_samples_score_as_few_fresh_ones():
    """At any k the estimate has no bias: its mean over tables is that of freshly drawn k samples."""
    stored, fresh = samples(drawn(1200, 6, seed=1)), samples(drawn(1200, 3, seed=2))
    for reading, scope in product(READINGS, SCOPES):
        ends = [expected_scores(given, 3, reading, scope).mean() for given in (stored, fresh)]
        assert ends[0] == pytest.approx(ends[1], abs=0.04)


def test_all_samples_give_the_verdict_itself():
    frame = drawn(40, 4)
    given, table = samples(frame), verdicts(frame)
    for reading in READINGS:
        assert expected_scores(given, 4, reading).tolist() == table[reading].to_list()


def test_orders_apart_are_the_accuracy_of_evaluate(preferences):
    frame = drawn(40, 3)
    scores = set_scores(frame, preferences(frame["pair_id"].unique(maintain_order=True).to_list()))
    assert scores.tie_rate == 0
    rows = {(row["reading"], row["scope"], row["k"]): row for row in curve(samples(frame))}
    found = rows["soft", "order", 3]
    assert found["accuracy"] == pytest.approx(scores.accuracy)
    assert (found["low"], found["high"]) == pytest.approx((scores.accuracy_low, scores.accuracy_high))
    assert [k for reading, scope, k in rows if (reading, scope) == ("hard", "pair")] == [1, 2, 3]
    assert found["tokens"] == pytest.approx(frame["n_tokens"].sum() / 40)


def test_the_rows_order_and_a_pairs_label_change_nothing():
    frame = drawn(20, 4)
    shuffled = frame.sample(fraction=1, shuffle=True, seed=3)
    assert verdicts(shuffled).equals(verdicts(frame))
    assert curve(samples(shuffled)) == curve(samples(frame))
    given = samples(frame)
    assert given.right_is_a[:, 0].tolist() == [chosen_is_a(pair_id, False) for pair_id in given.pair_ids]


def test_refuses(judgments):
    even = judgments({"p1": ([(0.9, R)] * 2, [(0.9, R)] * 2), "p2": ([(0.9, R)], [(0.9, R)])})
    assert verdicts(even)["n_samples"].to_list() == [2, 1]
    with pytest.raises(ValueError, match="expected 2 samples an order of every pair, got 1 of 'p2'"):
        samples(even)
    for spoil in (pl.lit(None, dtype=pl.String), pl.lit("INVALID")):
        for reader in (samples, verdicts):
            with pytest.raises(ValueError, match="vote of A or B"):
                reader(drawn(2, 2).with_columns(vote=spoil))
    for k in (0, 3):
        with pytest.raises(ValueError, match="of the 2 samples"):
            expected_scores(samples(drawn(2, 2)), k, "hard")
