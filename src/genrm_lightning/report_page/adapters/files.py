"""What the adapters share: JSON that has the keys it should, and text of settings."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data_tools.artifact import MANIFEST, read_json
from data_tools.errors import UserError

_LONGEST = 300  # characters of a setting


def mapping(path: Path, *keys: str) -> dict[str, Any]:
    """A file's JSON object.

    Raises:
        UserError: no such file, no JSON, no object, or one of the keys is missing.
    """
    found = read_json(path)
    if not isinstance(found, dict):
        raise UserError(f"{path}: is no JSON object; write it anew with the command that made it")
    if missing := [key for key in keys if key not in found]:
        raise UserError(f"{path}: key '{missing[0]}' is missing; write it anew with the command that made it")
    return found


def inside(value: Any, where: str, kind: type = dict) -> Any:
    """A part of a JSON file that should be an object (or a list)."""
    if not isinstance(value, kind):
        name = {dict: "object", list: "list", str: "text"}[kind]
        raise UserError(f"{where}: is no JSON {name}; write the file anew with the command that made it")
    return value


def below(folder: Path, name: Any, where: str) -> Path:
    """A path in a run's folder, named in one of its files.

    Raises:
        UserError: it leads out of the folder: a file of somebody else names no files of ours.
    """
    path = folder / inside(name, where, str)
    try:
        inner = path.resolve().is_relative_to(folder.resolve())
    except ValueError:  # a NUL, or half a character
        raise UserError(f"{where}: is no name of a folder; write the file anew with the command that made it") from None
    if not inner:
        raise UserError(f"{where}: '{name}' leads out of {folder}; name a folder below it")
    return path


def stage(folder: Path) -> dict[str, Any]:
    """The manifest of a stage; empty where there is none."""
    path = folder / MANIFEST
    return mapping(path) if path.exists() else {}


def words(value: Any) -> str:
    """A setting as short text."""
    if isinstance(value, Mapping):
        text = ", ".join(f"{key} {words(one)}" for key, one in value.items() if one not in (None, {}, []))
    elif isinstance(value, list | tuple):
        text = ", ".join(map(words, value))
    else:
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def number(value: Any) -> float | None:
    """A finite number, else None."""
    usable = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < float("inf")
    return float(value) if usable else None
