"""Results in RewardBench's own files, for its leaderboard and whoever reads them.

    eval-set/JUDGE.json          subset -> score, and model, model_type, chat_template: what the leaderboard reads
    eval-set-scores/JUDGE.json   a list a column, in the order of the prompts: prompt, text_chosen, text_rejected,
                                 results, scores_chosen, scores_rejected, subset, id; and the three of above
    results/JUDGE.json           the command line's: accuracy, num_prompts, model, ref_model, tokenizer, chat_template,
                                 extra_results
    results/JUDGE_outputs.jsonl  the same columns, a line a prompt

Texts are lists of turns, as for the models that RewardBench gives no chat template. ``results`` are what the protocol
counts (:mod:`~genrm_lightning.evaluation.benchmarks.rewardbench`): one order, half a point for no verdict; not the mean
of both orders. A judge that compares has no scores of single responses: null.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import polars as pl

from data_tools import artifact
from genrm_lightning.evaluation.benchmarks import _rows, rewardbench

# A hub id keeps its two parts; everything else becomes one name.
_HUB_ID = re.compile(r"[A-Za-z0-9_][\w.-]*/[A-Za-z0-9_][\w.-]*", re.ASCII)
_MOST = 96


def write_rewardbench(
    folder: str | Path,
    judge: str,
    shown: pl.DataFrame,
    preferences: pl.DataFrame,
    rewards: pl.DataFrame | None = None,
    *,
    tokenizer: str | None = None,
    chat_template: str | None = None,
) -> list[Path]:
    """Write the four files of a judge, each atomically; none where ``preferences`` has no judged row of RewardBench.

    Args:
        folder: where the three folders are made.
        judge: a name, a folder or a hub id, written as ``model``; file names are made of it.
        shown, preferences, rewards: as for :func:`~genrm_lightning.evaluation.benchmarks.protocols`.
        tokenizer, chat_template: what the files say of them; "tokenizer" is RewardBench's word for a tokenizer's own
            template.

    Returns:
        The files.

    Raises:
        ValueError: tables that do not belong together.
    """
    rows = _rows.rows(shown, preferences, rewards, rewardbench.SOURCES)
    if rows is None or rows.judged.is_empty():
        return []
    columns = _columns(rows)
    grouped: dict[str, list[float]] = {}
    for subset, result in zip(columns["subset"], columns["results"], strict=True):
        grouped.setdefault(subset or "(none)", []).append(result)
    by_subset = {subset: sum(earned) / len(earned) for subset, earned in grouped.items()}
    of_model = {
        "model": judge,
        "model_type": "Seq. Classifier" if rows.scored else "Generative RM",
        "chat_template": chat_template,
    }
    of_command_line = {
        "accuracy": sum(columns["results"]) / len(columns["results"]),
        "num_prompts": len(columns["results"]),
        "model": judge,
        "ref_model": None,
        "tokenizer": tokenizer,
        "chat_template": chat_template,
        "extra_results": by_subset,
    }
    folder, name = Path(folder), file_name(judge)
    files = {
        folder / "eval-set" / f"{name}.json": by_subset | of_model,
        folder / "eval-set-scores" / f"{name}.json": columns | of_model,
        folder / "results" / f"{name}.json": of_command_line,
    }
    for path, value in files.items():
        artifact.write_json(path, value)
    lines = folder / "results" / f"{name}_outputs.jsonl"
    table = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    artifact.write_text(lines, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in table))
    return [*files, lines]


def file_name(judge: str) -> str:
    """``judge`` as a file's name: a hub id as it is, else what letters, digits, dots and dashes it has.

    >>> file_name("org/judge-1b"), file_name("../runs/a judge"), file_name("..")
    ('org/judge-1b', 'runs_a_judge', 'judge')
    """
    if len(judge) <= _MOST and _HUB_ID.fullmatch(judge):
        return judge
    name = re.sub(r"[^A-Za-z0-9.-]+", "_", judge)[-_MOST:].strip("._-")
    return name or "judge"


def _columns(rows: _rows.Rows) -> dict[str, list[Any]]:
    judged = rows.judged
    prompts = judged["prompt"].to_list()
    single = all(len(turns) == 1 for turns in prompts)  # as in the benchmark: a text each
    sides = {
        f"text_{side}": [
            [*turns, {"role": "assistant", "content": text}]
            for turns, text in zip(prompts, judged[side].to_list(), strict=True)
        ]
        for side in ("chosen", "rejected")
    }
    return {
        "prompt": [turns[0]["content"] for turns in prompts] if single else prompts,
        **sides,
        "results": rewardbench.results(rows).to_list(),
        "scores_chosen": judged["chosen_reward"].to_list(),
        "scores_rejected": judged["rejected_reward"].to_list(),
        "subset": judged["subset"].to_list(),
        "id": [pair_id.rpartition("/")[2] for pair_id in judged["pair_id"]],
    }
