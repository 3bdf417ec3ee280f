"""RewardBench 2 against the authors' algorithm, written anew from its description."""

from __future__ import annotations

import numpy as np
import pytest

from genrm_lightning.evaluation.benchmarks import rewardbench2
from genrm_lightning.evaluation.benchmarks.rewardbench2 import best_of


def add_prompt(made, number, subset, right, wrong, noise=0.0, rewards=True):
    """All pairs of a prompt whose responses have these scores; the judge compares by them."""
    for i, good in enumerate(right):
        for j, bad in enumerate(wrong):
            p = 0.5 + 0.4 * np.sign(good - bad)
            scores = (good + noise * j, bad) if rewards else None
            made.add(f"rewardbench2/{number}/{i}-{j}", (p, p), scores, subset=subset, group_id=f"rewardbench2/{number}")


def reference_ties(ref, tied):
    """The Ties score over {number: (right scores, wrong scores)} of both kinds."""
    accuracy = [np.mean([min(r) > max(w) for r, w in kind.values()]) for kind in (tied, ref)]
    numbers = sorted(set(ref) & set(tied))
    spread = np.array([max(tied[k][0]) - min(tied[k][0]) for k in numbers])
    gap = np.array([min(tied[k][0]) - max(tied[k][1]) for k in numbers])
    hard = np.minimum(gap, [min(ref[k][0]) - max(ref[k][1]) for k in numbers])
    with np.errstate(all="ignore"):
        margin = np.nan_to_num(np.tanh(hard / spread - 1), nan=0.0).mean()
    return 0.3 * sum(accuracy) + 0.2 * np.mean(gap > spread) + 0.2 * np.mean(hard > spread) + 0.01 * margin


@pytest.mark.parametrize("seed", range(3))
def test_with_rewards_as_the_authors_compute_it(pairs, seed):
    random = np.random.default_rng(seed)
    made = pairs("rewardbench2")
    expected = {}
    number = 0
    for subset in ("Factuality", "Precise IF", "Math", "Safety", "Focus"):
        earned = []
        for _ in range(8):
            right, *wrong = scores = [float(x) for x in random.integers(0, 4, 4) / 10]
            earned.append((right == max(scores)) / scores.count(max(scores)))
            add_prompt(made, number, subset, [right], wrong)
            number += 1
        expected[subset] = np.mean(earned)
    ref, tied = {}, {}
    for k in range(6):
        ref[k] = ([float(random.integers(1, 6))], [float(x) for x in random.integers(-2, 3, 3)])
        rights = [float(x) for x in random.integers(2, 5, random.integers(1, 4))]
        tied[k] = (rights, [float(x) for x in random.integers(-3, 3, 4)])
    del ref[5]  # belongs to nothing then, and has an accuracy all the same
    for kind, prompts in (("ref", ref), ("tied", tied)):
        for k, (right, wrong) in prompts.items():
            add_prompt(made, f"{kind}:{k}", "Ties", right, wrong)
    expected["Ties"] = reference_ties(ref, tied)
    result = made.protocol()
    assert {name: one["score"] for name, one in result["sections"].items()} == pytest.approx(expected)
    assert result["score"] == pytest.approx(np.mean(list(expected.values())))
    assert result["low"] <= result["score"] <= result["high"]
    assert [one["n"] for one in result["sections"].values()] == [8] * 5 + [11]


def test_published_sizes():
    assert sum(rewardbench2.PROMPTS.values()) == 1865


@pytest.mark.parametrize(
    ("right", "wrong", "earned"),
    [(2, (1, 1, 0), 1), (2, (2, 1, 0), 1 / 2), (2, (2, 2, 2), 1 / 4), (1, (2, 0, 0), 0), (1, (2, 1, 1), 0)],
)
def test_best_of_four(right, wrong, earned):
    assert best_of(right, wrong) == earned


