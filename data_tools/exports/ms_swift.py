"""ms-swift's preference rows: ``messages`` with the better response as their last turn, and ``rejected_response``.

It refuses rows in which user and assistant do not take turns, empty turns of the assistant, and responses that are the
same: they are left out here, and counted.
"""

from __future__ import annotations

import polars as pl

from data_tools.exports import _rows
from data_tools.exports._rows import Found

SUMMARY = "ms-swift: messages, rejected_response"
READER = "ms_swift"
ENDINGS = (".jsonl",)
_turn = pl.element().struct
_silent = (_turn.field("role") == "assistant") & (_turn.field("content") == "")
UNFIT = {
    **_rows.TURNS,
    "empty turn of the assistant": pl.col("prompt").list.eval(_silent).list.any(),
}


def rows(frame: pl.LazyFrame) -> pl.LazyFrame:
    conversation = pl.concat_list("prompt", _rows.turns("chosen"))
    return frame.select(conversation.alias("messages"), pl.col("rejected").alias("rejected_response"), *_rows.extras())


def notes(found: Found, frame: pl.LazyFrame) -> list[str]:
    return _rows.margin_note(found, "reward training there")
