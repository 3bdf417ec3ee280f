"""``ingest``: raw files -> train.parquet, validation.parquet, test.parquet."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from pathlib import Path

import polars as pl
from rich.console import Console
from rich.progress import track

from data_tools import artifact, sources
from data_tools.clean import clean
from data_tools.commands._flags import max_chars, shares
from data_tools.commands._shared import at_least_one, file_names, named, nonzero, nothing_to_do, show, write_tables
from data_tools.errors import UserError
from data_tools.schema import SPLITS
from data_tools.split import sample, split
from data_tools.visible import visible

SUMMARY = "raw files -> train.parquet, validation.parquet, test.parquet"
PLACE = 10
EXAMPLES = (
    "ingest my_pairs.jsonl --out data/pairs",
    "ingest raw/ more.parquet --out data/pairs --test 0.2 --max-chars 6000",
)

# Raised when the same files and settings begin to give other tables.
INGEST_VERSION = 2
SIDES = ("prompt", "chosen", "rejected")


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "files", nargs="+", type=Path, metavar="FILE",
        help="JSON Lines (also .gz, .zst), a JSON array, CSV, Parquet, Arrow, or a folder of files of one format",
    )  # fmt: skip
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="folder for the tables and the manifest")
    parser.add_argument(
        "--format", default="auto", metavar="NAME",
        help=f"auto (by the first row, default) or one of: {', '.join(sources.formats())}",
    )  # fmt: skip
    for side in SIDES:
        parser.add_argument(f"--{side}-key", metavar="COLUMN", help=f"OpenRLHF's rows: the column of {side}")
    parser.add_argument(
        "--rows", type=int, metavar="N", help="at most N rows a split, chosen by a hash of the pair's id (default: all)"
    )
    max_chars(parser)
    shares(parser)


def run(arguments: argparse.Namespace) -> None:
    """Rows keep the split they have, others get one by a hash of the prompt; unusable rows are dropped and counted."""
    at_least_one(arguments, "rows", "max_chars")
    names = ("format", "rows", "max_chars", "validation", "test", "redo", *(f"{side}_key" for side in SIDES))
    settings = {name: getattr(arguments, name) for name in names}
    key = {
        "stage": "ingest",
        "version": INGEST_VERSION,
        # The name too: rows that name no source take it from there.
        "inputs": [[file.name, artifact.digest(file)] for given in arguments.files for file in sources.files(given)],
        **settings,
    }
    if nothing_to_do(arguments.out, key):
        return
    console = Console(stderr=True)
    reading = track(arguments.files, "reading", console=console, transient=True, disable=not console.is_terminal)
    keys = {side: name for side in SIDES if (name := getattr(arguments, f"{side}_key")) is not None}
    loaded = [sources.load(file, arguments.format, keys) for file in reading]
    raw = pl.concat(file.frame for file in loaded)
    left_out = dict(sum((Counter(file.left_out) for file in loaded), Counter()))
    table, dropped = clean(
        split(raw, validation=arguments.validation, test=arguments.test, redo=arguments.redo),
        max_chars=arguments.max_chars,
    )
    if table.is_empty():
        gone = ", ".join(f"{reason}: {n:,}" for reason, n in {**left_out, **dropped}.items() if n)
        raise UserError(
            f"{file_names(arguments.files)}: none of {raw.height + sum(left_out.values()):,} rows is left ({gone}); "
            "loosen --max-chars or use other data"
        )
    twice = table.filter(pl.col("pair_id").is_duplicated())["pair_id"].min()
    if twice is not None:
        holders = [file for file, of in zip(arguments.files, loaded, strict=True) if twice in of.frame["pair_id"]]
        raise UserError(f"{file_names(holders)}: id '{twice}' stands for different pairs; make the ids unique")
    kept = {name: table.filter(pl.col("split") == name) for name in SPLITS}
    tables = {name: sample(rows, arguments.rows or rows.height) for name, rows in kept.items() if not rows.is_empty()}
    counts = {
        "read": raw.height,
        "left_out": left_out,
        "dropped": dropped,
        "kept": {name: rows.height for name, rows in kept.items()},
        "written": {name: tables[name].height if name in tables else 0 for name in SPLITS},
    }
    write_tables(arguments.out, tables, SPLITS, key, counts=counts)
    for name in sorted({file.format for file in loaded}):
        of = [file for file, its in zip(arguments.files, loaded, strict=True) if its.format == name]
        print(f"format {name}: {visible(file_names(of))}", file=sys.stderr)
    lost = {**named(left_out, "left out: "), **nonzero(dropped, "dropped: ")}
    show("ingest", {"read": raw.height, **lost, **named(counts["written"], "written: ")})
    if missing := [name for name in SPLITS if name not in tables]:
        print(f"no rows for: {', '.join(missing)} (no such file written)")
