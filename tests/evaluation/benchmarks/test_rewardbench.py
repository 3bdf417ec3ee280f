"""RewardBench against the authors' numbers."""

from __future__ import annotations

import numpy as np
import pytest

from genrm_lightning.evaluation.benchmarks import rewardbench

# Subset accuracies that the README of allenai/reward-bench shows (PKU-Alignment/beaver-7b-v1.0-cost).
PUBLISHED = {
    "alpacaeval-easy": 0.5, "alpacaeval-hard": 0.7052631578947368, "alpacaeval-length": 0.5894736842105263,
    "donotanswer": 0.8235294117647058, "hep-cpp": 0.6280487804878049, "hep-go": 0.6341463414634146,
    "hep-java": 0.7073170731707317, "hep-js": 0.6646341463414634, "hep-python": 0.5487804878048781,
    "hep-rust": 0.6463414634146342, "llmbar-adver-GPTInst": 0.391304347826087,
    "llmbar-adver-GPTOut": 0.46808510638297873, "llmbar-adver-manual": 0.3695652173913043,
    "llmbar-adver-neighbor": 0.43283582089552236, "llmbar-natural": 0.52, "math-prm": 0.2953020134228188,
    "mt-bench-easy": 0.5714285714285714, "mt-bench-hard": 0.5405405405405406, "mt-bench-med": 0.725,
    "refusals-dangerous": 0.97, "refusals-offensive": 1, "xstest-should-refuse": 1, "xstest-should-respond": 0.284,
}  # fmt: skip


def published(pairs):
    made = pairs("rewardbench")
    for subset, n in rewardbench.PROMPTS.items():
        won = PUBLISHED[subset] * n
        assert won == pytest.approx(round(won))  # so these numbers of prompts are the published ones
        for k in range(n):
            right = k < round(won)
            made.add(f"rewardbench/{subset}/{k}", (1.0, 0.0) if right else (0.0, 1.0), subset=subset)
    return made


def test_published_subsets_give_the_authors_sections(pairs):
    result = published(pairs).protocol()
    # calculate_scores_per_section over the numbers of the README, written out.
    sections = {
        "Chat": (50 + 0.5894736842105263 * 95 + 67 + 16 + 29) / 358,
        "Chat Hard": (20 + 52 + 58 + 36 + 22 + 17) / 456,
        "Safety": (97 + 100 + 154 + 71 + 112) / 740,
        "Reasoning": (984 * 132 / 447 + 103 + 104 + 116 + 109 + 90 + 106) / (2 * 984),
    }
    assert {name: result["sections"][name]["score"] for name in sections} == pytest.approx(sections)
    assert result["score"] == pytest.approx(sum(sections.values()) / 4)
    assert {name: one["score"] for name, one in result["subsets"].items()} == pytest.approx(PUBLISHED)
    assert result["complete"] and result["n_expected"] == 2985
    assert all(result["sections"][name]["weight"] == 0.25 for name in sections)
    assert result["sections"]["Both orders"]["score"] == 0.5
    assert result["low"] < result["score"] < result["high"]
    # Independent pairs: the spread that sampling theory gives, subset by subset.
    variance = 0.0
    for subsets in rewardbench.SECTIONS.values():
        total = sum(rewardbench.WEIGHTS[s] for s in subsets)
        for s in subsets:
            p, n = PUBLISHED[s], rewardbench.PROMPTS[s]
            variance += (rewardbench.WEIGHTS[s] / total / 4) ** 2 * p * (1 - p) / n
    assert result["high"] - result["low"] == pytest.approx(2 * 1.96 * np.sqrt(variance), rel=0.08)


def test_weights_are_prompts_but_for_mathematics():
    assert {s for s in rewardbench.PROMPTS if rewardbench.WEIGHTS[s] != rewardbench.PROMPTS[s]} == {"math-prm"}
    assert rewardbench.WEIGHTS["math-prm"] == 984 == sum(rewardbench.WEIGHTS[f"hep-{x}"] for x in LANGUAGES)
    assert {s for subsets in rewardbench.SECTIONS.values() for s in subsets} == set(rewardbench.PROMPTS)


LANGUAGES = ("cpp", "go", "java", "js", "python", "rust")


def test_one_order_counts_and_both_stand_beside(pairs):
    made = pairs("rewardbench")
    made.add("a", (1.0, 0.0), subset="donotanswer")  # right in the pair's own order alone
    made.add("b", (0.5, 1.0), subset="donotanswer")  # no verdict there: half
    made.add("c", (1.0, 1.0), subset="mt-bench-hard")
    result = made.protocol()
    assert result["score"] == pytest.approx((0.75 + 1) / 2)
    assert result["sections"]["Both orders"]["score"] == pytest.approx(((0.5 + 0.75) / 2 + 1) / 2)
    assert result["sections"]["Both orders"]["weight"] is None


def test_equal_rewards_are_lost(pairs):
    made = pairs("rewardbench")
    made.add("a", (0.5, 0.5), (1.0, 1.0), subset="donotanswer")
    made.add("b", (0.9, 0.9), (3.0, 1.0), subset="donotanswer")
    result = made.protocol()
    assert result["score"] == pytest.approx(0.5)
    assert "Both orders" not in result["sections"]


def test_a_section_without_rows_is_told_of(pairs):
    made = pairs("rewardbench")
    for k in range(100):
        made.add(f"d{k}", (1.0, 1.0), subset="refusals-dangerous")
        made.add(f"c{k}", (0.0, 0.0), subset="alpacaeval-easy")
    made.add("x", (0.0, 0.0), subset="nonsense")
    made.add("dropped", None, subset="alpacaeval-easy")
    result = made.protocol()
    assert result["score"] == pytest.approx(0.5) and not result["complete"]
    assert list(result["sections"]) == ["Chat", "Safety", "Both orders"]
    told = "\n".join(result["notes"])
    assert "no rows in sections Chat Hard, Reasoning: the score is over the others" in told
    assert "1 of 202 pairs were not judged" in told
    assert "1 pairs have a subset that is none of the benchmark's" in told
    assert "200 pairs are scored, the benchmark has 2,985" in told
    assert "alpacaeval-length 0 of 95" in told and "math-prm" not in told


def test_intervals_count_prompts_and_not_pairs(pairs):
    few, many = pairs("rewardbench"), pairs("rewardbench")
    for k in range(60):
        orders = (1.0, 1.0) if k < 30 else (0.0, 0.0)
        many.add(f"p{k}", orders, subset="donotanswer")
        few.add(f"p{k}", orders, subset="donotanswer", group_id=f"g{k // 10}")
    few, many = few.protocol(), many.protocol()
    assert few["score"] == pytest.approx(many["score"]) == pytest.approx(0.5)
    assert few["high"] - few["low"] > 2 * (many["high"] - many["low"])
