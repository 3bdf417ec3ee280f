"""Pairs: the fields of PREFERENCE as JSON Lines.

| key | value |
| --- | --- |
| id | unique string or number |
| source | short name of the set |
| prompt | list of {"role", "content"} turns, the last one the user's |
| chosen, rejected | the last assistant turn, preferred and not: strings |
| label_kind | human, gpt-4, verified, constructed, … or null |
| category, subset, group_id, margin, split | optional |
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

from data_tools.schema import MESSAGES, PREFERENCE, conform
from data_tools.sources import _jsonl

KEYS = ("id", "source", "prompt", "chosen", "rejected", "label_kind")
REMEDY = {"pair_id": "key 'id' is missing or null; every row needs one of its own"}

_RAW = pl.Schema(
    {
        **dict.fromkeys(("id", "group_id", "source", "category", "subset", "label_kind", "split"), pl.String),
        **dict.fromkeys(("chosen", "rejected"), pl.String),
        "prompt": MESSAGES,
        "margin": pl.Float64,
    }
)


def schema(first: dict[str, Any]) -> pl.Schema:
    return _RAW


def scan(path: str | Path) -> pl.LazyFrame:
    """A query of PREFERENCE. Raises UserError for a missing or empty file."""
    return conform(_jsonl.scan(path, _RAW).rename({"id": "pair_id"}), PREFERENCE)
