"""Which files are raw ones, and what kind each is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from data_tools.errors import UserError
from data_tools.lineage import is_manifest
from data_tools.sources import _array, _jsonl
from data_tools.sources._columns import of_columns
from data_tools.sources._csv import Csv
from data_tools.sources._json_files import JsonArray, JsonLines
from data_tools.sources._raw import CHUNK, RawFile

_KINDS: dict[str, Callable[[Path, int], RawFile]] = {
    ".jsonl": JsonLines,
    ".ndjson": JsonLines,
    ".jsonl.gz": JsonLines,
    ".jsonl.zst": JsonLines,
    ".json": JsonLines,  # an array where it begins like one
    ".csv": Csv,
    ".parquet": of_columns,
    ".arrow": of_columns,
    ".ipc": of_columns,
}


def opened(path: str | Path, chunk: int = CHUNK) -> RawFile:
    """The file as what its name says; other names are JSON Lines."""
    path = Path(path)
    ending = next((ending for ending in _KINDS if path.name.lower().endswith(ending)), ".jsonl")
    if ending == ".json" and _array.begins_an_array(path):
        return JsonArray(path, chunk)
    return _KINDS[ending](path, chunk)


def passed_over(path: Path) -> list[str]:
    """Names in a folder that :func:`files` does not take and that are none of ours: subfolders, other endings."""
    if not path.is_dir():
        return []
    taken = set(files(path))
    return sorted(
        one.name for one in path.iterdir()
        if one not in taken and not one.name.startswith(".") and not is_manifest(one)
    )  # fmt: skip


def files(path: str | Path) -> list[Path]:
    """The raw files of a path: the file itself, or those that lie in the folder, by name.

    Manifests are none, nor is LLaMA-Factory's ``dataset_info.json``.

    Raises:
        UserError: nothing of that name, or a folder without such files.
    """
    path = Path(path)
    if not path.is_dir():
        return [_jsonl.existing_file(path)]
    inside = sorted(
        file for file in path.iterdir()
        if file.is_file() and not file.name.startswith(".") and file.name.lower().endswith(tuple(_KINDS))
        and not is_manifest(file) and file.name != "dataset_info.json"
    )  # fmt: skip
    if not inside:
        raise UserError(f"{path}: the folder holds no raw files; they end in {', '.join(_KINDS)}")
    return inside
