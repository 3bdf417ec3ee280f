"""JudgeBench against the tables of its paper and the authors' vote."""

from __future__ import annotations

import itertools

import pytest

SOURCES = {
    "Knowledge": "mmlu-pro-law",
    "Reasoning": "livebench-reasoning",
    "Math": "livebench-math",
    "Coding": "livecodebench",
}
SIZES = {"Knowledge": 154, "Reasoning": 98, "Math": 56, "Coding": 42}
# Tables 1 and 2 of arXiv 2410.12784: percent by category, and overall.
PUBLISHED = {
    "Vanilla (GPT-4o)": ((44.16, 47.96, 66.07, 61.90), 50.86),
    "Skywork-LLaMA-3.1B-70B": ((55.84, 55.10, 73.21, 47.62), 57.43),
    "o1-preview": ((66.23, 79.59, 85.71, 85.71), 75.43),
}


@pytest.mark.parametrize("judge", PUBLISHED)
def test_the_papers_overall_from_its_categories(pairs, judge):
    percents, overall = PUBLISHED[judge]
    made = pairs("judgebench")
    for (name, n), percent in zip(SIZES.items(), percents, strict=True):
        for k in range(n):
            made.add(f"{name}{k}", (0.9, 0.9) if k < round(percent * n / 100) else (0.9, 0.1), subset=SOURCES[name])
    result = made.protocol()
    assert [round(100 * one["score"], 2) for one in result["sections"].values()] == list(percents)
    assert round(100 * result["score"], 2) == overall
    assert result["complete"] and result["n_expected"] == 350
    assert sum(one["weight"] for one in result["sections"].values()) == pytest.approx(1)
    assert result["subsets"]["livecodebench"] == {"score": result["sections"]["Coding"]["score"], "n": 42}


@pytest.mark.parametrize(("first", "second"), list(itertools.product((0.9, 0.5, 0.1), repeat=2)))
def test_the_vote_of_two_orders(pairs, first, second):
    made = pairs("judgebench")
    made.add("p", (first, second), subset="livebench-math")
    votes = [(p > 0.5) - (p < 0.5) for p in (first, second)]
    assert made.protocol()["score"] == (sum(votes) > 0)


def test_reward_models_play_one_game(pairs):
    made = pairs("judgebench")
    for k, rewards in enumerate(((2.0, 1.0), (1.0, 2.0), (1.0, 1.0), (3.0, 0.0))):
        made.add(f"p{k}", (0.5, 0.5), rewards, subset="livebench-math")
    assert made.protocol()["score"] == (1 + 0 + 0.5 + 1) / 4


def test_the_other_split_and_a_strange_source(pairs):
    made = pairs("judgebench")
    for name, n in {"Knowledge": 154, "Reasoning": 51, "Math": 34, "Coding": 31}.items():
        for k in range(n):
            made.add(f"{name}{k}", subset=SOURCES[name])
    assert made.protocol()["complete"] and made.protocol()["n_expected"] == 270
    made.add("x", (0.0, 0.0), subset=None)
    result = made.protocol()
    assert not result["complete"] and result["score"] == pytest.approx(270 / 271)
    assert "1 pairs are of no source of the benchmark's" in "\n".join(result["notes"])
