"""The model card: what it says, that the hub reads its head, and that no name breaks it."""

from __future__ import annotations

import pytest
import yaml
from huggingface_hub import ModelCard
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from genrm_lightning.evaluation.card import card
from genrm_lightning.evaluation.markdown import code, escape

MEASURED = {
    "n_pairs": 1200, "n_dropped": 3, "accuracy": 0.7123, "accuracy_low": 0.68, "accuracy_high": 0.74,
    "free_accuracy": 0.7, "free_accuracy_low": 0.67, "free_accuracy_high": 0.73, "position_consistent_accuracy": 0.6,
    "position_consistency": 0.8, "tie_rate": 0.01, "invalid_rate": 0.02, "position_bias": 0.05,
    "position_bias_low": 0.01, "position_bias_high": 0.09, "ece": 0.031, "ece_low": 0.02, "ece_high": 0.05,
    "brier": 0.2, "brier_low": 0.19, "brier_high": 0.21, "auroc": 0.77, "auroc_low": 0.7, "auroc_high": 0.8,
    "kappa": None, "kappa_low": None, "kappa_high": None, "tokens_per_verdict": 88.26, "seconds_per_verdict": None,
    "longer_wins": {"accuracy": 0.6, "low": 0.55, "high": 0.65, "diff": 0.11, "diff_low": 0.05, "diff_high": 0.17},
}  # fmt: skip
PROTOCOL = {
    "benchmark": "RM-Bench", "score": 0.55, "low": 0.5, "high": 0.6, "n_expected": 11943, "complete": False,
    "sections": {
        "chat": {"score": 0.5, "low": 0.4, "high": 0.6, "n": 1116, "weight": 0.25},
        "hard": {"score": 0.2, "low": 0.1, "high": 0.3, "n": 372, "weight": None},
    },
    "subsets": {}, "notes": ["no rows in section math: the score is over the others"],
}  # fmt: skip
SCORES = {
    "judge": "org/judge",
    "kind": "cot",
    "sets": {"rm_bench": MEASURED},
    "benchmarks": {"RM-Bench": PROTOCOL, "JudgeBench": PROTOCOL | {"complete": True, "notes": [], "score": 0.5}},
    "hacking": {"attacks": {}},
}
EVALUATION = {
    "judge": "org/judge", "kind": "cot", "objective": "star_dpo", "judge_prompt": "plain", "n_samples": 4, "seed": 1,
    "sets": [
        {"name": "rm_bench", "data": "/home/someone/rm_bench.parquet", "digest": "ab" * 16, "n_pairs": 1203,
         "n_dropped": 3, "seconds": None, "tokens": 5, "folder": "sets/rm_bench"}
    ],
    "versions": {"genrm_lightning": "0.1"},
}  # fmt: skip


def lines(text):
    return [line for line in text.splitlines() if line]


def test_the_numbers():
    text = card(SCORES, EVALUATION)
    assert "# Evaluation of `org/judge`" in text
    assert "a generative judge that writes a rationale before each verdict; trained with `star_dpo`" in text
    assert "4 samples of each order; seed `1`" in text
    accuracies = "71.2 [68.0, 74.0] | 70.0 [67.0, 73.0] | 60.0 | 60.0 [55.0, 65.0] | +11.0 [+5.0, +17.0]"
    assert f"| `rm_bench` | 1,200 | {accuracies} |" in text
    assert "Score: **55.0 [50.0, 60.0]**, not of the whole benchmark." in text
    assert (
        "| `chat` | 50.0 [40.0, 60.0] | 1,116 | 25.0 |" in text and "| `hard` | 20.0 [10.0, 30.0] | 372 | – |" in text
    )
    assert "- no rows in section math: the score is over the others" in text
    assert "| `rm_bench` | 0.031 [0.020, 0.050] | 0.200 [0.190, 0.210] | 0.770 [0.700, 0.800] | – |" in text
    assert "| `rm_bench` | +5.0 [+1.0, +9.0] | 80.0 | 1.0 | 2.0 |" in text
    assert "| `rm_bench` | 88.3 | – |" in text
    assert f"| `rm_bench` | `rm_bench.parquet` | 1,203 | 3 | `{'ab' * 16}` |" in text
    assert "someone" not in text  # a card is published; where a file lay is not
    assert "attacks on the judge (`hacking`)" in text
    assert "Pairs that did not fit" in text and "must not stand beside published ones" in text


def test_the_hub_reads_the_head():
    data = ModelCard(card(SCORES, EVALUATION)).data
    found = {(one.dataset_type, one.metric_type): one.metric_value for one in data.eval_results}
    # The part of RM-Bench has no place beside numbers of the whole.
    assert found == {("rm_bench", "accuracy"): 0.7123, ("ScalerLab/JudgeBench", "accuracy"): 0.5}
    assert data.model_name == "org/judge"


def test_little_is_known():
    for scores, evaluation in (({}, {}), ({"sets": {"x": {}}, "benchmarks": {"y": {"score": None}}}, {"sets": [{}]})):
        text = card(scores, evaluation)
        assert text.startswith("---\n") and ("## Limits" in text) == bool(scores) and "None" not in text
    assert "| `x` | – | – | – | – | – | – |" in card({"sets": {"x": {}}}, {})


NASTY = (
    "a|b\n# x", "---", "```\n", "` <script>alert(1)</script>", "[x](javascript:1)", "![i](http://e.vil/i.png)", "\\|",
    "\\", "http://e.vil www.e.vil", "a: b\n- c", "{{x}}", "\x1b[31m", "\u202e", "<!--", "&lt;", "$x$", "|---|", "", " ",
    "`", "``",
)  # fmt: skip


@pytest.mark.parametrize("name", NASTY)
def test_nasty_names(name):
    check(name)


@settings(max_examples=30)
@given(st.text(max_size=30) | st.text(alphabet="`|\\<>[]()!#*_-~:\n &{}\"'", max_size=12))
def test_no_name_breaks_the_card(name):
    check(name)


def check(name):
    """The card with this name everywhere has the shape of the card with a plain one, and no more than text of it."""
    parser = MarkdownIt("commonmark").enable("table")

    def shape(name):
        protocol = PROTOCOL | {"sections": {name: PROTOCOL["sections"]["chat"]}, "notes": [name + "x"]}
        scores = SCORES | {"judge": name, "sets": {name: MEASURED}, "benchmarks": {name + "y": protocol}}
        one = EVALUATION["sets"][0] | {"name": name, "data": name, "digest": name + "z"}
        changed = {"judge": name, "objective": name + "o", "judge_prompt": name + "p", "versions": {name: name}}
        text = card(scores, EVALUATION | changed | {"sets": [one]})
        head, body = text.removeprefix("---\n").split("\n---\n", 1)
        results = yaml.safe_load(head)["model-index"][0]["results"]
        assert [len(one["metrics"]) for one in results] == [1]
        tokens = [token for outer in parser.parse(body) for token in (outer, *(outer.children or []))]
        assert all(token.type not in ("html_inline", "html_block", "image", "link_open") for token in tokens)
        return [token.type for token in tokens if token.type not in ("text", "softbreak", "text_special")]

    assert shape(name) == shape("plain")


def test_code_and_escape():
    assert code("x" * 500) == f"`{'x' * 200}…`"
    assert code(" ") == "`(empty)`" and code("`") == "`` ` ``"
    assert escape("a*b_[c](d) <e>") == r"a\*b\_\[c\]\(d\) \<e\>"
