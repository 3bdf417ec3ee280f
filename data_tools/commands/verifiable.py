"""``verifiable``: the embedded pairs, whose better answer is known by construction."""

from __future__ import annotations

import argparse
from pathlib import Path

from data_tools.commands._shared import nothing_to_do, show, write_tables

SUMMARY = "the embedded pairs, whose better answer is known by construction"
PLACE = 70
EXAMPLES = ("verifiable --rows 600 --seed 11 --levels 1 2 --out data/verifiable",)


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rows", required=True, type=int, metavar="N", help="training pairs")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="of the draw (default 0)")
    parser.add_argument(
        "--test-rows", type=int, default=200, metavar="M", help="pairs in each of the two test sets (default 200)"
    )
    parser.add_argument(
        "--levels", type=int, nargs="+", default=[1, 2, 3], metavar="L", help="of difficulty, 1 easy (default 1 2 3)"
    )
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="folder for the tables and the manifest")


def run(arguments: argparse.Namespace) -> None:
    """Writes train, validation, test (the same kinds of task) and ood (kinds held out of training)."""
    from data_tools import verifiable

    key = {
        "stage": "verifiable",
        **{name: getattr(arguments, name) for name in ("rows", "seed", "test_rows", "levels")},
    }
    key["generator"] = verifiable.VERSION
    tables = verifiable.build(arguments.rows, arguments.seed, arguments.test_rows, arguments.levels)
    if nothing_to_do(arguments.out, key):
        return
    rows = {name: table.height for name, table in tables.items()}
    write_tables(arguments.out, tables, tables, key, inputs=(), counts={"written": rows})
    show("verifiable", rows)
