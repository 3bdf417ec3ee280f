"""Which format a raw file has, by the keys of its first row."""

from __future__ import annotations

import pkgutil
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from data_tools.errors import UserError
from data_tools.schema import PREFERENCE
from data_tools.sources import _files, openrlhf
from data_tools.sources._raw import RawFile


def formats() -> dict[str, ModuleType]:
    """The raw formats there are, by name."""
    names = sorted(
        found.name for found in pkgutil.iter_modules([str(Path(__file__).parent)]) if not found.name.startswith("_")
    )
    return {name: import_module(f"{__package__}.{name}") for name in names}


def format_of(path: str | Path, name: str = "auto") -> ModuleType:
    """The format of that name, or the one that the file's first row shows.

    Raises:
        UserError: an unknown name, or a first row that fits no format, or several that are no special case of one
            another; says what was found, and what there is.
    """
    return recognised(_files.opened(path), name)[1]


def recognised(file: RawFile, name: str, keys: Mapping[str, str] | None = None) -> tuple[str, Any]:
    """(name, module) of a file's format; arguments and what raises as of :class:`~._reading.Reading`."""
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
