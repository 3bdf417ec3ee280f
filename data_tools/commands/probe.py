"""``probe``: what naive rules would score on tables or raw files."""

from __future__ import annotations

import argparse
from pathlib import Path

import polars as pl
from rich.table import Table
from rich.text import Text

from data_tools import artifact, lineage
from data_tools.commands._reading import preferences
from data_tools.commands._shared import at_least_one, console, no_folder
from data_tools.errors import UserError
from data_tools.judging import PROMPTS
from data_tools.label_noise import SIGNS, label_noise
from data_tools.measures import measure
from data_tools.probe import ADVICE, ALL, COLUMNS, CONTROL, SAMPLE, best, findings, naive_scores, probe, prompts, says
from data_tools.visible import visible

SUMMARY = "what naive rules would score: giveaways and label noise, before a GPU is spent"
PLACE = 45
EXAMPLES = (
    "probe data/pairs/train.parquet data/pairs/test.parquet",
    "probe data/pairs/train.parquet --by source --by subset --rules",
    "probe data/pairs/train.parquet --against benchmark.parquet --json probe.json",
)
LINES = 12  # of findings in the terminal
FEWEST_SCORED = 10  # pairs of a group whose learnt scores are shown
NONE = "–"


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="PREFERENCE parquet or raw JSON Lines")
    parser.add_argument(
        "--against", type=Path, metavar="FILE",
        help="score the rules on this table, with what is learnt from the others; its prompts are not learnt from",
    )  # fmt: skip
    parser.add_argument(
        "--by", action="append", choices=COLUMNS, metavar="COLUMN",
        help=f"a table by that column, again for another: {', '.join(COLUMNS)} (default: source and category)",
    )  # fmt: skip
    parser.add_argument("--rules", action="store_true", help="every rule of every group, not the best one alone")
    parser.add_argument(
        "--sample", type=int, default=SAMPLE, metavar="N",
        help=f"at most N pairs to train the learnt rules on, and to score them on (default {SAMPLE:,})",
    )  # fmt: skip
    parser.add_argument(
        "--folds", type=int, metavar="K",
        help="cross-validate over K folds by prompt, although the table has test and validation rows",
    )  # fmt: skip
    parser.add_argument(
        "--template", default="mt_bench", choices=PROMPTS, help="judge prompt of the control (default mt_bench)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers, too")


def run(arguments: argparse.Namespace) -> None:
    """Scores are shares of pairs whose chosen response a rule prefers, ties half, with 95 % intervals (Wilson's, at the
    effective number of prompts). A bag of words is trained on train rows and scored on test and validation rows, or
    over 5 folds by prompt where there are none. Compare a judge with the best rule, not with 50 %."""
    at_least_one(arguments, "sample")
    if arguments.json:
        no_folder(arguments.json)
    if arguments.against and arguments.folds:
        raise UserError("--folds: --against is held out already; leave out one of the two")
    table = preferences(arguments.files)
    against = preferences([arguments.against]) if arguments.against else None
    by = list(dict.fromkeys(arguments.by or ["source", "category"]))
    found = probe(
        table, against=against, by=by, sample=arguments.sample, folds=arguments.folds, template=arguments.template
    )
    measured = measure(table if against is None else against)
    noise = {column: label_noise(measured, column) for column in by}
    noise[ALL] = label_noise(measured)
    learnt_from = naive_scores(table) if against is not None else None
    _show_all(found.scores, learnt_from)
    for column in by:
        if arguments.rules:
            _show_rules(column, found.scores)
        else:
            _show_best(column, found.scores)
    _show_noise(by[0], noise)
    lines = findings(found.scores)
    _tell(lines, f"learnt rules: {found.how()}")
    if arguments.json:
        numbers = {
            "scores": found.scores.to_dicts(),
            "label_noise": [{"by": column, **row} for column, its in noise.items() for row in its.to_dicts()],
            "findings": lines,
            "learnt": {"trained": found.trained, "scored": found.scored, "folds": found.folds},
        }
        if learnt_from is not None:
            numbers["scores_of_files"] = learnt_from.to_dicts()
        artifact.write_json(arguments.json, numbers)
        inputs = [*arguments.files, *([arguments.against] if arguments.against else [])]
        settings = {name: getattr(arguments, name) for name in ("sample", "folds", "template")}
        settings |= {"by": by, "against": str(arguments.against) if arguments.against else None}
        lineage.write(arguments.json, "probe", inputs, settings, {"read": measured.height})


