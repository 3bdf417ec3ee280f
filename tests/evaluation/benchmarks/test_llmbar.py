"""LLMBar against the statistics that its authors publish with each evaluator's replies."""

from __future__ import annotations

import pytest

# Dataset/LLMBar/*/evaluators/GPT-4/Vanilla/statistics.json of princeton-nlp/LLMBar:
# right in the one order, right in the other, right in both, same winner, instances.
GPT4 = {
    "Natural": (95, 96, 93, 95, 100),
    "Neighbor": (104, 107, 101, 125, 134),
    "GPTInst": (78, 81, 77, 87, 92),
    "GPTOut": (35, 38, 35, 44, 47),
    "Manual": (35, 39, 33, 38, 46),
}
AVERAGE = {"Natural": 95.5, "Neighbor": 78.73134328358209, "GPTInst": 86.41304347826086}
AVERAGE |= {"GPTOut": 77.6595744680851, "Manual": 80.43478260869566}
NAMES = {
    "Natural": "natural",
    "Neighbor": "adver-neighbor",
    "GPTInst": "Adversarial/GPTInst",
    "GPTOut": "GPTOut",
    "Manual": "llmbar-adver-manual",
}


def gpt4(pairs):
    made = pairs("llmbar")
    for name, (first, second, both, same, n) in GPT4.items():
        assert same == n - (first - both) - (second - both)
        orders = [(0.9, 0.9)] * both + [(0.9, 0.1)] * (first - both) + [(0.1, 0.9)] * (second - both)
        for k, order in enumerate(orders + [(0.1, 0.1)] * (n - len(orders))):
            made.add(f"{name}{k}", order, subset=NAMES[name])
    return made


def test_the_authors_statistics(pairs):
    result = gpt4(pairs).protocol()
    sections = result["sections"]
    assert {name: 100 * sections[name]["score"] for name in GPT4} == pytest.approx(AVERAGE)
    assert 100 * result["score"] == pytest.approx(sum(AVERAGE.values()) / 5)
    hard = [AVERAGE[name] for name in ("Neighbor", "GPTInst", "GPTOut", "Manual")]
    assert 100 * sections["Adversarial"]["score"] == pytest.approx(sum(hard) / 4)
    agreement = {name: same / n for name, (*_, same, n) in GPT4.items()}
    assert {name: result["subsets"][f"{name}: positional agreement"]["score"] for name in GPT4} == pytest.approx(
        agreement
    )
    assert sections["Positional agreement"]["score"] == pytest.approx(sum(agreement.values()) / 5)
    assert result["complete"] and result["n_expected"] == 419


def test_no_winner_is_wrong_and_agrees_with_none(pairs):
    made = pairs("llmbar")
    made.add("a", (0.5, 0.5), subset="Natural")
    made.add("b", (0.5, 0.9), subset="Natural")
    result = made.protocol()
    assert result["score"] == 0.25 and result["sections"]["Positional agreement"]["score"] == 0.5


def test_equal_ratings_are_half_right_and_disagree(pairs):
    made = pairs("llmbar")
    made.add("a", (0.5, 0.5), (1.0, 1.0), subset="Natural")
    made.add("b", (0.9, 0.9), (2.0, 1.0), subset="Natural")
    made.add("c", (0.1, 0.1), (1.0, 2.0), subset="Natural")
    result = made.protocol()
    assert result["score"] == 0.5 and result["sections"]["Positional agreement"]["score"] == pytest.approx(2 / 3)


def test_a_source_named_after_the_subset(pairs):
    made = pairs("llmbar-natural")
    for k in range(98):
        made.add(f"p{k}", subset="natural")
    result = made.protocol()
    assert list(result["sections"]) == ["Natural", "Positional agreement"]
    told = "\n".join(result["notes"])
    assert "no rows in sections Neighbor, GPTInst, GPTOut, Manual" in told and "Natural 98 of 100" in told


def test_rows_that_do_not_say_their_subset(pairs):
    made = pairs("llmbar")
    made.add("a", (0.9, 0.9))
    made.add("b", (0.9, 0.1))
    result = made.protocol()
    assert result["score"] == 0.75 and list(result["sections"]) == ["all rows", "Positional agreement"]
    assert not result["complete"] and "2 pairs do not say their subset" in "\n".join(result["notes"])
