"""Judging pairs that lie in memory, for callers that want no folder: rewards of a running fit, a server, a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
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
            "prompt": [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt,
            "chosen": first,
            "rejected": second,
        }
        for pair_id, prompt, first, second in rows
    ]
    return pl.DataFrame([{**dict.fromkeys(PREFERENCE), **row} for row in table], schema=PREFERENCE)


def judge_in_memory(judge: Judge, pairs: pl.DataFrame, where: str = "pairs") -> Judged:
    """As :meth:`Judge.judge`; nothing is said, and nothing left on the disk.

    Args:
        pairs: of :func:`pairs_of`.
    """
    with TemporaryDirectory(prefix="genrm-") as folder:
        return judge.judge(pairs, Path(folder), where, aloud=False)


def p_first(judged: Judged) -> dict[str, float]:
    """pair id -> probability that its first response is the better one: the mean over orders and samples."""
    said: Any = verdicts(judged.judgments).select("pair_id", "p_chosen").iter_rows()
    return dict(said)
