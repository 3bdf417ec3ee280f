"""Preference rows as TRL takes them, in JSON Lines.

| form | prompt | chosen, rejected |
| --- | --- | --- |
| standard | string | strings |
| conversational | list of turns, or a string | lists of turns that continue the prompt |
| implicit prompt | absent, an ignored string, or their first turns | whole conversations that differ in the last turn |

Optional keys: ``id`` (else a hash of the content), ``source`` (else the file's name), ``category``, ``subset``,
``group_id``, ``label_kind``, ``split`` and ``margin``: above 0, of any scale; margins above 1 are divided by the
file's largest, since PREFERENCE has them in (0, 1].

Unlike TRL, two *strings* without a prompt are refused: their common prefix is a guess at the conversation.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl

from data_tools.order import hash64
from data_tools.schema import MESSAGES, PREFERENCE, conform
from data_tools.sources import _jsonl

KEYS = ("chosen", "rejected")
REMEDY = {
    "pair_id": "key 'id' is missing, but the first row has one; give every row an id, or none",
    "prompt": (
        "there is no prompt: give 'prompt', or let 'chosen' and 'rejected' be whole conversations (lists of turns) "
        "that differ in the last turn alone"
    ),
    "chosen": "'chosen' is missing, or does not end with an assistant turn",
    "rejected": "'rejected' is missing, or does not end with an assistant turn",
}


def schema(first: dict[str, Any]) -> pl.Schema:
    """The raw columns: prompt and responses are strings or lists of turns as in the first row."""
    shapes = {"prompt": first.get("prompt")}
    for key, other in (KEYS, KEYS[::-1]):
        # A response that is not there is the fault of its own line: the other one shows the file's shape.
        shapes[key] = first[key] if first.get(key) is not None else first.get(other)
    listed = {key: MESSAGES if isinstance(shape, list) else pl.String for key, shape in shapes.items()}
    names = ("id", "group_id", "source", "category", "subset", "label_kind", "split")
    return pl.Schema({**dict.fromkeys(names, pl.String), **listed, "margin": pl.Float64})


def scan(path: str | Path) -> pl.LazyFrame:
    """A query of PREFERENCE. Raises UserError for a missing or empty file or a broken first line."""
    path = Path(path)
    first = _jsonl.first_row(path)
    raw = schema(first)
    prompt = pl.col("prompt")
    if raw["prompt"] == pl.String:
        prompt = pl.when(prompt.is_not_null()).then(
            pl.concat_list(pl.struct(role=pl.lit("user"), content=prompt)).cast(MESSAGES)
        )
    turns = {side: _before_last(side) if raw[side] == MESSAGES else pl.lit([], dtype=MESSAGES) for side in KEYS}
    shared = pl.when(turns["chosen"].eq_missing(turns["rejected"])).then(turns["chosen"])
    # Whole conversations begin with the prompt, or there is none to begin with; other turns continue the prompt. A
    # prompt of one string is the request again and not a turn before it, so a conversation wins over it.
    opening = shared.list.first().struct.field("role").is_in(["system", "user"])
    given = pl.col("prompt")
    known = shared.list.head(given.list.len()) == given if raw["prompt"] == MESSAGES else pl.lit(True)
    whole = (opening & (known | given.is_null())).fill_null(False)
    frame = _jsonl.scan(path, raw).with_columns(
        prompt=pl.when(whole).then(shared).otherwise(pl.concat_list(prompt, shared)),
        margin=pl.col("margin") / pl.max_horizontal(pl.col("margin").max(), 1.0),
        source=pl.col("source").fill_null(path.name.split(".")[0]),
        **{side: _response(side) if raw[side] == MESSAGES else pl.col(side) for side in KEYS},
    )
    identity = pl.col("id") if first.get("id") is not None else _content_hash()
    return conform(frame.with_columns(pair_id=identity), PREFERENCE)


def _before_last(side: str) -> pl.Expr:
    return pl.col(side).list.head(pl.col(side).list.len().cast(pl.Int64) - 1)


def _response(side: str) -> pl.Expr:
    last = pl.col(side).list.last()
    return pl.when(last.struct.field("role") == "assistant").then(last.struct.field("content"))


def _content_hash() -> pl.Expr:
    """16 hexadecimal digits of prompt and responses: the same row has the same id in every file and order."""
    return pl.struct("prompt", "chosen", "rejected").map_elements(
        lambda row: f"{hash64('pair', json.dumps(list(row.values()), ensure_ascii=False)):016x}", return_dtype=pl.String
    )
