"""Raw preference files: one small module per format, found by its presence in this folder.

A format is a module with

    KEYS          the keys that every row of the format has; the format with the most of them in the first row is
                  taken by ``--format auto``
    schema(first) the raw columns as a polars schema of String, Float64 and MESSAGES, given the first row
    scan(path)    a query of PREFERENCE (schema.py) over the file, rows in the file's order; a value that cannot be
                  made is null
    REMEDY        optional: {PREFERENCE column: what to say where it is null}

Nothing else has to be touched to add one. ``read`` runs the query and, only if it failed, looks for the line.
"""

from __future__ import annotations

import pkgutil
from importlib import import_module
from pathlib import Path
from types import ModuleType

import polars as pl

from data_tools.errors import UserError
from data_tools.schema import PREFERENCE, ROLES, SPLITS, check
from data_tools.sources import _jsonl
from data_tools.sources._jsonl import existing as existing

_role = pl.element().struct.field("role")
_content = pl.element().struct.field("content")
# (is a row bad?, what to say): over the whole table at once; {…} is filled with the bad row's value.
_CHECKS: list[tuple[str, pl.Expr, str]] = [
    *(
        (column, pl.col(column).is_null(), f"key '{column}' is missing or null")
        # The responses before the prompt: a format may take the prompt from them.
        for column in ("pair_id", "source", "chosen", "rejected", "prompt")
    ),
    (
        "prompt",
        pl.col("prompt").list.eval(_role.is_null() | _content.is_null()).list.any(),
        "a turn of 'prompt' lacks 'role' or 'content'",
    ),
    (
        "prompt",
        ~pl.col("prompt").list.eval(_role.is_in(ROLES)).list.all(),
        f"a turn of 'prompt' has an unknown role; there are: {', '.join(ROLES)}",
    ),
    (
        "prompt",
        pl.col("prompt").list.last().struct.field("role") != "user",
        "the last turn of 'prompt' should be the user's; leave the response out of it",
    ),
    (
        "margin",
        ~((pl.col("margin") > 0) & (pl.col("margin") <= 1)),
        "margin is {}, it should be above 0 and at most 1, or null where unknown",
    ),
    ("split", ~pl.col("split").is_in(SPLITS), f"split is '{{}}'; there are: {', '.join(SPLITS)}"),
]


def formats() -> dict[str, ModuleType]:
    """The raw formats there are, by name."""
    names = sorted(found.name for found in pkgutil.iter_modules(__path__) if not found.name.startswith("_"))
    return {name: import_module(f"{__name__}.{name}") for name in names}


def format_of(path: str | Path, name: str = "auto") -> ModuleType:
    """The format of that name, or the one that the file's first row shows.

    Raises:
        UserError: an unknown name (lists the names), or a first row that fits no format (says what each misses).
    """
    known = formats()
    if name != "auto":
        if name not in known:
            raise UserError(f"format '{name}' is unknown; there are: auto, {', '.join(known)}")
        return known[name]
    first = _jsonl.first_row(path)
    missing = {name: [key for key in module.KEYS if key not in first] for name, module in known.items()}
    fitting = [name for name in known if not missing[name]]
    if not fitting:
        lacks = "; ".join(f"{name} lacks {', '.join(keys)}" for name, keys in missing.items())
        raise UserError(f"{path}: the first row fits no known format ({lacks}); rename its keys")
    return known[max(fitting, key=lambda name: len(known[name].KEYS))]


def read(path: str | Path, format: str = "auto") -> pl.DataFrame:
    """One raw file as a checked PREFERENCE table, rows in the file's order.

    Raises:
        UserError: a missing or empty file, a broken line, a missing key, a value of the wrong kind; one line that
            names the file and the line.
    """
    module = format_of(path, format)
    schema = module.schema(_jsonl.first_row(path))
    try:
        frame = module.scan(path).collect()
    except (pl.exceptions.PolarsError, OSError) as error:
        reason = str(error).partition("\n")[0]
        raise _jsonl.find_broken(path, schema) or UserError(f"{path}: cannot be read ({reason})") from None
    if error := _jsonl.find_stringified(path, schema) or _jsonl.find_surrogate(path, schema):
        raise error
    flags = frame.select(bad.fill_null(False).alias(str(i)) for i, (_, bad, _) in enumerate(_CHECKS))
    found = [(flags[str(i)].arg_max(), i) for i in range(len(_CHECKS)) if flags[str(i)].any()]
    if found:
        row, i = min(found)
        column, _, message = _CHECKS[i]
        if frame[column][row] is None:
            message = getattr(module, "REMEDY", {}).get(column, message)
        raise UserError(
            f"{path}: line {_jsonl.line_number(path, row)}: {message.replace('{}', str(frame[column][row]))}"
        )
    return check(frame, PREFERENCE, path)
