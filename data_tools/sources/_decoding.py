"""A chunk of raw rows as raw columns, without the rows that cannot be."""

from __future__ import annotations

import polars as pl

from data_tools.sources import _broken
from data_tools.sources._broken import Broken
from data_tools.sources._raw import RawFile

_BY_HAND = 64  # rows in which a broken one is looked for one by one


def decoded(file: RawFile, chunk: pl.DataFrame, schema: pl.Schema) -> tuple[pl.DataFrame, list[Broken]]:
    """(``ROW`` and the raw columns of the rows that can be read, the others), both in the order of the file.

    The chunk is parsed at once. Where that fails it is halved until few rows are left, which are looked at one by one:
    a broken row costs a few milliseconds, and a chunk without one nothing.
    """
    broken = _explained(file, file.suspects(chunk, schema), schema)
    good = _halved(file, _without(chunk, broken), schema, broken)
    return pl.concat(good) if good else file.decode(chunk.clear(), schema), sorted(broken, key=lambda b: b.row)


def _explained(file: RawFile, chunk: pl.DataFrame, schema: pl.Schema) -> list[Broken]:
    return [broken for row in chunk.iter_rows(named=True) if (broken := file.explain(row, schema))]


def _without(chunk: pl.DataFrame, broken: list[Broken]) -> pl.DataFrame:
    return chunk.filter(~pl.col("number").is_in([b.row for b in broken])) if broken else chunk


def _halved(file: RawFile, chunk: pl.DataFrame, schema: pl.Schema, broken: list[Broken]) -> list[pl.DataFrame]:
    """The chunk in pieces that could be read; what could not goes into ``broken``."""
    if chunk.is_empty():
        return []
    try:
        return [file.decode(chunk, schema)]
    except pl.exceptions.PolarsError as error:
        reason = str(error).partition("\n")[0][:200]
    if chunk.height <= _BY_HAND and (found := _explained(file, chunk, schema)):
        broken += found
        return _halved(file, _without(chunk, found), schema, broken)
    if chunk.height == 1:  # nothing is wrong with it that we know of
        number = chunk["number"][0]
        said = f"{file.place(number)} cannot be read ({reason})"
        broken.append(Broken(number, _broken.UNREADABLE, said, chunk["line"][0] if "line" in chunk.columns else None))
        return []
    half = chunk.height // 2
    return _halved(file, chunk[:half], schema, broken) + _halved(file, chunk[half:], schema, broken)
