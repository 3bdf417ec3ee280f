"""``stats``: tables or raw files in numbers, by source."""

from __future__ import annotations

import argparse
from pathlib import Path

import polars as pl
from rich.table import Table
from rich.text import Text

from data_tools import artifact, lineage, page, sources
from data_tools.commands._shared import console, file_names
from data_tools.errors import UserError
from data_tools.schema import PREFERENCE, SPLITS
from data_tools.stats import TOTAL, stats
from data_tools.visible import visible

SUMMARY = "tables or raw files in numbers, by source"
PLACE = 40
EXAMPLES = (
    "stats data/pairs/train.parquet",
    "stats raw.jsonl other.jsonl",
    "stats data/pairs/train.parquet --html pairs.html",
)


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="PREFERENCE parquet or raw JSON Lines")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write a page with plots and pairs to read as well")


def run(arguments: argparse.Namespace) -> None:
    """Rows, splits, labels, lengths, and the accuracy of always preferring the longer response or response A."""
    table = pl.concat([_any_preferences(file) for file in arguments.files])
    if table.is_empty():
        raise UserError(f"{file_names(arguments.files)}: the table has no rows")
    measured = stats(table)
    shown = Table(title=f"{table.height:,} pairs")
    headings = ("source", "rows", "train / validation / test", "prompts", "labels", "chars: median / 95%")
    for heading in (*headings, "longer chosen", "chosen is A"):
        left = heading in ("source", "labels")
        shown.add_column(heading, justify="left" if left else "right", overflow="fold")
    for row in measured.iter_rows(named=True):
        if row["source"] == TOTAL:
            shown.add_section()
        shown.add_row(
            Text(visible(row["source"])),  # a cell that is a string would be read as rich's markup
            f"{row['rows']:,}",
            " / ".join(f"{row[name]:,}" for name in SPLITS),
            f"{row['prompts']:,}",
            Text(visible(row["labels"])),
            f"{row['chars']:,} / {row['chars_95']:,}",
            f"{row['longer_chosen']:.0%}",
            f"{row['chosen_is_a']:.0%}",
        )
    console().print(shown)
    if arguments.html:
        counts = page.write(table.lazy(), arguments.html)
        lineage.write(arguments.html, "stats", arguments.files, {}, counts)
        print(f"page: {arguments.html}")


def _any_preferences(file: Path) -> pl.DataFrame:
    if file.suffix == ".parquet":
        return artifact.read_table(file, PREFERENCE)
    return sources.read(file)
