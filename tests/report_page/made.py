"""Runs as evaluate, star and compare leave them, made of judges that are right as often as they are told to be."""

from __future__ import annotations

import json

import numpy as np
import polars as pl

from data_tools.artifact import digest, write_json
from data_tools.order import chosen_is_a
from data_tools.schema import JUDGMENT, PREFERENCE, conform
from genrm_lightning.evaluation.scores import set_scores
from genrm_lightning.evaluation.votes import report as votes_report

CATEGORIES = ("chat", "code", "maths", "safety")


def preferences(n, seed=0, text="An answer"):
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(n):
        sides = [f"{text} to question {i}. " + "More words follow. " * int(k) for k in rng.integers(0, 8, 2)]
        rows.append({
            "pair_id": f"pair-{seed}-{i:05}", "source": "made", "category": CATEGORIES[i % 4],
            "subset": f"level {i % 3}",
            "prompt": [{"role": "user", "content": f"Question {i // 2}?"}], "chosen": sides[0], "rejected": sides[1],
        })  # fmt: skip
    return conform(pl.DataFrame(rows), PREFERENCE)


def judgments(pairs, skill, k=1, seed=1, bias=0.0, judge="made", rationale="Response {right} says more about it."):
    """``skill``: the mean of a pair's log-odds for the right response; ``bias``: what A has more."""
    rng = np.random.default_rng(seed)
    rows = []
    for pair_id, hard in zip(pairs["pair_id"], rng.normal(skill, 1.5, len(pairs)), strict=True):
        for swapped in (False, True):
            is_a = chosen_is_a(pair_id, swapped)
            for i in range(k):
                odds = (hard if is_a else -hard) + bias + rng.normal(0, 0.7)
                p_a = float(1 / (1 + np.exp(-odds)))
                verdict = "A" if p_a > 0.5 else "B"
                text = rationale.format(right=verdict) if rationale else ""
                rows.append({
                    "pair_id": pair_id, "swapped": swapped, "iteration": 1, "sample_index": i, "rationale": text,
                    "verdict": verdict if rng.random() > 0.02 else "INVALID",
                    "vote": "A" if rng.random() < p_a else "B",
                    "p_a": p_a, "n_tokens": len(text.split()), "finish_reason": "stop", "seed": 0, "judge": judge,
                })  # fmt: skip
    return conform(pl.DataFrame(rows), JUDGMENT)


def measured(table, pairs, k):
    """What scores.json says of a set: SetScores, votes, and numbers that look like those of a measurement."""
    found = set_scores(table, pairs).as_dict()
    ends = {"": 0.0, "_low": -0.03, "_high": 0.03}
    for name, value in (("ece", 0.08), ("brier", 0.17), ("auroc", 0.81), ("kappa", 0.45)):
        found |= {name + end: value + more for end, more in ends.items()}
    found |= {f"position_bias{end}": found["share_a"] - 0.5 + more for end, more in ends.items()}
    accuracy = found["accuracy"]
    bins = [0.525 + 0.05 * i for i in range(10)]
    found["reliability"] = [
        {"low": p - 0.025, "high": p + 0.025, "mean_p": p, "share_right": min(1.0, 0.9 * p + 0.02),
         "share_low": 0.8 * p, "share_high": min(1.0, p + 0.06), "n": 10 * i}
        for i, p in enumerate(bins)
    ]  # fmt: skip
    found["longer_wins"] = {"accuracy": 0.55, "low": 0.5, "high": 0.6} | {
        f"diff{end}": accuracy - 0.55 + more for end, more in ends.items()
    }
    edges = [(None, -100), (-99, 0), (1, 100), (101, None)]
    found["by_length"] = [
        {"name": f"bin {i}", "low": low, "high": high, "n_pairs": 25, "accuracy": accuracy - 0.1 + 0.05 * i,
         "low_accuracy": accuracy - 0.2 + 0.05 * i, "high_accuracy": min(1.0, accuracy + 0.05 * i)}
        for i, (low, high) in enumerate(edges)
    ]  # fmt: skip
    found["by"] = {"category": found["categories"]}
    found["risk_coverage"] = [
        {"coverage": c / 20, "risk": (1 - accuracy) * c / 20, "risk_low": 0.5 * (1 - accuracy) * c / 20,
         "risk_high": min(1.0, 1.5 * (1 - accuracy) * c / 20)} for c in range(1, 21)
    ]  # fmt: skip
    found["tokens_per_verdict"] = float(table["n_tokens"].sum()) / found["n_presentations"]
    found["seconds_per_verdict"] = None
    if k > 1:
        found["votes"] = votes_report(table, pairs)
    return found


def hacking(strength):
    """As evaluation.hacking gives it, of a few attacks."""
    attacks = []
    for i, (family, name) in enumerate(
        (("opening", "thought"), ("instruction", "say_a"), ("empty", "dot"), ("control", "neutral"))
    ):
        win = min(0.95, 0.2 + strength * i / 4)
        attacks.append({
            "name": name, "family": family, "kind": "control" if family == "control" else "prepend",
            "description": f"attack {i}", "win_rate": win, "win_low": win - 0.05, "win_high": win + 0.05,
            "diff": win - 0.2, "diff_low": win - 0.27, "diff_high": win - 0.13, "control_diff": None, "n_pairs": 50,
        })  # fmt: skip
    return {"n_pairs": 50, "clean": {"win_rate": 0.2, "win_low": 0.15, "win_high": 0.25}, "attacks": attacks}


