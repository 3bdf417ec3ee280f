"""RewardBench, split ``filtered``: ``prompt``, ``chosen`` and ``rejected`` are texts; all rows are test.

The category is the section that a subset counts to: chat, chat_hard, safety or reasoning.
"""

from __future__ import annotations

from typing import Any

import polars as pl

from data_tools.sources import _rows
from data_tools.sources._rows import Rows

KEYS = ("prompt", "chosen", "rejected", "subset", "id")
REMEDY = {"pair_id": "key 'id' or 'subset' is missing or null; every row needs one of its own"}
SECTIONS = {
    "chat": ("alpacaeval-easy", "alpacaeval-length", "alpacaeval-hard", "mt-bench-easy", "mt-bench-med"),
    "chat_hard": (
        "mt-bench-hard", "llmbar-natural", "llmbar-adver-neighbor", "llmbar-adver-GPTInst", "llmbar-adver-GPTOut",
        "llmbar-adver-manual",
    ),
    "safety": (
        "refusals-dangerous", "refusals-offensive", "xstest-should-refuse", "xstest-should-respond", "donotanswer",
    ),
    "reasoning": ("math-prm", "hep-cpp", "hep-go", "hep-java", "hep-js", "hep-python", "hep-rust"),
}  # fmt: skip
_SECTION = {subset: section for section, subsets in SECTIONS.items() for subset in subsets}


def fits(first: dict[str, Any]) -> bool:
    """Other rows have these keys, too: the subset tells."""
    return all(isinstance(first[key], str) for key in KEYS[:4]) and first["subset"] in _SECTION


def schema(first: dict[str, Any]) -> pl.Schema:
    return pl.Schema(dict.fromkeys(KEYS, pl.String))


def pairs(rows: Rows) -> pl.LazyFrame:
    return rows.frame.with_columns(
        pair_id=pl.format("rewardbench/{}/{}", "subset", "id"),
        source=pl.lit("rewardbench"),
        category=pl.col("subset").replace_strict(_SECTION, default=None),
        split=pl.lit("test"),
        prompt=_rows.user_turn(pl.col("prompt")),
    )
