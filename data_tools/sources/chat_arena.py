"""Chatbot Arena's battles: ``conversation_a``, ``conversation_b``, ``winner`` (model_a, model_b, or a kind of tie).

Ties are left out, and so are battles whose conversations differ before the last turn: the models have answered each
other's questions, and no prompt is common to both responses. ``question_id`` is optional, and becomes the pair's id.
"""

from __future__ import annotations

from typing import Any

import polars as pl

from data_tools.schema import MESSAGES
from data_tools.sources import _rows
from data_tools.sources._rows import LEFT_OUT, TIE, Rows

KEYS = ("conversation_a", "conversation_b", "winner")
REMEDY = {
    "pair_id": "key 'question_id' is missing, but the first row has one",
    "chosen": "'winner' is none of model_a, model_b and tie, or the winner's conversation does not end with its turn",
    "rejected": "the loser's conversation is missing, or does not end with its turn",
}


def schema(first: dict[str, Any]) -> pl.Schema:
    listed = dict.fromkeys(("conversation_a", "conversation_b"), MESSAGES)
    return pl.Schema({**listed, "winner": pl.String, "question_id": pl.String})


def pairs(rows: Rows) -> pl.LazyFrame:
    a, b, winner = (pl.col(key) for key in KEYS)
    tied = winner.str.starts_with("tie")
    # Of a tie the first: it is left out, or kept as a comparison without a winner.
    first, second = tied | (winner == "model_a"), winner == "model_b"
    frame = rows.frame.with_columns(
        pl.coalesce(_rows.diverging(a, b), pl.when(tied).then(pl.lit(TIE))).alias(LEFT_OUT),
        prompt=_rows.before_last(a),
        chosen=pl.when(first).then(_rows.response(a)).when(second).then(_rows.response(b)),
        rejected=pl.when(first).then(_rows.response(b)).when(second).then(_rows.response(a)),
        source=pl.lit("chat_arena"),
        label_kind=pl.lit("human"),
    )
    named = rows.first.get("question_id") is not None
    return frame.with_columns(pair_id="question_id" if named else _rows.content_hash())
