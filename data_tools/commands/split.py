"""``split``: label rows train, validation or test by a hash of the prompt."""

from __future__ import annotations

import argparse
from pathlib import Path

import polars as pl

from data_tools import artifact, lineage, passes
from data_tools.commands._flags import shares
from data_tools.commands._shared import no_folder, show
from data_tools.memory import Memory, add_memory
from data_tools.schema import PREFERENCE, SPLITS
from data_tools.split import check_labels, check_shares, decide_split, split_columns

SUMMARY = "label rows train, validation or test by a hash of the prompt"
PLACE = 30
EXAMPLES = ("split data/pairs.parquet --out data/split.parquet --test 0.2",)


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, metavar="FILE", help="PREFERENCE parquet")
    parser.add_argument("--out", required=True, type=Path, metavar="FILE", help="parquet to write")
    shares(parser)
    add_memory(parser)


def run(arguments: argparse.Namespace) -> None:
    """Rows that have a label keep it unless --redo is given; the others of a prompt go to one side together."""
    names = ("validation", "test", "redo")
    settings = {name: getattr(arguments, name) for name in names}
    check_shares(arguments.validation, arguments.test)
    no_folder(arguments.out)
    memory = Memory.of(arguments.memory)
    table = artifact.scan_tables([arguments.file], PREFERENCE)
    if not arguments.redo:
        check_labels(table, arguments.file)
    with passes.scratch(arguments.out.parent) as temporary:
        narrow = passes.narrowed(table, split_columns(**settings), temporary)
        found = passes.decided([narrow], decide_split, memory.rows)
    beside = found.select(_split="split")
    passes.write(table, beside, {arguments.out: pl.lit(True)}, {"split": pl.col("_split")})
    counts = {name: int((found["split"] == name).sum()) for name in SPLITS}
    lineage.write(arguments.out, "split", [arguments.file], settings, counts)
    show("split", counts)
    if n := int(found["_crosses"].sum()):
        print(
            f"on more than one side: {n:,} prompts, whose labels in {arguments.file} disagree; "
            "clean drops such rows from training, --redo draws all anew"
        )
