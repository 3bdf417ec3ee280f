"""TRL's unpaired rows: ``prompt``, ``completion``, ``label`` (true: good), one response a row.

Each good completion is set against each bad one of the same prompt, wherever in the file they stand; the pairs of a
prompt share a ``group_id``. A completion that has no counterpart is left out. Prompt and completion are strings or
lists of turns, as in the first row. Where an ``id`` stands for a good and a bad row, rows belong together by it
instead: these are a pair, which keeps the optional keys of the format trl.

The file is read whole: what belongs together may stand anywhere in it.
"""

from __future__ import annotations

from typing import Any

import polars as pl

from data_tools.schema import MESSAGES
from data_tools.sources import _rows
from data_tools.sources._rows import ALONE, LEFT_OUT, ROW, Rows

KEYS = ("prompt", "completion", "label")
ANY_SCALE = True
WHOLE = True
REMEDY = {
    "chosen": "'prompt', 'completion' or 'label' (true or false) is missing, or the last turn is not the assistant's"
}


def schema(first: dict[str, Any]) -> pl.Schema:
    texts = {key: MESSAGES if isinstance(first.get(key), list) else pl.String for key in ("prompt", "completion")}
    return pl.Schema({**_rows.EXTRAS, **texts, "label": pl.Boolean, "margin": pl.Float64})


def pairs(rows: Rows) -> pl.LazyFrame:
    raw = schema(rows.first)
    prompt, text, label = (pl.col(key) for key in KEYS)
    if raw["completion"] == MESSAGES:
        prompt_turns = pl.col("prompt") if raw["prompt"] == MESSAGES else _rows.user_turn(prompt)
        prompt, text = pl.concat_list(prompt_turns, _rows.before_last(text)), _rows.response(text)
    elif raw["prompt"] == pl.String:
        prompt = _rows.user_turn(prompt)
    named = rows.first.get("id") is not None
    frame = rows.frame.with_columns(prompt=prompt, text=text).drop("completion")
    # An id may be one of the row alone.
    both = ((pl.col("label").n_unique().over("id") > 1) & pl.col("id").is_not_null()).any() if named else pl.lit(False)
    by_id = pl.when(both).then("id")
    frame = frame.with_columns(_of=pl.coalesce(by_id, _rows.content_hash("prompt")), _id=by_id)
    unknown = pl.any_horizontal(label.is_null(), pl.col("prompt").is_null(), pl.col("text").is_null())
    good, bad = frame.filter(label & ~unknown), frame.filter(~label & ~unknown)
    paired = good.rename({"text": "chosen"}).join(
        bad.select("_of", "text", _bad=ROW).rename({"text": "rejected"}), on="_of"
    )
    alone = pl.concat([good.join(bad, on="_of", how="anti"), bad.join(good, on="_of", how="anti")])
    frame = pl.concat(
        [paired, alone.with_columns(pl.lit(ALONE).alias(LEFT_OUT)), frame.filter(unknown)], how="diagonal"
    ).sort(ROW, "_bad")
    return frame.with_columns(
        pair_id=pl.coalesce("_id", _rows.content_hash()),
        group_id=pl.when(pl.col("_id").is_null()).then("_of").otherwise("group_id"),
        source=pl.col("source").fill_null(rows.stem),
    )
