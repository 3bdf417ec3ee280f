"""Preference rows as TRL takes them.

| form | prompt | chosen, rejected |
| --- | --- | --- |
| standard | string | strings |
| conversational | list of turns, or a string | lists of turns that continue the prompt |
| implicit prompt | absent, an ignored string, or their first turns | whole conversations that differ in the last turn |

Optional keys: ``id`` (else a hash of the content), ``source`` (else the file's name), ``category``, ``subset``,
``group_id``, ``label_kind``, ``split`` and ``margin``: above 0, of any scale; margins above 1 are divided by the
file's largest, since PREFERENCE has them in (0, 1].

Unlike TRL, two *strings* without a prompt are refused: their common prefix is a guess at the conversation. Rows with
one completion and a label are of the format trl_unpaired.
"""

from __future__ import annotations

from typing import Any

import polars as pl

from data_tools.schema import MESSAGES
from data_tools.sources import _rows, hh_rlhf
from data_tools.sources._rows import Rows

KEYS = ("chosen", "rejected")
ANY_SCALE = True
REMEDY = {
    "pair_id": "key 'id' is missing, but the first row has one; give every row an id, or none",
    "prompt": (
        "there is no prompt: give 'prompt', or let 'chosen' and 'rejected' be whole conversations (lists of turns) "
        "that differ in the last turn alone"
    ),
    "chosen": "'chosen' is missing, or does not end with an assistant turn",
    "rejected": "'rejected' is missing, or does not end with an assistant turn",
}


def fits(first: dict[str, Any]) -> bool:
    """One response a side: neither lists of texts (N-way rows), nor objects, nor HH-RLHF's transcripts."""
    several = any((first[key] and _rows.has_texts(first[key])) or isinstance(first[key], dict) for key in KEYS)
    return not several and not hh_rlhf.fits(first)


def schema(first: dict[str, Any]) -> pl.Schema:
    """The raw columns: prompt and responses are strings or lists of turns as in the first row."""
    shapes = {"prompt": first.get("prompt")}
    for key, other in (KEYS, KEYS[::-1]):
        # A response that is not there is the fault of its own line: the other one shows the file's shape.
        shapes[key] = first[key] if first.get(key) is not None else first.get(other)
    listed = {key: MESSAGES if isinstance(shape, list) else pl.String for key, shape in shapes.items()}
    return pl.Schema({**_rows.EXTRAS, **listed, "margin": pl.Float64})


def pairs(rows: Rows) -> pl.LazyFrame:
    """A query of PREFERENCE."""
    raw = schema(rows.first)
    prompt = pl.col("prompt") if raw["prompt"] == MESSAGES else _rows.user_turn(pl.col("prompt"))
    turns = {
        side: _rows.before_last(pl.col(side)) if raw[side] == MESSAGES else pl.lit([], dtype=MESSAGES) for side in KEYS
    }
    shared = pl.when(turns["chosen"].eq_missing(turns["rejected"])).then(turns["chosen"])
    # Whole conversations begin with the prompt, or there is none to begin with; other turns continue the prompt. A
    # prompt of one string is the request again and not a turn before it, so a conversation wins over it.
    opening = shared.list.first().struct.field("role").is_in(["system", "user"])
    given = pl.col("prompt")
    known = shared.list.head(given.list.len()) == given if raw["prompt"] == MESSAGES else pl.lit(True)
    whole = (opening & (known | given.is_null())).fill_null(False)
    frame = rows.frame.with_columns(
        prompt=pl.when(whole).then(shared).otherwise(pl.concat_list(prompt, shared)),
        **{side: _rows.response(pl.col(side)) if raw[side] == MESSAGES else pl.col(side) for side in KEYS},
    )
    return _rows.identified(frame, rows)
