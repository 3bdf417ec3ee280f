"""Raw preference files: one small module per format, found by its presence in this folder.

A format is a module with

    KEYS          the keys that every row of the format has
    fits(first)   optional: whether the shapes of a first row that has them are the format's
    schema(first) the raw columns as a polars schema of String, Float64, Boolean, and lists and structs of these, given
                  the first row
    pairs(rows)   a query of PREFERENCE (schema.py) over the raw columns (_rows.py), as far as the format knows it; a
                  value that cannot be made is null. It keeps ROW, and says in LEFT_OUT why a comparison is no pair
    REMEDY        optional: {PREFERENCE column: what to say where it is null, or a margin out of range}
    NEEDS         optional: KEYS in words, where they do not say all

Nothing else has to be touched to add one. A first row that fits several is of the one whose keys include the others'.
``load`` runs the query and, only if it failed, looks for the row.
"""

from __future__ import annotations

import pkgutil
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import polars as pl

from data_tools.errors import UserError
from data_tools.schema import PREFERENCE, ROLES, SPLITS, check, conform
from data_tools.sources import _files, openrlhf
from data_tools.sources._files import files as files
from data_tools.sources._rows import LEFT_OUT, ROW, Rows

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


@dataclass(frozen=True)
class Loaded:
    """A raw file as a table.

    Attributes:
        frame: PREFERENCE, rows in the file's order, checked.
        format: the format's name.
        left_out: reason -> comparisons that are no pair (a tie, say), where there are any.
    """

    frame: pl.DataFrame
    format: str
    left_out: dict[str, int]


def formats() -> dict[str, ModuleType]:
    """The raw formats there are, by name."""
    names = sorted(found.name for found in pkgutil.iter_modules(__path__) if not found.name.startswith("_"))
    return {name: import_module(f"{__name__}.{name}") for name in names}


def format_of(path: str | Path, name: str = "auto") -> ModuleType:
    """The format of that name, or the one that the file's first row shows.

    Raises:
        UserError: an unknown name, or a first row that fits no format, or several that are no special case of one
            another; says what was found, and what there is.
    """
    return _format(_files.opened(path), name)[1]


def _format(file: _files.RawFile, name: str, keys: Mapping[str, str] | None = None) -> tuple[str, ModuleType]:
    known = formats()
    if keys:
        if name not in ("auto", "openrlhf"):
            raise UserError(f"format '{name}' has names for its columns; leave out the keys, or name openrlhf")
        name = "openrlhf"
    if name != "auto" and name not in known:
        raise UserError(f"format '{name}' is unknown; there are: auto, {', '.join(known)}")
    first = file.first()
    if first.keys() >= PREFERENCE.keys():
        raise UserError(f"{file.path}: is a table already ingested; use clean or split")
    found = ", ".join(map(str, first)) or "nothing"
    if name != "auto" or keys:
        module = openrlhf.Named(**keys) if keys else known[name]
        if not all(key in first for key in module.KEYS):
            raise UserError(f"{file.path}: the first row has {found}; format {name} needs {_needs(module)}")
        return name, module
    fitting = {name: set(module.KEYS) for name, module in known.items() if _fits(module, first)}
    special = [name for name, keys in fitting.items() if not any(keys < others for others in fitting.values())]
    if len(special) == 1:
        return special[0], known[special[0]]
    if special:
        raise UserError(
            f"{file.path}: the first row has {found}, and fits several formats: {', '.join(special)}; "
            "say which with --format"
        )
    there = "; ".join(f"{name} ({_needs(module)})" for name, module in known.items())
    raise UserError(
        f"{file.path}: the first row has {found}, which fits no known format; rename its keys, or name with --format "
        f"one of: {there}"
    )


def _needs(module: ModuleType) -> str:
    return getattr(module, "NEEDS", ", ".join(module.KEYS))


def _fits(module: ModuleType, first: dict[str, Any]) -> bool:
    fits = getattr(module, "fits", None)
    return all(key in first for key in module.KEYS) and (fits is None or fits(first))


def scan(path: str | Path, format: str = "auto") -> pl.LazyFrame:
    """A query of PREFERENCE over one raw file, and of ``LEFT_OUT``; nothing is checked but the first row.

    Raises:
        UserError: as :func:`format_of`.
    """
    file = _files.opened(path)
    return _query(file, _format(file, format)[1]).drop(ROW)


def _query(file: _files.RawFile, module: ModuleType) -> pl.LazyFrame:
    first = file.first()
    rows = Rows(file.scan(module.schema(first)), first, file.path.name.split(".")[0])
    return conform(module.pairs(rows), pl.Schema({**PREFERENCE, ROW: pl.UInt32, LEFT_OUT: pl.String}))


def read(path: str | Path, format: str = "auto") -> pl.DataFrame:
    """The table of :func:`load`."""
    return load(path, format).frame


def load(path: str | Path, format: str = "auto", keys: Mapping[str, str] | None = None) -> Loaded:
    """A raw file, or a folder of raw files of one format, as a checked PREFERENCE table.

    Args:
        keys: the columns' names under OpenRLHF, for ``prompt``, ``chosen`` and ``rejected`` or some of them.

    Raises:
        UserError: a missing or empty file, a broken line, a missing key, a value of the wrong kind, a folder of
            several formats; one line that names the file and the line.
    """
    if not Path(path).is_dir():
        return _load(path, format, keys)
    inside = {file.name: _load(file, format, keys) for file in files(path)}
    example = {loaded.format: file for file, loaded in inside.items()}
    if len(example) > 1:
        found = ", ".join(f"{name} ({file})" for name, file in example.items())
        raise UserError(f"{path}: the folder holds files of several formats: {found}; ingest them apart")
    left_out: Counter[str] = Counter()
    for loaded in inside.values():
        left_out.update(loaded.left_out)
    return Loaded(pl.concat(loaded.frame for loaded in inside.values()), *example, dict(left_out))


def _load(path: str | Path, format: str, keys: Mapping[str, str] | None) -> Loaded:
    file = _files.opened(path)
    name, module = _format(file, format, keys)
    schema = module.schema(file.first())
    try:
        frame = _query(file, module).collect()
    except (pl.exceptions.PolarsError, OSError) as error:
        reason = str(error).partition("\n")[0]
        raise file.broken(schema) or UserError(f"{path}: cannot be read ({reason})") from None
    if error := file.altered(schema):
        raise error
    left_out = frame.filter(pl.col(LEFT_OUT).is_not_null())[LEFT_OUT].value_counts().sort(LEFT_OUT)
    frame = frame.filter(pl.col(LEFT_OUT).is_null())
    flags = frame.select(bad.fill_null(False).alias(str(i)) for i, (_, bad, _) in enumerate(_CHECKS))
    found = [(flags[str(i)].arg_max(), i) for i in range(len(_CHECKS)) if flags[str(i)].any()]
    if found:
        row, i = min(found)
        column, _, message = _CHECKS[i]
        if frame[column][row] is None or column == "margin":  # which a format may compute
            message = getattr(module, "REMEDY", {}).get(column, message)
        place = file.place(frame[ROW][row])
        raise UserError(f"{path}: {place}: {message.replace('{}', str(frame[column][row]))}")
    return Loaded(check(frame.select(list(PREFERENCE)), PREFERENCE, path), name, dict(left_out.iter_rows()))
