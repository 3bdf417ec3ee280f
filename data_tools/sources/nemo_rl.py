"""NeMo-RL's preference rows: ``context`` of turns, ``completions`` of ``{rank, completion}``, the lower rank preferred.

A completion is a list of turns that ends with the assistant's; only its last turn may differ from a completion of the
same row, so completions of several turns are refused. Every two of different rank make a pair, and the pairs of a row
share a ``group_id``; equal ranks are ties and left out. The optional keys are those of the format trl.
"""

from __future__ import annotations

from typing import Any

import polars as pl

from data_tools.schema import MESSAGES
from data_tools.sources import _rows
from data_tools.sources._rows import Rows

KEYS = ("context", "completions")
REMEDY = {
    "chosen": "a completion lacks its rank, or is not one turn of the assistant's",
    "prompt": "key 'context' is missing or null",
}


def fits(first: dict[str, Any]) -> bool:
    return _rows.has_turns(first["completions"]) and all("rank" in completion for completion in first["completions"])


def schema(first: dict[str, Any]) -> pl.Schema:
    completion = pl.Struct({"rank": pl.Float64, "completion": MESSAGES})
    return pl.Schema({**_rows.EXTRAS, "context": MESSAGES, "completions": pl.List(completion)})


def pairs(rows: Rows) -> pl.LazyFrame:
    item = pl.element().struct
    turns = item.field("completion")
    text = pl.when(turns.list.len() == 1).then(_rows.response(turns))
    scored = pl.struct(text=text, score=pl.when(text.is_not_null()).then(-item.field("rank")))
    frame = rows.frame.with_columns(prompt="context", responses=pl.col("completions").list.eval(scored))
    identity = pl.col("id") if rows.first.get("id") is not None else _rows.content_hash("prompt", "responses")
    frame = frame.with_columns(_id=identity, source=pl.col("source").fill_null(rows.stem))
    return _rows.ranked(frame, "responses", "_id")
