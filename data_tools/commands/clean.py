"""``clean``: drop unusable rows of a table and count them."""

from __future__ import annotations

import argparse
from pathlib import Path

import polars as pl

from data_tools import artifact, lineage, passes
from data_tools.clean import clean_file, count
from data_tools.commands._flags import max_chars
from data_tools.commands._shared import at_least_one, no_folder, nonzero, show
from data_tools.errors import UserError
from data_tools.memory import Memory, add_memory
from data_tools.schema import PREFERENCE, check_unique_ids

SUMMARY = "drop unusable rows of a table and count them"
PLACE = 20
EXAMPLES = ("clean data/pairs.parquet --out data/clean.parquet --max-chars 6000",)


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, metavar="FILE", help="PREFERENCE parquet")
    parser.add_argument("--out", required=True, type=Path, metavar="FILE", help="parquet to write")
    max_chars(parser)
    add_memory(parser)


def run(arguments: argparse.Namespace) -> None:
    """Empty and identical responses, repeats, contradictions, and training rows whose prompt is held out."""
    at_least_one(arguments, "max_chars")
    no_folder(arguments.out)
    memory = Memory.of(arguments.memory)
    table = artifact.scan_tables([arguments.file], PREFERENCE)
    with passes.scratch(arguments.out.parent) as temporary:
        reason = clean_file(table, temporary, max_chars=arguments.max_chars, at_once=memory.rows)
    kept = int(reason.null_count())
    if not kept:
        raise UserError(f"{arguments.file}: none of {len(reason):,} rows is left; loosen --max-chars or use other data")
    ids = table.select("pair_id").collect(engine="streaming").filter(reason.is_null())
    check_unique_ids(ids, arguments.file)
    passes.write(table, reason.to_frame(), {arguments.out: pl.col("reason").is_null()})
    dropped = count(reason)
    counts = {"read": len(reason), **nonzero(dropped, "dropped: "), "written": kept}
    lineage.write(arguments.out, "clean", [arguments.file], {"max_chars": arguments.max_chars}, counts)
    show("clean", counts)
