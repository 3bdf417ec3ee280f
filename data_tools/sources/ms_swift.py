"""ms-swift's preference rows: ``messages`` and one of ``rejected_response`` and ``rejected_messages``.

``messages`` is the conversation with the preferred response as its last turn; ``rejected_response`` is the text that
loses to that turn, ``rejected_messages`` the whole conversation that ends in it. ``margin`` and the optional keys are
those of the format trl.
"""

from __future__ import annotations

from typing import Any

import polars as pl

from data_tools.schema import MESSAGES
from data_tools.sources import _rows
from data_tools.sources._rows import Rows

KEYS = ("messages",)
ANY_SCALE = True
NEEDS = "messages, rejected_response or rejected_messages"
REMEDY = {
    "chosen": "'messages' is missing, or its last turn is not the assistant's",
    "rejected": "'rejected_response' or 'rejected_messages' is missing, or does not end with an assistant turn",
    "prompt": "'messages' and 'rejected_messages' should differ in the last turn alone",
}


def fits(first: dict[str, Any]) -> bool:
    return "rejected_response" in first or "rejected_messages" in first


def schema(first: dict[str, Any]) -> pl.Schema:
    listed = dict.fromkeys(("messages", "rejected_messages"), MESSAGES)
    return pl.Schema({**_rows.EXTRAS, **listed, "rejected_response": pl.String, "margin": pl.Float64})


def pairs(rows: Rows) -> pl.LazyFrame:
    conversation, other = pl.col("messages"), pl.col("rejected_messages")
    prompt = _rows.before_last(conversation)
    frame = rows.frame.with_columns(
        prompt=pl.when(other.is_null() | prompt.eq_missing(_rows.before_last(other))).then(prompt),
        chosen=_rows.response(conversation),
        rejected=pl.coalesce("rejected_response", _rows.response(other)),
    )
    return _rows.identified(frame, rows)
