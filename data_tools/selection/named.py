"""Functions by name, with parameters: ``min_words:words=8``."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal, get_args, get_origin, get_type_hints

from data_tools.errors import UserError


def named(spec: str, kind: str, functions: Mapping[str, Callable], given: int) -> tuple[str, Callable]:
    """``name`` or ``name:parameter=value,…`` -> (name, function with these parameters).

    Args:
        kind: what the functions are, for errors.
        given: how many of a function's parameters, the first ones, are its data.

    Raises:
        UserError: an unknown name or parameter (lists what there is), or a value that is no number, not finite or
            below 0, or none of a parameter's names.
    """
    name, _, settings = spec.partition(":")
    if name not in functions:
        raise UserError(f"{kind} '{name}' is unknown; there are: {', '.join(functions)}")
    function = functions[name]
    known = {key: found.default for key, found in list(inspect.signature(function).parameters.items())[given:]}
    hints = get_type_hints(function)
    chosen: dict[str, Any] = {}
    for setting in filter(None, settings.split(",")):
        key, _, value = (piece.strip() for piece in setting.partition("="))
        if key not in known:
            raise UserError(f"{kind} '{name}' has no parameter '{key}'; there are: {', '.join(known) or 'none'}")
        where = f"{kind} '{name}': {key}={value} should be"
        if get_origin(hints[key]) is Literal:
            if value not in get_args(hints[key]):
                raise UserError(f"{where} one of: {', '.join(get_args(hints[key]))}")
            chosen[key] = value
            continue
        try:
            chosen[key] = type(known[key])(value)
        except ValueError:
            number = "a whole number" if isinstance(known[key], int) else "a number"
            raise UserError(f"{where} {number}, as in {key}={known[key]}") from None
        # Written so that NaN fails too: compared with it, a filter would drop everything or nothing.
        if not 0 <= chosen[key] < float("inf"):
            raise UserError(f"{where} finite and not below 0, as in {key}={known[key]}")
    return name, partial(function, **chosen)
