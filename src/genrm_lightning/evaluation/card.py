"""A model card of an evaluation: Markdown with the numbers, and a YAML head that the Hugging Face hub reads.

Names of judges, sets and files come from outside: in the text they stand in code spans, where neither Markdown nor HTML
means anything, and the head is written by a YAML writer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

import yaml

from data_tools.visible import visible
from genrm_lightning.evaluation.markdown import (
    MOST,
    NONE,
    code,
    count,
    decimals,
    escape,
    interval,
    number,
    percent,
    points,
    table,
)

KINDS = {
    "reward": "a reward model: it scores each response alone, p(A) is σ of the difference",
    "direct": "a generative judge that gives a verdict without a rationale",
    "cot": "a generative judge that writes a rationale before each verdict",
    "scores": "scores of responses from a file",
}
HUB = {
    "RewardBench": "allenai/reward-bench",
    "RewardBench 2": "allenai/reward-bench-2",
    "RM-Bench": "THU-KEG/RM-Bench",
    "JudgeBench": "ScalerLab/JudgeBench",
    "LLMBar": "princeton-nlp/LLMBar",
}
ENDS = ("low", "high")
TASK = {"type": "preference-judging", "name": "Choosing the better of two responses"}
BESIDE = {"hacking": "attacks on the judge", "shift": "accuracy against the distance from the training data"}


def card(
    scores: Mapping[str, Any],
    evaluation: Mapping[str, Any],
    head: Mapping[str, Any] | None = None,
    title: str | None = None,
    sections: Sequence[Sequence[str]] = (),
) -> str:
    """The card of one evaluation.

    Args:
        scores: what ``scores.json`` holds: judge, kind, sets (name -> measures), benchmarks (name -> protocol).
        evaluation: what ``evaluation.json`` holds: judge, kind, objective, judge_prompt, n_samples, seed, sets,
            versions. Keys that are lacking, and numbers that are None, are left out or shown as a dash.
        head: more of the YAML head.
        title: Markdown, in place of the evaluation's.
        sections: lines of Markdown, a list each, before the numbers.
    """
    sets, benchmarks = scores.get("sets") or {}, scores.get("benchmarks") or {}
    parts = [
        _head(scores, evaluation, head or {}),
        [title or f"# Evaluation of {code(_judge(scores, evaluation))}"],
        *sections,
        _about(scores, evaluation) if evaluation else [],
        _results(sets),
        _protocols(benchmarks),
        _calibration(sets),
        _position(sets),
        _cost(sets),
        _beside(scores),
        _data(evaluation),
        _limits(sets, benchmarks) if sets else [],
    ]
    return "\n\n".join("\n".join(part) for part in parts if part) + "\n"


def _judge(scores: Mapping[str, Any], evaluation: Mapping[str, Any]) -> str:
    name = str(evaluation.get("judge") or scores.get("judge") or "judge")
    # Of a folder only its end: where it lay is nobody's business.
    return "/".join(PurePath(name).parts[-2:]) if name.startswith((".", "/")) else name


def _head(scores: Mapping[str, Any], evaluation: Mapping[str, Any], more: Mapping[str, Any]) -> list[str]:
    """YAML: tags and ``model-index``, of the sets and of whole benchmarks."""
    results = []
    for name, one in (scores.get("sets") or {}).items():
        if one.get("accuracy") is not None:
            results.append(_result(name, name, "Accuracy", one["accuracy"]))
    for name, one in (scores.get("benchmarks") or {}).items():
        # A part of a benchmark has no place beside others' numbers of the whole.
        if one.get("complete") and one.get("score") is not None:
            results.append(_result(HUB.get(name, name), name, f"{name} score", one["score"]))
    head: dict[str, Any] = {**more, "tags": ["reward-model", "llm-as-a-judge", "preference"]}
    if results:
        head["model-index"] = [{"name": _plain(_judge(scores, evaluation)), "results": results}]
    return ["---", yaml.safe_dump(head, sort_keys=False, allow_unicode=True, width=10**6).rstrip("\n"), "---"]


def _result(dataset: str, title: str, metric: str, value: float) -> dict[str, Any]:
    return {
        "task": dict(TASK),
        "dataset": {"type": _plain(dataset), "name": _plain(title)},
        "metrics": [{"type": "accuracy", "name": _plain(metric), "value": round(float(value), 4)}],
    }


def _plain(text: str) -> str:
    return " ".join(visible(text).split())[:MOST] or "(empty)"


def _about(scores: Mapping[str, Any], evaluation: Mapping[str, Any]) -> list[str]:
    kind = str(evaluation.get("kind") or scores.get("kind") or "")
    facts = [KINDS.get(kind, f"a judge of kind {code(kind or '?')}")]
    for key, title in (("objective", "trained with"), ("judge_prompt", "asked with the judge prompt")):
        if evaluation.get(key):
            facts.append(f"{title} {code(evaluation[key])}")
    if evaluation.get("n_samples"):
        n = evaluation["n_samples"]
        facts.append(f"{n} sample{'s' if n != 1 else ''} of each order")
    if evaluation.get("seed") is not None:
        facts.append(f"seed {code(evaluation['seed'])}")
    lines = [f"This is {'; '.join(facts)}. Every pair was judged in both orders."]
    if evaluation.get("versions"):
        lines += ["", "Made with " + ", ".join(f"{code(k)} {code(v)}" for k, v in evaluation["versions"].items()) + "."]
    return lines


def _results(sets: Mapping[str, Any]) -> list[str]:
    if not sets:
        return []
    rows = [
        (
            code(name),
            count(one.get("n_pairs")),
            interval(one, "accuracy"),
            interval(one, "free_accuracy"),
            percent(one.get("position_consistent_accuracy")),
            interval(one.get("longer_wins") or {}, "accuracy", ENDS),
            interval(one.get("longer_wins") or {}, "diff", form=points),
        )
        for name, one in sets.items()
    ]
    return [
        "## Results",
        "",
        "Percent, with 95 % intervals over groups of pairs. Accuracy reads p(A) and counts a tie as wrong; free "
        "accuracy reads the judge's own text, where no verdict is wrong. The last column is the judge minus the rule "
        "that the longer response wins, on the same pairs.",
        "",
        *table(
            ("Set", "Pairs", "Accuracy", "Free accuracy", "Right in both orders", "Longer wins", "Judge − rule"), rows
        ),
    ]


def _protocols(benchmarks: Mapping[str, Any]) -> list[str]:
    lines: list[str] = []
    for name, one in benchmarks.items():
        part = "" if one.get("complete") else ", not of the whole benchmark"
        lines += ["", f"### {escape(name)}", "", f"Score: **{interval(one, 'score', ENDS)}**{part}.", ""]
        rows = [
            (
                code(title),
                interval(section, "score", ENDS),
                count(section.get("n")),
                NONE if section.get("weight") is None else percent(section["weight"]),
            )
            for title, section in (one.get("sections") or {}).items()
        ]
        lines += table(("Section", "Score", "n", "Share of the score"), rows) if rows else []
        lines += ["", *(f"- {escape(note)}" for note in one["notes"])] if one.get("notes") else []
    return ["## By the benchmarks' own protocols", *lines] if lines else []


def _calibration(sets: Mapping[str, Any]) -> list[str]:
    keys = ("ece", "brier", "auroc", "kappa")
    if not any(one.get(key) is not None for one in sets.values() for key in keys):
        return []
    rows = [(code(name), *(interval(one, key, form=decimals) for key in keys)) for name, one in sets.items()]
    scored = any(one.get("ece") is None for one in sets.values())
    none = " Scores of any scale are no probabilities: they have neither an ECE nor a Brier score." if scored else ""
    return [
        "## Calibration and agreement",
        "",
        "Of p(A) against the labels: expected calibration error and Brier score (lower is better), area under the ROC "
        f"curve, Cohen's κ.{none}",
        "",
        *table(("Set", "ECE", "Brier", "AUROC", "κ"), rows),
    ]


def _position(sets: Mapping[str, Any]) -> list[str]:
    rows = [
        (
            code(name),
            interval(one, "position_bias", form=points),
            percent(one.get("position_consistency")),
            percent(one.get("tie_rate")),
            percent(one.get("invalid_rate")),
        )
        for name, one in sets.items()
        if one.get("position_bias") is not None or one.get("position_consistency") is not None
    ]
    if not rows:
        return []
    return [
        "## Position bias and invalid verdicts",
        "",
        "Bias: the share of verdicts for the first response, minus half. Consistent: the same response in both orders.",
        "",
        *table(("Set", "Bias", "Consistent", "Ties", "Invalid"), rows),
    ]


def _cost(sets: Mapping[str, Any]) -> list[str]:
    rows = [
        (code(name), number(one.get("tokens_per_verdict"), 1), number(one.get("seconds_per_verdict"), 3))
        for name, one in sets.items()
        if one.get("tokens_per_verdict") is not None or one.get("seconds_per_verdict") is not None
    ]
    return ["## Cost", "", *table(("Set", "Tokens a verdict", "Seconds a verdict"), rows)] if rows else []


def _beside(scores: Mapping[str, Any]) -> list[str]:
    held = [f"{what} (`{key}`)" for key, what in BESIDE.items() if scores.get(key)]
    return [f"`scores.json` holds more: {', '.join(held)}."] if held else []


def _data(evaluation: Mapping[str, Any]) -> list[str]:
    rows = [
        (
            code(one.get("name", "")),
            code(PurePath(str(one.get("data") or "")).name),
            count(one.get("n_pairs")),
            count(one.get("n_dropped")),
            code(one["digest"]) if one.get("digest") else NONE,
        )
        for one in evaluation.get("sets") or []
    ]
    if not rows:
        return []
    return ["## Data", "", *table(("Set", "File", "Pairs", "Left out: too long", "BLAKE2b digest"), rows)]


def _limits(sets: Mapping[str, Any], benchmarks: Mapping[str, Any]) -> list[str]:
    lines = [
        "## Limits",
        "",
        "- Accuracy is agreement with the labels of these sets. Where people or a model gave them, they are partly "
        "noise.",
        "- The intervals say how far other prompts of the same kind would move a number. They say nothing of another "
        "training run, another draw of rationales, or other kinds of prompts.",
        "- Where all pairs came out alike (all right, say), the end of a share's interval is Wilson's bound, which "
        "rests on their number alone; other numbers have no interval there.",
        "- Whether the backbone's pre-training has seen a public benchmark was not checked here.",
    ]
    if any(one.get("n_dropped") for one in sets.values()):
        lines.append(
            "- Pairs that did not fit the judge's context are in no number: these are results on shorter pairs."
        )
    if any(not one.get("complete") for one in benchmarks.values()):
        lines.append("- A score that is not of the whole benchmark must not stand beside published ones.")
    return lines
