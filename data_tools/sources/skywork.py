"""Skywork-Reward-Preference: ``chosen`` and ``rejected`` are whole conversations, ``source`` the set they come from.

The same as the format trl without a prompt, but for conversations that differ before the last turn: they are left out.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import polars as pl

from data_tools.sources import _rows, trl
from data_tools.sources._rows import LEFT_OUT, Rows

KEYS = ("chosen", "rejected", "source")
REMEDY = trl.REMEDY
_SHAPE: dict[str, Any] = {"prompt": None, "chosen": [], "rejected": []}  # conversations, whatever a first row has there


def schema(first: dict[str, Any]) -> pl.Schema:
    return trl.schema({**first, **_SHAPE})


def fits(first: dict[str, Any]) -> bool:
    return first.get("prompt") is None and all(_rows.has_turns(first[key]) for key in ("chosen", "rejected"))


def pairs(rows: Rows) -> pl.LazyFrame:
    frame = rows.frame.with_columns(_rows.diverging(pl.col("chosen"), pl.col("rejected")).alias(LEFT_OUT))
    return trl.pairs(replace(rows, frame=frame, first={**rows.first, **_SHAPE}))