def _show_all(scores: pl.DataFrame, learnt_from: pl.DataFrame | None) -> None:
    whole = scores.filter(pl.col("by") == ALL)
    title = f"what naive rules score on {whole['rows'].max():,} pairs"
    shown = Table(title=title + (" of --against" if learnt_from is not None else ""))
    shown.add_column("the response wins that has, or is")
    for heading in ("score", "95 %", "decides", "pairs", "prompts"):
        shown.add_column(heading, justify="right")
    there = dict(learnt_from.select("rule", "score").iter_rows()) if learnt_from is not None else None
    if there is not None:
        shown.add_column("on FILE", justify="right")
    for row in whole.iter_rows(named=True):
        cells = [_score(row), f"{row['low']:.1%} – {row['high']:.1%}", f"{row['decided']:.0%}"]
        cells += [f"{row['rows']:,}", prompts(row)]
        if there is not None:
            cells.append(f"{there[row['rule']]:.1%}" if row["rule"] in there else NONE)
        shown.add_row(says(row["rule"])[0], *cells)
    console().print(shown)


def _show_best(column: str, scores: pl.DataFrame) -> None:
    """A line a group: the longer one, the best rule, what is learnt."""
    shown = Table(title=f"by {column}", padding=(0, 1) if console().width >= 120 else 0)
    longest = scores.filter(pl.col("by") == column)["value"].str.len_chars().max()
    shown.add_column(column, overflow="fold", min_width=min(20, longest or 0))
    for heading in ("pairs", "prompts", "longer"):
        shown.add_column(heading, justify="right")
    shown.add_column("best rule")
    for heading in ("", "bag of words", "masked"):
        shown.add_column(heading, justify="right")
    of = {(row["value"], row["rule"]): row for row in scores.filter(pl.col("by") == column).iter_rows(named=True)}
    for row in best(scores).filter(pl.col("by") == column).iter_rows(named=True):
        longer = of[row["value"], "longer"]
        learnt = [of.get((row["value"], name)) for name in ("words", CONTROL)]
        shown.add_row(
            Text(visible(row["value"] or NONE)),
            f"{longer['rows']:,}",
            prompts(longer),
            _with_interval(longer),
            says(row["rule"])[row["turned"]],
            _with_interval(row),
            *(_with_interval(its) if its and its["rows"] >= FEWEST_SCORED else NONE for its in learnt),
        )
    console().print(shown)


def _show_rules(column: str, scores: pl.DataFrame) -> None:
    shown = Table(title=f"by {column}: every rule")
    shown.add_column(column, overflow="fold")
    shown.add_column("the response wins that has, or is")
    for heading in ("score", "95 %", "decides", "pairs"):
        shown.add_column(heading, justify="right")
    last = None
    for row in scores.filter(pl.col("by") == column).iter_rows(named=True):
        called = visible(row["value"] or NONE)
        if last is not None and called != last:
            shown.add_section()
        shown.add_row(
            Text("" if called == last else called),
            says(row["rule"])[0],
            _score(row),
            f"{row['low']:.1%} – {row['high']:.1%}",
            f"{row['decided']:.0%}",
            f"{row['rows']:,}",
        )
        last = called
    console().print(shown)


def _show_noise(column: str, noise: dict[str, pl.DataFrame]) -> None:
    """A line a group, a column a sign; its words below, for headings would be as wide as the terminal."""
    shown = Table(title="signs of label noise: share of the pairs that could show it")
    shown.add_column(column, overflow="fold")
    for sign in SIGNS:
        shown.add_column(sign.replace("_", " "), justify="right")
    for by in (column, ALL):
        if by == ALL:
            shown.add_section()
        for (value,), its in noise[by].group_by("value", maintain_order=True):
            cells = [f"{share:.1%}" if share is not None else NONE for share in its["share"]]
            shown.add_row(Text(visible(ALL if by == ALL else value or NONE)), *cells)
    console().print(shown)
    for sign, means in SIGNS.items():
        console().print(Text(f"  {sign.replace('_', ' ')}: {means}", style="dim"))


def _tell(lines: list[str], how: str) -> None:
    out = console()
    out.print()
    out.print(Text(f"what stands out: {ADVICE}" if lines else "what stands out", style="bold"))
    for line in lines[:LINES]:
        out.print(Text(f"  {visible(line)}"))
    if len(lines) > LINES:
        out.print(Text(f"  and {len(lines) - LINES} more groups (--json has all)"))
    if not lines:
        out.print(Text("  nothing: no rule is clearly above chance"))
    out.print(Text(how, style="dim"))


def _score(row: dict) -> Text:
    """Bold where the whole interval is on one side of a half."""
    return Text(f"{row['score']:.1%}", style="bold" if row["low"] > 0.5 or row["high"] < 0.5 else "")


def _with_interval(row: dict) -> str:
    return f"{100 * row['score']:.0f} ({100 * row['low']:.0f}–{100 * row['high']:.0f})"