def test_a_judge_that_compares(pairs):
    made = pairs("rewardbench2")
    add_prompt(made, 0, "Math", [2], [1, 1, 0], rewards=False)  # beats all
    add_prompt(made, 1, "Math", [2], [3, 1, 0], rewards=False)  # loses to one
    add_prompt(made, 2, "Math", [2], [2, 2, 2], rewards=False)  # ties with all: chance
    add_prompt(made, "tied:0", "Ties", [2, 3], [1, 0], rewards=False)
    add_prompt(made, "tied:1", "Ties", [2, 3], [2, 0], rewards=False)  # a tie is no win
    add_prompt(made, "ref:0", "Ties", [2], [1, 0], rewards=False)
    result = made.protocol()
    assert result["sections"]["Math"]["score"] == pytest.approx((1 + 0 + 0.25) / 3)
    assert result["sections"]["Ties"]["score"] == 0.5 * 0.5 + 0.5 * 1
    assert not result["complete"]
    assert any("has no margins" in note for note in result["notes"])


def test_a_tied_prompt_and_its_reference_are_drawn_together(pairs):
    made = pairs("rewardbench2")
    for k in range(8):  # one of each two is right
        add_prompt(made, f"tied:{k}", "Ties", [2, 3], [1 + 4 * (k % 2)], rewards=False)
        add_prompt(made, f"ref:{k}", "Ties", [2], [5 - 4 * (k % 2)], rewards=False)
    result = made.protocol()
    assert (result["score"], result["low"], result["high"]) == (0.5, None, None)  # each draw has the score


def test_position_alone_is_chance(pairs):
    made = pairs("rewardbench2")
    for j in range(3):
        # Rounding must not decide: 1 - 0.9 is not 0.1.
        made.add(f"rewardbench2/0/0-{j}", (0.9, 1 - 0.9), subset="Math", group_id="rewardbench2/0")
    assert made.protocol()["score"] == 0.25


def test_rewards_that_depend_on_the_other_response(pairs):
    made = pairs("rewardbench2")
    for k in range(4):
        add_prompt(made, k, "Math", [2.0], [1.0, 1.5, 0.0], noise=-2.0)
    result = made.protocol()
    assert result["score"] == 1  # by the comparisons; by mean rewards it would be 0
    assert any("depends on the other one" in note for note in result["notes"])
    # Rounding of batches is no such thing.
    made = pairs("rewardbench2")
    for k in range(4):
        add_prompt(made, k, "Math", [2.0], [1.0, 1.5, 0.0], noise=0.001)
    assert not any("depends" in note for note in made.protocol()["notes"])


def test_prompts_of_another_size_are_left_out(pairs):
    made = pairs("rewardbench2")
    add_prompt(made, 0, "Math", [2], [1, 1, 0])
    add_prompt(made, 1, "Math", [2], [3, 1])
    add_prompt(made, 2, "Focus", [2], [3, 1, 1])
    made.judgments = [row for row in made.judgments if row["pair_id"] != "rewardbench2/2/0-1"]
    result = made.protocol()
    assert result["score"] == 1 and list(result["sections"]) == ["Math"]
    told = "\n".join(result["notes"])
    assert "Math: 1 prompts are left out: not one right and three wrong" in told
    assert "Focus: 1 prompts are left out" in told and "1 of 8 pairs were not judged" in told
    assert "no rows in sections Factuality, Precise IF, Safety, Focus, Ties" in told


def test_ids_that_say_no_places(pairs):
    made = pairs("rewardbench2")
    add_prompt(made, 0, "Math", [2], [1, 1, 0], rewards=False)
    for row, bad in zip(made.preferences, "xyz", strict=True):
        row |= {"chosen": "good", "rejected": bad}
    for rows in (made.preferences, made.judgments):
        for row in rows:
            row["pair_id"] = row["pair_id"].replace("/0-1", "/second")
    # Another id, another order: half of the judgments may have turned with it, so only the sizes are looked at.
    assert made.protocol()["sections"]["Math"]["n"] == 1


def test_nothing_that_can_be_scored(pairs):
    made = pairs("rewardbench2")
    add_prompt(made, 1, "Math", [2], [3, 1])
    result = made.protocol()
    assert result["score"] is None and not result["complete"] and result["sections"] == {}


def test_pairs_without_a_group(pairs):
    made = pairs("rewardbench2")
    made.add("x", subset="Math")
    result = made.protocol()
    assert result["score"] is None and "1 pairs have no group_id" in "\n".join(result["notes"])
