"""``export``: a table -> the rows that another trainer reads."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from data_tools import artifact, lineage
from data_tools.commands._shared import named, show
from data_tools.exports import export, formats
from data_tools.schema import PREFERENCE, check_unique_ids

SUMMARY = "a table -> the rows that another trainer reads"
PLACE = 36
EXAMPLES = (
    "export data/pairs/train.parquet --to trl --out train.jsonl",
    "export data/pairs/train.parquet --to llama-factory --out llama_factory/data/mine.jsonl",
    "export data/mixed.parquet --to datasets --out hub/mine",
)


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, metavar="FILE", help="PREFERENCE parquet")
    there = "; ".join(f"{name}: {module.SUMMARY}" for name, module in formats().items())
    parser.add_argument("--to", required=True, metavar="FORMAT", help=there)
    parser.add_argument(
        "--out", required=True, type=Path, metavar="PATH",
        help="file to write, .jsonl, for some formats also .jsonl.gz, .jsonl.zst or .parquet; of datasets a folder",
    )  # fmt: skip


def run(arguments: argparse.Namespace) -> None:
    """What a format has no key for stands in keys of its own, so ingest makes the same table of it again. Pairs that a
    format cannot hold, and those that its trainer would skip, are left out and counted."""
    table = artifact.scan_tables([arguments.file], PREFERENCE)
    check_unique_ids(table.select("pair_id").collect(engine="streaming"), arguments.file)
    done = export(table, arguments.to, arguments.out)
    counts = {"written": done.pairs, "left_out": done.left_out}
    lineage.write(arguments.out, "export", [arguments.file], {"to": arguments.to}, counts)
    read = done.pairs + sum(done.left_out.values())
    show("export", {"read": read, **named(done.left_out, "left out: "), "written": done.pairs})
    for note in done.notes:
        print(note, file=sys.stderr)
    for file in done.files:
        print(f"also written: {file}")
