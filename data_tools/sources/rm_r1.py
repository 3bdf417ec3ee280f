"""RM-R1's training rows: ``context_messages`` is the prompt of a judge, ``winner`` is model_a or model_b.

The question and both responses are cut out of RM-R1's template for one turn. Its template for several turns holds two
whole conversations as running text, which cannot be taken apart again: such rows are left out.
"""

from __future__ import annotations

from typing import Any

import polars as pl

from data_tools.schema import MESSAGES
from data_tools.sources import _rows
from data_tools.sources._rows import LEFT_OUT, Rows

KEYS = ("context_messages", "winner")
REMEDY = {
    "chosen": "'winner' should be model_a or model_b, and the last turn of 'context_messages' RM-R1's judge prompt",
}
RUNNING_TEXT = "conversations as running text"
_SEVERAL = "[The Start of the Conversation between Chatbot A and the Client]"
_TEMPLATE = (
    r"(?s)\[Client Question\]\n(?<question>.*?)\n\n"
    r"\[The Start of Chatbot A's Response\]\n(?<a>.*?)\n\[The End of Chatbot A's Response\]\n\n"
    r"\[The Start of Chatbot B's Response\]\n(?<b>.*)\n\[The End of Chatbot B's Response\]"
)


def schema(first: dict[str, Any]) -> pl.Schema:
    return pl.Schema({"context_messages": MESSAGES, "winner": pl.String})


def pairs(rows: Rows) -> pl.LazyFrame:
    asked = pl.col("context_messages").list.last().struct.field("content")
    cut, winner = asked.str.extract_groups(_TEMPLATE), pl.col("winner")
    a, b = cut.struct.field("a"), cut.struct.field("b")
    frame = rows.frame.with_columns(
        pl.when(asked.str.contains(_SEVERAL, literal=True)).then(pl.lit(RUNNING_TEXT)).alias(LEFT_OUT),
        prompt=_rows.user_turn(cut.struct.field("question")),
        chosen=pl.when(winner == "model_a").then(a).when(winner == "model_b").then(b),
        rejected=pl.when(winner == "model_a").then(b).when(winner == "model_b").then(a),
        source=pl.lit("rm_r1"),
    )
    return frame.with_columns(pair_id=_rows.content_hash())
