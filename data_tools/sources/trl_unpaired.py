"""TRL's unpaired rows: ``prompt``, ``completion``, ``label`` (true: good), one response a row.

Each good completion is set against each bad one of the same prompt, wherever in the file they stand; the pairs of a
prompt share a ``group_id``. A completion that has no counterpart is left out. Prompt and completion are strings or
lists of turns, as in the first row. Where an ``id`` of a prompt stands for a good and a bad row, rows of that prompt
belong together by it instead: these are a pair, which keeps the optional keys of the format trl. Prompts of many
completions give no more pairs than ``--max-pairs-per-prompt``; a completion that stands there again with the same label
would make the same pairs, and is left out.

What belongs together may stand anywhere in the file, so a large one is sorted by prompts first, and its pairs come in
that order.
"""

from __future__ import annotations

from typing import Any

import polars as pl

from data_tools.schema import MESSAGES
from data_tools.sources import _rows
from data_tools.sources._rows import ALONE, LEFT_OUT, ROW, TIMES, Rows

AGAIN = "a completion that its prompt has already"
KEYS = ("prompt", "completion", "label")
ANY_SCALE = True
REMEDY = {
    "chosen": "'prompt', 'completion' or 'label' (true or false) is missing, or the last turn is not the assistant's"
}


def schema(first: dict[str, Any]) -> pl.Schema:
    texts = {key: MESSAGES if isinstance(first.get(key), list) else pl.String for key in ("prompt", "completion")}
    return pl.Schema({**_rows.EXTRAS, **texts, "label": pl.Boolean, "margin": pl.Float64})


def together(rows: Rows) -> pl.LazyFrame:
    """``ROW`` and a hash of the prompt, ``_key``: rows with an equal one may make a pair."""
    return _prompted(rows).select(ROW, _key=_rows.content_hash("prompt"))


def _prompted(rows: Rows) -> pl.LazyFrame:
    """With the ``prompt`` as turns and the completion as ``text``."""
    raw = schema(rows.first)
    prompt, text = pl.col("prompt"), pl.col("completion")
    if raw["completion"] == MESSAGES:
        prompt_turns = prompt if raw["prompt"] == MESSAGES else _rows.user_turn(prompt)
        prompt, text = pl.concat_list(prompt_turns, _rows.before_last(text)), _rows.response(text)
    elif raw["prompt"] == pl.String:
        prompt = _rows.user_turn(prompt)
    return rows.frame.with_columns(prompt=prompt, text=text).drop("completion")


def pairs(rows: Rows) -> pl.LazyFrame:
    label, prompt = pl.col("label"), pl.col("_prompt")
    frame = _prompted(rows).with_columns(_prompt=_rows.content_hash("prompt"))
    # An id may be one of the row alone.
    both = (label.n_unique().over("_prompt", "id") > 1) & pl.col("id").is_not_null()
    named = both.any().over("_prompt") if rows.first.get("id") is not None else pl.lit(False)
    frame = frame.with_columns(_id=pl.when(named).then("id"))
    frame = frame.with_columns(_of=pl.concat_str(prompt, pl.col("_id").fill_null(""), separator="/"))
    unknown = pl.any_horizontal(label.is_null(), pl.col("prompt").is_null(), pl.col("text").is_null())
    # Texts that are equal before the cap, which would be filled with the same pairs.
    again = pl.col("text").is_first_distinct().over("_of", "label").not_() & ~unknown
    frame = frame.with_columns(_again=again)
    good, bad = frame.filter(label & ~unknown), frame.filter(~label & ~unknown)
    alone = pl.concat([good.join(bad, on="_of", how="anti"), bad.join(good, on="_of", how="anti")])
    alone = alone.with_columns(pl.lit(ALONE).alias(LEFT_OUT))
    repeated = pl.concat([good, bad]).filter("_again").join(alone, on=ROW, how="anti")
    repeated = repeated.with_columns(pl.lit(AGAIN).alias(LEFT_OUT))
    good, bad = good.filter(~pl.col("_again")), bad.filter(~pl.col("_again"))
    of_prompts = good.group_by("_of").agg(pl.col(ROW).min(), chosen=pl.col(ROW)).join(
        bad.group_by("_of").agg(rejected=ROW), on="_of"
    )  # fmt: skip
    places = _rows.each_with_each(of_prompts.with_columns(pl.col("chosen", "rejected").list.sort()), "_of", rows.most)
    # What stands for those that are left out has no places: it takes the first row's.
    places = places.select(LEFT_OUT, TIMES, _good=pl.coalesce("chosen", ROW), _bad="rejected")
    paired = good.rename({"text": "chosen"}).join(places, left_on=ROW, right_on="_good").join(
        bad.select(_bad=ROW, rejected="text"), on="_bad", how="left"
    )  # fmt: skip
    frame = pl.concat([paired, alone, repeated, frame.filter(unknown)], how="diagonal").sort(
        ROW, "_bad", nulls_last=True
    )
    return frame.with_columns(
        pair_id=pl.coalesce("_id", _rows.content_hash()),
        group_id=pl.when(pl.col("_id").is_null()).then("_prompt").otherwise("group_id"),
        source=pl.col("source").fill_null(rows.stem),
    )
