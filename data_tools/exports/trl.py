"""TRL's conversational preference rows: ``prompt``, ``chosen`` and ``rejected`` are lists of turns."""

from __future__ import annotations

import polars as pl

from data_tools.exports import _rows
from data_tools.exports._rows import Found

SUMMARY = "TRL (DPO, reward): prompt, chosen, rejected as turns"
READER = "trl"
ENDINGS = (".jsonl", ".jsonl.gz", ".jsonl.zst", ".parquet")


def rows(frame: pl.LazyFrame) -> pl.LazyFrame:
    answers = (_rows.turns(side).alias(side) for side in ("chosen", "rejected"))
    return frame.select("prompt", *answers, *_rows.extras())


def notes(found: Found, frame: pl.LazyFrame) -> list[str]:
    return _rows.margin_note(found, "TRL's RewardTrainer")
