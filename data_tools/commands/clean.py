"""``clean``: drop unusable rows of a table and count them."""

from __future__ import annotations

import argparse
from pathlib import Path

from data_tools import artifact
from data_tools.clean import clean
from data_tools.commands._flags import max_chars
from data_tools.commands._shared import at_least_one, nonzero, show, write_table
from data_tools.errors import UserError
from data_tools.schema import PREFERENCE, check_unique_ids

SUMMARY = "drop unusable rows of a table and count them"
PLACE = 20
EXAMPLES = ("clean data/pairs.parquet --out data/clean.parquet --max-chars 6000",)


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, metavar="FILE", help="PREFERENCE parquet")
    parser.add_argument("--out", required=True, type=Path, metavar="FILE", help="parquet to write")
    max_chars(parser)


def run(arguments: argparse.Namespace) -> None:
    """Empty and identical responses, repeats, contradictions, and training rows whose prompt is held out."""
    at_least_one(arguments, "max_chars")
    raw = artifact.read_table(arguments.file, PREFERENCE)
    table, dropped = clean(raw, max_chars=arguments.max_chars)
    if table.is_empty():
        raise UserError(f"{arguments.file}: none of {raw.height:,} rows is left; loosen --max-chars or use other data")
    write_table(check_unique_ids(table, arguments.file), arguments.out, PREFERENCE)
    show("clean", {"read": raw.height, **nonzero(dropped, "dropped: "), "written": table.height})
