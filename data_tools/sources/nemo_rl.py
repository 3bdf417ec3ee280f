"""NeMo-RL's preference rows: ``context`` of turns, ``completions`` of ``{rank, completion}``, the lower rank preferred.

A completion is a list of turns that ends with the assistant's; only its last turn may differ from a completion of the
same row, so completions of several turns are refused. Every two of different rank make a pair, and the pairs of a row
share a ``group_id``; equal ranks are ties and left out. The optional keys are those of the format trl. A row of two
completions is a pair like those of other formats: it keeps its ``id``, ``group_id`` and ``margin``.
"""

from __future__ import annotations

from typing import Any

import polars as pl

from data_tools.schema import MESSAGES
from data_tools.sources import _rows
from data_tools.sources._rows import Rows

KEYS = ("context", "completions")
ANY_SCALE = True
REMEDY = {
    "chosen": "a completion lacks its rank, or is not one turn of the assistant's",
    "prompt": "key 'context' is missing or null",
}


def fits(first: dict[str, Any]) -> bool:
    return _rows.has_turns(first["completions"]) and all("rank" in completion for completion in first["completions"])


def schema(first: dict[str, Any]) -> pl.Schema:
    completion = pl.Struct({"rank": pl.Float64, "completion": MESSAGES})
    return pl.Schema({**_rows.EXTRAS, "context": MESSAGES, "completions": pl.List(completion), "margin": pl.Float64})


def pairs(rows: Rows) -> pl.LazyFrame:
    item = pl.element().struct
    turns = item.field("completion")
    text = pl.when(turns.list.len() == 1).then(_rows.response(turns))
    scored = pl.struct(text=text, score=pl.when(text.is_not_null()).then(-item.field("rank")))
    frame = rows.frame.with_columns(prompt="context", responses=pl.col("completions").list.eval(scored))
    identity = pl.col("id") if rows.first.get("id") is not None else _rows.content_hash("prompt", "responses")
    frame = frame.with_columns(_id=identity, _group="group_id", source=pl.col("source").fill_null(rows.stem))
    frame = _rows.ranked(frame, "responses", "_id", rows.most)
    if rows.first.get("id") is None:
        return frame.drop("margin")
    alone = pl.col("_n") == 2
    own = {"pair_id": pl.col("_id"), "group_id": pl.col("_group"), "margin": pl.col("margin")}
    return frame.with_columns(
        pl.when(alone).then(kept).otherwise(None if name == "margin" else pl.col(name)).alias(name)
        for name, kept in own.items()
    )