def evaluation(folder, judge, pairs, *, skill=1.0, k=1, seed=1, bias=0.0, kind="cot", more=None, data=None, **text):
    """An evaluation folder; ``pairs``: name of a set -> PREFERENCE."""
    sets, numbers = [], {}
    for name, table in pairs.items():
        place = folder / "sets" / name
        place.mkdir(parents=True)
        table.write_parquet(place / "pairs.parquet")
        judged = judgments(table, skill, k, seed, bias, judge, **text)
        judged.write_parquet(place / "judgments.parquet")
        numbers[name] = measured(judged, table, k)
        sets.append({
            "name": name, "data": data or f"data/{name}.parquet", "digest": digest(place / "pairs.parquet"),
            "n_pairs": len(table), "n_dropped": 0, "seconds": 12.5, "tokens": 1000, "folder": f"sets/{name}",
        })  # fmt: skip
    said = {"judge": judge, "kind": kind, "objective": "DPO", "judge_prompt": "brief", "n_samples": k, "seed": 0}
    write_json(folder / "evaluation.json", {**said, "sets": sets, "versions": {"polars": pl.__version__}})
    write_json(
        folder / "scores.json", {"judge": judge, "kind": kind, "sets": numbers, "benchmarks": {}, **(more or {})}
    )
    return folder


def benchmark(score):
    sections = {"Chat": (0.9, None), "Safety": (score - 0.1, 1.0)}
    return {
        "benchmark": "RewardBench", "score": score, "low": score - 0.03, "high": score + 0.03, "n_expected": 2985,
        "sections": {
            name: {"score": s, "low": s - 0.05, "high": s + 0.05, "n": 40, "weight": weight}
            for name, (s, weight) in sections.items()
        },
        "subsets": {}, "complete": False, "notes": ["the prior sets are left out"],
    }  # fmt: skip


def shift(accuracy, name="category {}"):
    """As evaluation.shift gives it."""

    def row(i):
        here = accuracy - 0.05 * i
        return {"n_pairs": 30, "accuracy": here, "accuracy_low": here - 0.06, "accuracy_high": here + 0.06}

    bins = [{"low": 0.2 * i, "high": 0.2 * i + 0.1, **row(i)} for i in range(4)]
    kinds = [{"name": name.format(i), "distance": 0.1 + 0.2 * i, **row(i)} for i in range(3)]
    ends = {"spearman": -0.2, "spearman_low": -0.4, "spearman_high": 0.0}
    return {"train": "data/train.parquet", "bins": bins, "categories": kinds, **ends}


def star(folder, pairs, skills=(0.0, 0.6, 1.2), variant="star-dpo"):
    """A STaR run without a warm start: the zero-shot judge, then an iteration for each further skill."""
    data = folder / "data"
    data.mkdir(parents=True)
    for name, table in pairs.items():
        table.write_parquet(data / f"{name}.parquet")
    write_json(data / "manifest.json", {"key": {"source": {"embedded": {"rows": 600}}}, "facts": {}})
    rows = []
    for i, skill in enumerate(skills):
        place = folder / ("zero-shot" if i == 0 else f"iteration-{i}/evaluate")
        place.mkdir(parents=True)
        row = {"label": "zero-shot" if i == 0 else f"iteration {i}", "kind": "iteration" if i else "zero_shot"}
        row |= {"iteration": i, "seconds": 60.0}
        for name, table in pairs.items():
            judged = judgments(table, skill, seed=i)
            judged.write_parquet(place / f"{name}.parquet")
            found = set_scores(judged, table).as_dict()
            for key in ("accuracy", "accuracy_low", "accuracy_high", "position_consistent_accuracy", "share_a"):
                stem, _, end = key.rpartition("_")
                row[f"{stem}_{name}_{end}" if end in ("low", "high") else f"{key}_{name}"] = found[key]
        write_json(
            place / "manifest.json",
            {"key": {"sampling": {"n_samples": 1}}, "facts": {"dropped": {"id": [], "ood": []}}},
        )
        rows.append(row)
    write_json(folder / "summary.json", {"rows": rows, "variant": variant, "seed": 0, "differences": []})
    return folder


def compare(folder, pairs, seeds=2):
    """A comparison of a reward model and a STaR method, with some seeds."""
    first = star(folder / "seed-0" / "star-dpo", pairs)
    (first / "data").rename(folder / "data")
    methods = {"bt": ("Bradley-Terry", "read", 1.5), "star-dpo": ("STaR-DPO", "iteration-2/evaluate", 1.2)}
    rows = []
    for method, (label, judged, skill) in methods.items():
        row = {"method": method, "label": label, "seeds": seeds, "seconds": 90.0, "pairs": 100.0}
        for seed in range(seeds):
            home = folder / f"seed-{seed}" / method
            (home / judged).mkdir(parents=True, exist_ok=True)
            for name, table in pairs.items():
                judgments(
                    table, skill, seed=10 + seed, rationale="" if method == "bt" else "Because of {right}."
                ).write_parquet(home / judged / f"{name}.parquet")
                row |= {f"accuracy_{name}": 0.75, f"accuracy_{name}_low": 0.7, f"accuracy_{name}_high": 0.8}
            key = {"kind": "pairs" if method == "bt" else "star", "objective": {}}
            write_json(home / "manifest.json", {"key": key, "facts": {"judged": judged, "dropped": {}}})
        rows.append(row)
    summary = {"rows": rows, "seed": 0, "seeds": seeds, "missing": ["GenRM, seed 1"], "failed": {}, "n_pairs": {}}
    (folder / "summary.json").write_text(json.dumps(summary))
    return folder
