"""Where a table came from: each output of a command has a manifest beside it, and a manifest names its inputs.

A folder of tables has ``manifest.json`` in it, a single file ``NAME.manifest.json`` beside it. Inputs stand there with
their digests, so the way back to the raw files can be walked, and a file that was changed since is noticed.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import polars as pl

from data_tools import artifact

SUFFIX = ".manifest.json"


def manifest_of(file: str | Path) -> Path:
    """Where the manifest of a single output file stands: ``pairs.parquet`` -> ``pairs.parquet.manifest.json``."""
    file = Path(file)
    return file.with_name(file.name + SUFFIX)


def inputs(files: Iterable[str | Path], out: str | Path) -> list[dict[str, Any]]:
    """Files that are read: each named from the folder ``out`` that the manifest stands in, with digest and bytes.

    Raises:
        UserError: a file that is not there.
    """
    return [
        {"file": os.path.relpath(file, out), "digest": artifact.digest(file), "bytes": Path(file).stat().st_size}
        for file in files
    ]


def facts(command: str, inputs: list[dict[str, Any]]) -> dict[str, Any]:
    """What every manifest says of its making; ``inputs`` of :func:`inputs`."""
    return {"command": command, "inputs": inputs, "versions": versions()}


def write(
    file: str | Path,
    command: str,
    files: Iterable[str | Path],
    settings: Mapping[str, Any],
    counts: Mapping[str, Any],
) -> None:
    """Write the manifest of a single output file, which is complete: the file's own digest stands in it, too.

    Args:
        files: that were read.
        settings: of the command, as JSON values.
        counts: rows in and out, and what was left out by reason.
    """
    file = Path(file)
    said = facts(command, inputs(files, file.parent))
    said |= {"settings": dict(settings), "counts": dict(counts), "digest": artifact.digest(file)}
    artifact.write_json(manifest_of(file), said)


def versions() -> dict[str, str]:
    """Of this package and of polars."""
    try:
        own = version("genrm-lightning")
    except PackageNotFoundError:  # a checkout that is not installed
        own = "unknown"
    return {"genrm-lightning": own, "polars": pl.__version__}
