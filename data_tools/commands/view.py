"""``view``: pairs to read, side by side, in a terminal or as a page."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from rich.console import RenderableType

from data_tools import lineage, page
from data_tools.commands._shared import at_least_one, console
from data_tools.errors import UserError
from data_tools.view import keys, pager
from data_tools.view.judged import Judgments
from data_tools.view.rows import COLUMNS, SORTS, Choice, Pairs, opened
from data_tools.view.shown import pair

SUMMARY = "read pairs side by side, with their differences marked"
PLACE = 41
EXAMPLES = (
    "view data/pairs/train.parquet",
    "view raw.jsonl --where source=hh-helpful-base --where category=chat --search thanksgiving",
    "view data/pairs/test.parquet --sort length_difference --judgments runs/evaluate --number 20 | less",
    "view data/pairs/train.parquet --html pairs.html --number 200",
)
PIPED, ON_PAGE = 10, 50  # pairs, unless --number says otherwise


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, metavar="FILE", help="PREFERENCE parquet, a raw file, or a folder of either")
    parser.add_argument("--id", metavar="PAIR_ID", help="only this pair")
    parser.add_argument(
        "--where", action="append", default=[], metavar="COLUMN=VALUE",
        help=f"only rows with this value; of {', '.join(COLUMNS)}; may be repeated: values of one column add up, "
        "columns narrow down; without a value: where it is unknown",
    )  # fmt: skip
    parser.add_argument("--search", metavar="TEXT", help="only rows with this text in them, letter case aside")
    parser.add_argument("--sort", choices=SORTS, help="the largest first; length_difference is chosen minus rejected")
    parser.add_argument("--reverse", action="store_true", help="the other way round")
    parser.add_argument("--seed", type=int, default=0, help="of --sort random (default 0)")
    parser.add_argument(
        "--number", type=int, metavar="N",
        help=f"at most so many pairs (default: all in a terminal, {PIPED} in a pipe, {ON_PAGE} on a page)",
    )  # fmt: skip
    parser.add_argument(
        "--judgments",
        type=Path,
        metavar="PATH",
        help="JUDGMENT parquet or a folder of it: only pairs with judgments, which are shown beneath",
    )
    parser.add_argument("--html", type=Path, metavar="FILE", help="write a page instead: numbers, plots and pairs")


def run(arguments: argparse.Namespace) -> None:
    """In a terminal: n or space goes on, p back, a number and Enter to a pair, / searches, q leaves. In a pipe the
    first pairs are printed, with {+words+} that only the chosen response has and [-words-] that only the rejected one
    has. Texts with few words in common are not marked. With --html the numbers are of all rows that fit; the pairs
    are the first ones if --sort is given, else a sample that takes from every source in turn."""
    at_least_one(arguments, "number")
    for name in ("seed", "number"):
        if not 0 <= (getattr(arguments, name) or 0) < 2**31:
            raise UserError(f"--{name} {getattr(arguments, name)}: must be from 0 to {2**31 - 1:,}")
    judgments = Judgments(arguments.judgments) if arguments.judgments else None
    choice = Choice(
        pair_id=arguments.id,
        among=judgments.pairs() if judgments else None,
        where=_where(arguments.where),
        search=arguments.search,
        sort=arguments.sort,
        reverse=arguments.reverse,
        seed=arguments.seed,
    )
    interactive = not arguments.html and sys.stdin.isatty() and sys.stdout.isatty()
    default = ON_PAGE if arguments.html else None if interactive else PIPED
    pairs = Pairs(opened(arguments.file), choice, arguments.number or default)
    if arguments.html:
        _page(arguments, pairs, judgments)
        return
    out = console()

    def render(row: dict[str, Any], heading: str, width: int) -> RenderableType:
        said = judgments.of([row["pair_id"]]).get(row["pair_id"], []) if judgments else []
        return pair(row, heading, said, width=width, plain=not out.is_terminal or out.no_color)

    if interactive:
        (pager.run if keys.available() else pager.run_by_lines)(pairs, render, out)
        return
    for i in range(arguments.number or PIPED):
        if (row := pairs.get(i)) is None:
            break
        out.print(render(row, f"{i + 1:,}", out.width), "")


def _where(given: list[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for one in given:
        column, equals, value = one.partition("=")
        if not equals or column not in COLUMNS:
            raise UserError(f"--where {one}: should be COLUMN=VALUE; there are: {', '.join(COLUMNS)}")
        found.setdefault(column, []).append(value)
    return found


def _page(arguments: argparse.Namespace, pairs: Pairs, judgments: Judgments | None) -> None:
    n = arguments.number or ON_PAGE
    with pairs.source.told():
        shown = pairs.head(n) if arguments.sort or arguments.reverse else None
        counts = page.write(pairs.chosen(), arguments.html, pairs=n, shown=shown, judgments=judgments)
    settings = {
        name: getattr(arguments, name) for name in ("id", "where", "search", "sort", "reverse", "seed", "number")
    }
    inputs = [arguments.file, *(judgments.files if judgments else ())]
    lineage.write(arguments.html, "view", inputs, settings, counts)
    print(f"{counts['shown']:,} of {counts['rows']:,} pairs: {arguments.html}")
