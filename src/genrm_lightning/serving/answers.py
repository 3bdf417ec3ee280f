"""What a server answers, from what a judge said."""

from __future__ import annotations

import math
import time
from statistics import fmean
from typing import Any
from uuid import uuid4

from data_tools.judging import render_completion
from data_tools.order import chosen_is_a
from genrm_lightning.judges.base import Judged
from genrm_lightning.serving.works import Written


def head(kind: str, prefix: str, model: str) -> dict[str, Any]:
    """What every answer of vLLM's and OpenAI's begins with."""
    return {"id": f"{prefix}-{uuid4().hex}", "object": kind, "created": int(time.time()), "model": model}


def rewards(found: list[float]) -> dict[str, Any]:
    """OpenRLHF's; it filters prompts by ``scores`` and trains on ``rewards``."""
    return {"rewards": found, "scores": found, "extra_logs": {}}


def classes(found: list[float], model: str) -> dict[str, Any]:
    """vLLM's /classify, of a classifier with one label."""
    data = [{"index": i, "label": "LABEL_0", "probs": [p], "num_classes": 1} for i, p in enumerate(found)]
    return {**head("list", "classify", model), "data": data, "usage": _usage(0, 0)}


def scores(found: list[float], model: str) -> dict[str, Any]:
    """vLLM's /score."""
    data = [{"index": i, "object": "score", "score": score} for i, score in enumerate(found)]
    return {**head("list", "score", model), "data": data, "usage": _usage(0, 0)}


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))


def comparison(pair_id: str, judged: Judged, model: str) -> dict[str, Any]:
    """Ours: which response is the better one, and why.

    ``p`` is the probability of response_a, the mean over both orders; ``p_a_first`` and ``p_b_first`` are those of each
    order, ``consistent`` says whether both are on one side. ``rationale`` is the one that is surest of the verdict
    among those that name it, as in labels; where ``rationale_swapped``, its "response A" is response_b.
    """
    rows = judged.judgments.to_dicts()
    for row in rows:
        row["a_first"] = chosen_is_a(pair_id, row["swapped"])
        row["p"] = row["p_a"] if row["a_first"] else 1 - row["p_a"]
    orders = {first: fmean(row["p"] for row in rows if row["a_first"] is first) for first in (True, False)}
    p = fmean(orders.values())
    verdict = "A" if p > 0.5 else "B" if p < 0.5 else "tie"
    naming = [row for row in rows if row["rationale"].strip() and _named(row) == ("A" if p >= 0.5 else "B")]
    best = max(naming, key=lambda row: row["p"] if p >= 0.5 else 1 - row["p"], default=None)
    answer = {
        **head("comparison", "compare", model),
        "verdict": verdict,
        "p": p,
        "p_a_first": orders[True],
        "p_b_first": orders[False],
        "consistent": all(one > 0.5 for one in orders.values()) or all(one < 0.5 for one in orders.values()),
        "rationale": best and best["rationale"],
        "rationale_swapped": best and not best["a_first"],
        "samples": len(rows),
        "tokens": judged.tokens,
    }
    if judged.rewards is not None:
        _, reward_a, reward_b = judged.rewards.row(0)
        answer |= {"reward_a": reward_a, "reward_b": reward_b}
    return answer


def completion(written: Written, model: str) -> dict[str, Any]:
    """OpenAI's: a judgment a choice, its verdict the letter that was drawn behind the rationale.

    Each choice has ``p_a`` too, the probability of A there.
    """
    choices = [
        {
            "index": i,
            "message": {"role": "assistant", "content": render_completion(sample.rationale, sample.vote).lstrip()},
            "finish_reason": sample.finish_reason,
            "logprobs": None,
            "p_a": sample.p_a,
        }
        for i, sample in enumerate(written.samples)
    ]
    tokens = sum(len(sample.token_ids or ()) for sample in written.samples)
    return {
        **head("chat.completion", "chatcmpl", model),
        "choices": choices,
        "usage": _usage(written.prompt_tokens, tokens),
    }


def models(model: str, kind: str, judge_prompt: str | None) -> dict[str, Any]:
    """OpenAI's list, of one."""
    own = {"id": model, "object": "model", "created": 0, "owned_by": "genrm-lightning"}
    return {"object": "list", "data": [{**own, "kind": kind, "judge_prompt": judge_prompt}]}


def _usage(prompt: int, completion: int) -> dict[str, int]:
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def _named(row: dict[str, Any]) -> str:
    """The response, A or B of the request, that a judgment's own text names; anything else where it names none."""
    letter = row["verdict"]
    return letter if row["a_first"] or letter not in ("A", "B") else "BA"["AB".index(letter)]
