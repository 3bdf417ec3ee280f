"""``split``: label rows train, validation or test by a hash of the prompt."""

from __future__ import annotations

import argparse
from pathlib import Path

from data_tools import artifact, lineage
from data_tools.commands._flags import shares
from data_tools.commands._shared import show, write_table
from data_tools.schema import PREFERENCE, SPLITS
from data_tools.split import conflicting_prompts, split

SUMMARY = "label rows train, validation or test by a hash of the prompt"
PLACE = 30
EXAMPLES = ("split data/pairs.parquet --out data/split.parquet --test 0.2",)


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, metavar="FILE", help="PREFERENCE parquet")
    parser.add_argument("--out", required=True, type=Path, metavar="FILE", help="parquet to write")
    shares(parser)


def run(arguments: argparse.Namespace) -> None:
    """Rows that have a label keep it unless --redo is given; the others of a prompt go to one side together."""
    lineage.begin([arguments.file])
    raw = artifact.read_table(arguments.file, PREFERENCE)
    table = split(raw, validation=arguments.validation, test=arguments.test, redo=arguments.redo, where=arguments.file)
    write_table(table, arguments.out, PREFERENCE)
    rows = {name: int((table["split"] == name).sum()) for name in SPLITS}
    settings = {name: getattr(arguments, name) for name in ("validation", "test", "redo")}
    counts = {"read": raw.height, "written": rows}
    lineage.write(arguments.out, "split", [arguments.file], settings, counts)
    show("split", rows)
    if n := conflicting_prompts(table):
        print(
            f"on more than one side: {n:,} prompts, whose labels in {arguments.file} disagree; "
            "clean drops such rows from training, --redo draws all anew"
        )
