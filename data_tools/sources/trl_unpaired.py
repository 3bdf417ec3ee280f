"""TRL's unpaired rows: ``prompt``, ``completion``, ``label`` (true: good), one response a row.

Each good completion is set against each bad one of the same prompt, wherever in the file they stand; the pairs of a
prompt share a ``group_id``. A completion that has no counterpart is left out. Prompt and completion are strings or
lists of turns, as in the first row.
"""

from __future__ import annotations

from typing import Any

import polars as pl

from data_tools.schema import MESSAGES
from data_tools.sources import _rows
from data_tools.sources._rows import ALONE, LEFT_OUT, ROW, Rows

KEYS = ("prompt", "completion", "label")
REMEDY = {
    "chosen": "'prompt', 'completion' or 'label' (true or false) is missing, or the last turn is not the assistant's"
}


def schema(first: dict[str, Any]) -> pl.Schema:
    texts = {key: MESSAGES if isinstance(first.get(key), list) else pl.String for key in ("prompt", "completion")}
    return pl.Schema({**texts, "label": pl.Boolean})


def pairs(rows: Rows) -> pl.LazyFrame:
    raw = schema(rows.first)
    prompt, text, label = (pl.col(key) for key in KEYS)
    if raw["completion"] == MESSAGES:
        prompt_turns = pl.col("prompt") if raw["prompt"] == MESSAGES else _rows.user_turn(prompt)
        prompt, text = pl.concat_list(prompt_turns, _rows.before_last(text)), _rows.response(text)
    elif raw["prompt"] == pl.String:
        prompt = _rows.user_turn(prompt)
    frame = rows.frame.select(ROW, "label", prompt=prompt, text=text)
    frame = frame.with_columns(group_id=_rows.content_hash("prompt"))
    unknown = pl.any_horizontal(label.is_null(), pl.col("prompt").is_null(), pl.col("text").is_null())
    good, bad = frame.filter(label & ~unknown), frame.filter(~label & ~unknown)
    paired = good.rename({"text": "chosen"}).join(
        bad.select("group_id", "text", _bad=ROW).rename({"text": "rejected"}), on="group_id"
    )
    alone = pl.concat([good.join(bad, on="group_id", how="anti"), bad.join(good, on="group_id", how="anti")])
    frame = pl.concat(
        [paired, alone.with_columns(pl.lit(ALONE).alias(LEFT_OUT)), frame.filter(unknown)], how="diagonal"
    ).sort(ROW, "_bad")
    return frame.with_columns(pair_id=_rows.content_hash(), source=pl.lit(rows.stem))
