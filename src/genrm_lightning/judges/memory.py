"""Judging pairs that lie in memory, for callers that want no folder: rewards of a running fit, a server, a terminal."""

from __future__ import annotations

import json
from collections.abc import Sequence
from hashlib import blake2b
from typing import Any

import polars as pl

from data_tools.schema import PREFERENCE
from genrm_lightning.evaluation.voting import verdicts
from genrm_lightning.judges.base import Judge, Judged

Turns = list[dict[str, str]]


def pairs_of(rows: Sequence[tuple[str, str | Turns, str, str]]) -> pl.DataFrame:
    """PREFERENCE rows of (id, prompt, first response, second response); the first stands as ``chosen``.

    A prompt is a text, the user's, or turns.
    """
    table = [
        {
            "pair_id": pair_id,
            "prompt": _turns(prompt),
            "chosen": first,
            "rejected": second,
        }
        for pair_id, prompt, first, second in rows
    ]
    return pl.DataFrame([{**dict.fromkeys(PREFERENCE), **row} for row in table], schema=PREFERENCE)


def content_id(prompt: str | Turns, first: str, second: str) -> str:
    """An id of a pair that its texts alone decide, 32 hex digits.

    Which response is shown first, and a sampled judge's random numbers, then depend on nothing but what is judged.
    """
    turns = [[turn["role"], turn["content"]] for turn in _turns(prompt)]
    return blake2b(json.dumps([turns, first, second]).encode(), digest_size=16).hexdigest()


def judge_in_memory(judge: Judge, pairs: pl.DataFrame, where: str = "pairs") -> Judged:
    """As :meth:`Judge.judge_now`.

    Args:
        pairs: of :func:`pairs_of`.
    """
    return judge.judge_now(pairs, where)


def p_first(judged: Judged) -> dict[str, float]:
    """pair id -> probability that its first response is the better one: the mean over orders and samples."""
    said: Any = verdicts(judged.judgments).select("pair_id", "p_chosen").iter_rows()
    return dict(said)


def _turns(prompt: str | Turns) -> Turns:
    return [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
