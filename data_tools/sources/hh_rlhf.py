"""Anthropic's HH-RLHF: ``chosen`` and ``rejected``, each a whole transcript in one string.

A turn begins with ``\\n\\nHuman:`` or ``\\n\\nAssistant:``; outer whitespace of its text is no part of it. Transcripts
that differ before the last assistant turn are left out, since no prompt is common to both responses.
"""

from __future__ import annotations

from typing import Any

import polars as pl

from data_tools.schema import MESSAGES
from data_tools.sources import _rows
from data_tools.sources._rows import LEFT_OUT, Rows

KEYS = ("chosen", "rejected")
REMEDY = {key: f"'{key}' is missing, or its last turn is not the assistant's" for key in KEYS}
_HUMAN, _ASSISTANT = "\n\nHuman:", "\n\nAssistant:"


def fits(first: dict[str, Any]) -> bool:
    texts = [first[key] for key in KEYS if first.get(key) is not None]
    return first.get("prompt") is None and bool(texts) and all(
        isinstance(text, str) and text.startswith(_HUMAN) for text in texts
    )  # fmt: skip


def schema(first: dict[str, Any]) -> pl.Schema:
    return pl.Schema(dict.fromkeys(KEYS, pl.String))


def pairs(rows: Rows) -> pl.LazyFrame:
    frame = rows.frame.with_columns(_turns(pl.col(key)).alias(key) for key in KEYS)
    frame = frame.with_columns(_rows.diverging(pl.col("chosen"), pl.col("rejected")).alias(LEFT_OUT))
    frame = frame.with_columns(
        prompt=_rows.before_last(pl.col("chosen")),
        source=pl.lit("hh_rlhf"),
        label_kind=pl.lit("human"),
        **{key: _rows.response(pl.col(key)) for key in KEYS},
    )
    return frame.with_columns(pair_id=_rows.content_hash())


def _turns(transcript: pl.Expr) -> pl.Expr:
    """MESSAGES: after each "Human:" one turn of the user's, and one of the assistant's for each "Assistant:" in it."""
    role = pl.when(pl.int_range(pl.len()) == 0).then(pl.lit("user")).otherwise(pl.lit("assistant"))
    turn = pl.struct(role=role, content=pl.element().str.strip_chars())
    exchanges = transcript.str.split(_HUMAN).list.slice(1)  # nothing stands before the first one
    exchanges = exchanges.list.eval(pl.element().str.split(_ASSISTANT).list.eval(turn))
    return exchanges.list.eval(pl.element().list.explode()).cast(MESSAGES)
