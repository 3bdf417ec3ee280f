"""LLaMA-Factory's ShareGPT preference rows: ``conversations`` of turns, ``chosen`` and ``rejected`` a turn each.

A turn is ``{from, value}``, from human or gpt; ``system`` is an optional text before all turns. Conversations with
tool turns (observation, function_call) are refused. The optional keys are those of the format trl, margin among them.
"""

from __future__ import annotations

from typing import Any

import polars as pl

from data_tools.schema import MESSAGES
from data_tools.sources import _rows
from data_tools.sources._rows import SHAREGPT, Rows

KEYS = ("conversations", "chosen", "rejected")
ANY_SCALE = True
REMEDY = {key: f"'{key}' is missing, or is no turn from gpt" for key in ("chosen", "rejected")}


def fits(first: dict[str, Any]) -> bool:
    return all(first[key] is None or isinstance(first[key], dict) for key in ("chosen", "rejected"))


def schema(first: dict[str, Any]) -> pl.Schema:
    turns = dict.fromkeys(("chosen", "rejected"), SHAREGPT.inner)
    return pl.Schema({**_rows.EXTRAS, "conversations": SHAREGPT, **turns, "system": pl.String, "margin": pl.Float64})


def pairs(rows: Rows) -> pl.LazyFrame:
    system = pl.concat_list(pl.struct(role=pl.lit("system"), content="system")).cast(MESSAGES)
    before = pl.when(pl.col("system").fill_null("") != "").then(system).otherwise(pl.lit([], dtype=MESSAGES))
    frame = rows.frame.with_columns(
        prompt=pl.concat_list(before, _rows.messages(pl.col("conversations"))),
        **{side: _text(pl.col(side)) for side in ("chosen", "rejected")},
    )
    return _rows.identified(frame, rows)


def _text(turn: pl.Expr) -> pl.Expr:
    return pl.when(turn.struct.field("from").is_in(["gpt", "assistant"])).then(turn.struct.field("value"))
