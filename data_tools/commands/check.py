"""``check``: do prompts cross from split to split, or from file to file."""

from __future__ import annotations

import argparse
from pathlib import Path

import polars as pl
from rich.table import Table
from rich.text import Text

from data_tools.commands import _evaluation
from data_tools.commands._shared import console
from data_tools.crossing import overlapping_prompts, shared_prompts, sides
from data_tools.errors import UserError
from data_tools.memory import Memory, add_memory
from data_tools.visible import visible

SUMMARY = "do prompts cross from split to split, or from file to file"
PLACE = 32
EXAMPLES = (
    "check data/pairs/train.parquet data/pairs/validation.parquet data/pairs/test.parquet",
    "check train.parquet rewardbench.jsonl --near --by-file",
)
SHOWN = 160  # characters of an example


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="PREFERENCE parquet or raw")
    parser.add_argument(
        "--near", action="store_true", help="also prompts that overlap by n-grams, as decontaminate does"
    )
    parser.add_argument("--by-file", action="store_true", help="files of one split must not share a prompt either")
    _evaluation.rule(parser)
    add_memory(parser)


def run(arguments: argparse.Namespace) -> None:
    """Prompts count as the same by their text without case and repeated whitespace. Sides are the splits, over all
    files, and each file's rows that have no split. Exits with status 2 if any prompt is on two sides."""
    _evaluation.check_rule(arguments)
    memory = Memory.of(arguments.memory)
    between = sides(_evaluation.tables(arguments.files), arguments.by_file)
    if not between:
        raise UserError(f"{arguments.files[0]}: no rows to check; name tables that have some")
    found = {"the same": shared_prompts(between)}
    if arguments.near:
        rule = {"ngram": arguments.ngram, "coverage": arguments.coverage, "memory": memory}
        found[f"{arguments.ngram}-word n-grams"] = overlapping_prompts(between, **rule)
    crossing = pl.concat(table.with_columns(how=pl.lit(how)) for how, table in found.items())
    rows = pl.collect_all([table.select(pl.len()) for table in between.values()], engine="streaming")
    sizes = ", ".join(f"{visible(name)} {n.item():,}" for name, n in zip(between, rows, strict=True))
    if crossing.is_empty():
        print(f"no prompt crosses: {sizes} rows")
        return
    shown = Table(title=f"prompts that cross: {sizes} rows", title_style="")
    for heading in ("", "first side", "other side", "prompts", "rows of first", "rows of other", "for example"):
        left = heading in ("", "first side", "other side", "for example")
        shown.add_column(heading, justify="left" if left else "right", overflow="fold")
    for row in crossing.iter_rows(named=True):  # a row a pair of sides
        other = "" if row["rows_other"] is None else f"{row['rows_other']:,}"
        text = " ".join(row["example"].split())[:SHOWN]
        example = f"{row['example_one']}, {row['example_other']}: {text}"
        texts = [Text(visible(cell)) for cell in (row["how"], row["one"], row["other"])]
        shown.add_row(*texts, f"{row['prompts']:,}", f"{row['rows_one']:,}", other, Text(visible(example)))
    console().print(shown)
    worst = crossing.sort("rows_one", descending=True).row(0, named=True)
    raise UserError(
        f"{worst['rows_one']:,} rows of {worst['one']} have a prompt of {worst['other']}; "
        "drop them with clean or decontaminate, or draw the splits anew with split --redo"
    )
