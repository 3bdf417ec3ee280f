"""TRL's rows with an implicit prompt: ``chosen`` and ``rejected`` are whole conversations."""

from __future__ import annotations

import polars as pl

from data_tools.exports import _rows, trl

SUMMARY = "TRL with an implicit prompt: chosen, rejected as whole conversations"
READER = "trl"
ENDINGS = trl.ENDINGS
# Our reader takes such turns for a continuation of a prompt that is not there.
UNFIT = _rows.ASSISTANT_FIRST
notes = trl.notes


def rows(frame: pl.LazyFrame) -> pl.LazyFrame:
    whole = {side: pl.concat_list("prompt", _rows.turns(side)) for side in ("chosen", "rejected")}
    return frame.select(*(column.alias(side) for side, column in whole.items()), *_rows.extras())
