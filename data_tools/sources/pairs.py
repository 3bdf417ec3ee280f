"""Pairs: the fields of PREFERENCE.

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

from typing import Any

import polars as pl

from data_tools.schema import MESSAGES
from data_tools.sources import _rows
from data_tools.sources._rows import Rows

KEYS = ("id", "source", "prompt", "chosen", "rejected", "label_kind")
REMEDY = {"pair_id": "key 'id' is missing or null; every row needs one of its own"}


def fits(first: dict[str, Any]) -> bool:
    return isinstance(first["prompt"], list) and all(isinstance(first[side], str) for side in ("chosen", "rejected"))


def schema(first: dict[str, Any]) -> pl.Schema:
    texts = dict.fromkeys(("chosen", "rejected"), pl.String)
    return pl.Schema({**_rows.EXTRAS, **texts, "prompt": MESSAGES, "margin": pl.Float64})


def pairs(rows: Rows) -> pl.LazyFrame:
    return rows.frame.rename({"id": "pair_id"})
