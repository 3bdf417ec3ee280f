"""JSON values beside the raw columns' types: what does not fit, in words."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import polars as pl

from data_tools.schema import MESSAGES

_SURROGATE = re.compile("[\ud800-\udfff]")  # what Python's parser makes of half a pair; a whole one is a character
_SCALARS = {pl.String: "a string", pl.Float64: "a number", pl.Boolean: "true or false"}


def misfit(row: dict[str, Any], schema: pl.Schema) -> str | None:
    """What of a row does not fit the raw schema, in words; None where everything does."""
    for key, dtype in schema.items():
        value = row.get(key)
        if value is not None and not _fits(value, dtype):
            return f"key '{key}' should be {kind(dtype)}, found {_describe(value)}"
    return None


def _fits(value: Any, dtype: pl.DataType) -> bool:
    if dtype == pl.String:  # numbers too: ids often are
        return isinstance(value, str | int | float) and not isinstance(value, bool)
    if dtype == pl.Float64:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if dtype == pl.Boolean:
        return isinstance(value, bool)
    if dtype == MESSAGES:
        return isinstance(value, list) and all(
            isinstance(turn, dict) and isinstance(turn.get("role"), str) and isinstance(turn.get("content"), str)
            for turn in value
        )
    if isinstance(dtype, pl.List):
        return isinstance(value, list) and all(item is None or _fits(item, dtype.inner) for item in value)
    found = value if isinstance(value, dict) else None
    return found is not None and all(
        found.get(field.name) is None or _fits(found[field.name], field.dtype) for field in dtype.fields
    )


def kind(dtype: pl.DataType) -> str:
    """A raw column's type in words."""
    if dtype == MESSAGES:
        return 'a list of {"role", "content"} turns'
    if isinstance(dtype, pl.List):
        return "a list of strings" if dtype.inner == pl.String else f"a list of {_object(dtype.inner)}"
    return f"an object {_object(dtype)}" if isinstance(dtype, pl.Struct) else _SCALARS[dtype]


def _object(dtype: pl.DataType) -> str:
    return f"{{{', '.join(json.dumps(field.name) for field in dtype.fields)}}}" if isinstance(dtype, pl.Struct) else "…"


def _describe(value: Any) -> str:
    try:
        text = json.dumps(value, ensure_ascii=False)
    except RecursionError:
        return "many nested ones"
    return text if len(text) <= 40 else text[:37] + "..."


def leaves(dtype: pl.DataType, name: str) -> Iterator[tuple[str, bool]]:
    """(name, is it a list of them?) of each string and number in a raw column of that type and name."""
    if dtype in (pl.String, pl.Float64):
        yield name, False
    elif isinstance(dtype, pl.List) and not dtype.inner.is_nested():
        yield name, True
    elif isinstance(dtype, pl.List):
        yield from leaves(dtype.inner, name)
    elif isinstance(dtype, pl.Struct):
        for field in dtype.fields:
            yield from leaves(field.dtype, field.name)


def has_surrogate(value: Any) -> bool:
    """Whether a text in a JSON value holds half a surrogate pair, which no UTF-8 can."""
    return _SURROGATE.search(json.dumps(value, ensure_ascii=False)) is not None


def half_a_character(place: str) -> str:
    """What to say of such a text, beginning with its place."""
    return (
        f"{place} holds half a character (an escape \\ud800 to \\udfff without its other half); "
        "write the whole character or remove it"
    )


def is_out_of_range(value: Any) -> bool:
    """Whether a JSON value is, or holds, a number that no float can be."""
    if isinstance(value, list | dict):
        return any(map(is_out_of_range, value.values() if isinstance(value, dict) else value))
    try:
        return isinstance(value, int | float) and abs(float(value)) == float("inf")
    except OverflowError:
        return True
