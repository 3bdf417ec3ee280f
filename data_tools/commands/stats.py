"""``stats``: tables or raw files in numbers and histograms."""

from __future__ import annotations

import argparse
from pathlib import Path

import polars as pl
from rich.columns import Columns
from rich.table import Table
from rich.text import Text

from data_tools import artifact, lineage, page
from data_tools.commands._reading import preferences
from data_tools.commands._shared import at_least_one, console, no_folder
from data_tools.measures import measure
from data_tools.probe import ALL, best, naive_scores, says
from data_tools.schema import SPLITS
from data_tools.stats import histograms, summary
from data_tools.visible import visible

SUMMARY = "tables or raw files in numbers and histograms"
PLACE = 40
EXAMPLES = (
    "stats data/pairs/train.parquet",
    "stats raw.jsonl other.jsonl --by source --by label_kind",
    "stats data/pairs/*.parquet --json stats.json --html stats.html",
)
BY = ("source", "category", "subset", "split", "label_kind", "script")
WIDE = 140  # characters of a terminal that takes it all side by side
NONE = "–"
LENGTHS = "chars:\nmedian / 95%"


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="PREFERENCE parquet or raw JSON Lines")
    parser.add_argument(
        "--by", action="append", choices=BY, metavar="COLUMN",
        help=f"a table by that column, again for another: {', '.join(BY)} (default: source and category)",
    )  # fmt: skip
    parser.add_argument("--bins", type=int, default=12, metavar="N", help="of a histogram, about (default 12)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers, too")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write a page with plots and pairs to read, too")


def run(arguments: argparse.Namespace) -> None:
    """Rows, splits, labels, lengths, turns, responses, margins, the accuracy of always preferring the longer response
    or response A, and how lengths and margins lie."""
    at_least_one(arguments, "bins")
    for out in (arguments.json, arguments.html):
        if out:
            no_folder(out)
    pairs = preferences(arguments.files)
    measured = measure(pairs)
    tables = {by: summary(measured, by) for by in arguments.by or ("source", "category")}
    drawn = histograms(measured, arguments.bins)
    for by, table in tables.items():
        if table.height > 2 or by == "source" or arguments.by:
            _show(by, table)
    console().print(Columns([_bars(title, counted) for title, counted in drawn.items()], padding=(1, 3)))
    scripts = measured["script"].cast(pl.String).fill_null("other").value_counts(sort=True)
    console().print("scripts of prompts: " + ", ".join(f"{name} {n:,}" for name, n in scripts.iter_rows()))
    if arguments.json:
        numbers = {
            "by": {by: table.to_dicts() for by, table in tables.items()},
            "histograms": {title: counted.to_dicts() for title, counted in drawn.items()},
            "scripts": dict(scripts.iter_rows()),
        }
        artifact.write_json(arguments.json, numbers)
        settings = {"by": list(tables), "bins": arguments.bins}
        lineage.write(arguments.json, "stats", arguments.files, settings, {"read": measured.height})
    if arguments.html:
        counts = page.write(pairs, arguments.html, probe=_probed(pairs))
        lineage.write(arguments.html, "stats", arguments.files, {}, counts)
        print(f"page: {arguments.html}")


def _probed(pairs: pl.LazyFrame) -> pl.DataFrame:
    """For the page: what each naive rule scores on all pairs, and for each source the best of them."""
    scores = naive_scores(pairs, ["source"])
    shown = pl.concat(
        [scores.filter(pl.col("by") == ALL), best(scores).filter(pl.col("by") == "source")], how="diagonal"
    )
    turned = shown["turned"].fill_null(False)
    names = [says(rule)[opposite] for rule, opposite in zip(shown["rule"], turned, strict=True)]
    return shown.select(
        rule=pl.Series(names, dtype=pl.String),
        slice=pl.when(pl.col("by") == ALL).then(pl.lit(ALL)).otherwise(pl.col("value").fill_null(NONE)),
        accuracy="score",
        low="low",
        high="high",
        rows="rows",
    )


def _show(by: str, measured: pl.DataFrame) -> None:
    """One table, or two under one another where the terminal is narrow."""
    columns = {name: cell for name, cell in _CELLS.items() if by != "split" or not name.startswith("train")}
    names = list(columns)
    title = f"{measured['rows'][-1]:,} pairs by {by}"
    half = names.index(LENGTHS)
    for part in (names,) if console().width >= WIDE else (names[:half], names[half:]):
        shown = Table(title=title if part[0] == "rows" else None)
        shown.add_column(by, overflow="fold", min_width=min(24, measured[by].str.len_chars().max()))
        for name in part:
            shown.add_column(name, justify="left" if name == "labels" else "right", overflow="fold")
        for i, row in enumerate(measured.iter_rows(named=True), 1):
            if i == measured.height:  # the total
                shown.add_section()
            called = Text(visible(row[by] or NONE))  # a cell that is a string would be read as rich's markup
            shown.add_row(called, *(columns[name](row) for name in part))
        console().print(shown)


_CELLS = {
    "rows": lambda row: f"{row['rows']:,}",
    "train /\nvalidation / test": lambda row: " / ".join(f"{row[name]:,}" for name in SPLITS),
    "prompts": lambda row: f"{row['prompts']:,}",
    "labels": lambda row: Text(visible(row["labels"])),
    LENGTHS: lambda row: f"{row['chars']:,} / {row['chars_95']:,}",
    "longer\nchosen": lambda row: f"{row['longer_chosen']:.0%}",
    "chosen\nis A": lambda row: f"{row['chosen_is_a']:.0%}",
    "turns": lambda row: f"{row['turns']:.1f}",
    "responses": lambda row: f"{row['responses']:.1f}",
    "margin": lambda row: NONE if row["margin"] is None else f"{row['margin']:.2f}",
}


def _bars(title: str, counted: pl.DataFrame) -> Table:
    """A histogram: a line a bin, whose bar is as long as the bin's share of the fullest."""
    shown = Table(
        title=title, box=None, show_header=False, padding=(0, 1), title_justify="left", min_width=len(title) + 1
    )
    for justify in ("right", "right", "left"):
        shown.add_column(justify=justify, no_wrap=True)
    most, longest = counted["rows"].max(), 24 if console().width >= WIDE else 14
    single = (counted["high"] - counted["low"])[0] == 1 and (counted["low"] % 1 == 0).all()
    for low, high, rows in counted.iter_rows():
        eighths = round(rows / most * longest * 8)
        bar = "█" * (eighths // 8) + ("", *"▏▎▍▌▋▊▉")[eighths % 8]
        place = f"{low:,.10g}" if single and high - low == 1 else f"{low:,.10g} – {high:,.10g}"
        shown.add_row(place, f"{rows:,}", bar or ("▏" if rows else ""))
    return shown
