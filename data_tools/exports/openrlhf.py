"""OpenRLHF's rows under ``--prompt_key prompt --chosen_key chosen --rejected_key rejected --apply_chat_template``.

``margin`` is 0 where a pair has none: so OpenRLHF's loader says it, too.
"""

from __future__ import annotations

import polars as pl

from data_tools.exports import _rows, trl
from data_tools.exports._rows import Found

SUMMARY = "OpenRLHF: prompt, chosen, rejected as turns, margin (0: none)"
READER = "openrlhf"
ENDINGS = (".jsonl", ".parquet")


def rows(frame: pl.LazyFrame) -> pl.LazyFrame:
    return trl.rows(frame).with_columns(pl.col("margin").fill_null(0.0))


def notes(found: Found, frame: pl.LazyFrame) -> list[str]:
    n = _rows.without_margin(found)
    lines = [f"margin: {n:,} of {found.pairs:,} pairs have none, written as 0"] if n else []
    return [*lines, "ingest reads it again with --format openrlhf: its rows look like TRL's"]
