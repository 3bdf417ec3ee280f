"""Tables or raw files as one query, for commands that only look at them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from data_tools import artifact, sources
from data_tools.commands._shared import file_names
from data_tools.errors import UserError
from data_tools.schema import PREFERENCE


def preferences(files: Sequence[Path]) -> pl.LazyFrame:
    """The rows of PREFERENCE parquet tables, which are streamed, and of raw files, which are read whole.

    Raises:
        UserError: what is wrong with a file; no rows in all of them.
    """
    tables = [file for file in files if is_table(file)]
    parts = [artifact.scan_tables(tables, PREFERENCE)] if tables else []
    parts += [sources.read(file).lazy() for file in files if file not in tables]
    table = pl.concat(parts)
    if not table.select(pl.len()).collect(engine="streaming").item():
        raise UserError(f"{file_names(files)}: the table has no rows")
    return table


def is_table(file: Path) -> bool:
    """Whether a file is a table of this project, or none that can be read: not a raw one, which may be Parquet too."""
    if file.suffix.lower() != ".parquet":
        return False
    try:
        return "pair_id" in pl.read_parquet_schema(file)
    except (pl.exceptions.PolarsError, OSError):
        return True  # what is wrong with it is told by whoever reads tables
