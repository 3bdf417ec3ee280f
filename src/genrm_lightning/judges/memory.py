"""Judging pairs that lie in memory, for callers that want no folder: rewards of a running fit, a server, a terminal."""

from __future__ import annotations

import json
from collections.abc import Sequence
from hashlib import blake2b
from typing import Any

import polars as pl

from data_tools.order import chosen_is_a
from data_tools.schema import PREFERENCE
from genrm_lightning.evaluation.voting import verdicts
from genrm_lightning.judges.base import Judged

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


def p_first(judged: Judged) -> dict[str, float]:
    """pair id -> probability that its first response is the better one: the mean over orders and samples."""
    said: Any = verdicts(judged.judgments).select("pair_id", "p_chosen").iter_rows()
    return dict(said)


def p_both(judged: Judged) -> dict[str, tuple[float, float]]:
    """pair id -> probabilities that its first response is the better one, where it is shown as A, and as B.

    In the mean over samples.
    """
    table = judged.judgments.group_by("pair_id", "swapped").agg(pl.col("p_a").cast(pl.Float64).mean())
    found: dict[str, dict[bool, float]] = {}
    for pair_id, swapped, p_a in table.iter_rows():
        as_a = chosen_is_a(pair_id, swapped)
        found.setdefault(pair_id, {})[as_a] = p_a if as_a else 1 - p_a
    return {pair_id: (sides[True], sides[False]) for pair_id, sides in found.items()}


def _turns(prompt: str | Turns) -> Turns:
    return [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
