"""What commands share: checks of flags, writing with a manifest, and how numbers are shown."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl
from rich.console import Console
from rich.table import Table

from data_tools import artifact, lineage
from data_tools.errors import UserError
from data_tools.schema import PREFERENCE


def nothing_to_do(folder: Path, key: dict[str, Any]) -> bool:
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder}: is a file; name a folder for --out")
    if artifact.is_complete(folder, key):
        written = artifact.read_json(folder / artifact.MANIFEST).get("tables", ())
        broken = artifact.read_json(folder / artifact.MANIFEST).get("counts", {}).get("broken")
        if not all((folder / f"{name}.parquet").is_file() for name in written) or (
            broken and not (folder / "quarantine.jsonl").is_file()
        ):
            return False  # someone removed a file: all are made anew
        print(f"{folder}: already complete, nothing to do")
        return True
    return False


def write_tables(
    folder: Path,
    tables: Mapping[str, pl.DataFrame],
    names: Iterable[str],
    key: dict[str, Any],
    *,
    inputs: Iterable[str | Path] | None = None,
    **facts: Any,
) -> None:
    """Write the tables, then the manifest. A file of one of the names that is not written now would seem part of it.

    Args:
        names: of all tables that the command may write.
        key: as in :func:`artifact.is_complete`; its ``stage`` is the command.
        inputs: files that were read, for the lineage; none where the command made the rows itself.
        facts: more of the manifest.
    """
    for name in names:
        stale = folder / f"{name}.parquet"
        if name not in tables and stale.exists():
            raise UserError(
                f"{stale}: is left from another run, this one has no {name} rows; remove it or use another folder"
            )
    artifact.sweep(folder)
    for name, table in tables.items():
        artifact.write_table(table, folder / f"{name}.parquet", PREFERENCE)
    said = lineage.facts(key["stage"], inputs or (), folder)
    if inputs is None:  # not told, which is not the same as none
        del said["inputs"]
    outputs = lineage.outputs_of(folder / f"{name}.parquet" for name in tables)
    artifact.write_manifest(folder, key, tables=list(tables), outputs=outputs, **{**said, **facts})


def no_folder(file: Path) -> None:
    if file.is_dir():
        raise UserError(f"{file}: is a folder; name a file for --out")


def at_least_one(arguments: argparse.Namespace, *names: str) -> None:
    for name in names:
        value = getattr(arguments, name)
        if value is not None and value < 1:
            raise UserError(f"--{name.replace('_', '-')} {value}: must be at least 1")


def file_names(files: Sequence[Path]) -> str:
    """The files as the beginning of an error's line, however many there are."""
    return ", ".join(map(str, files[:3])) + (f" and {len(files) - 3} more" if len(files) > 3 else "")


def nonzero(counts: Mapping[str, int], prefix: str) -> dict[str, int]:
    return named({name: n for name, n in counts.items() if n}, prefix)


def named(counts: Mapping[str, int], prefix: str) -> dict[str, int]:
    return {f"{prefix}{name}": n for name, n in counts.items()}


def show(title: str, counts: Mapping[str, int]) -> None:
    table = Table("", "rows", title=title)
    table.columns[1].justify = "right"
    for name, n in counts.items():
        table.add_row(name, f"{n:,}")
    console().print(table)


def console() -> Console:
    # In a file or a pipe rich would take 80 where nothing else is said.
    return Console(width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else 160)
