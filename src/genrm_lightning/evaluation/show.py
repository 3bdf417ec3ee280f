"""An evaluation's numbers in the terminal."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

_NONE = "–"


def show(scores: dict[str, Any], console: Console) -> None:
    """Print what ``scores.json`` holds: a row a set, a row a benchmark, a row a judge it is compared with."""
    console.print(_sets(scores))
    if scores["benchmarks"]:
        console.print(_benchmarks(scores["benchmarks"]))
    for folder, sets in scores.get("against", {}).items():
        for name, one in sets.items():
            found = one["accuracy"]
            console.print(
                Text(
                    f"{name}: {_points(found['diff'])} points of accuracy against {folder} "
                    f"(95 %: {_points(found['low'])} to {_points(found['high'])}, {one['n_pairs']:,} pairs)"
                )
            )
    for name, one in scores.get("shift", {}).items():
        if one["spearman"] is not None:
            console.print(Text(f"{name}: rank correlation of accuracy and distance from training {_signed(one)}"))


def _sets(scores: dict[str, Any]) -> Table:
    # A path may hold what rich takes for markup.
    title = Text(f"{scores['judge']}, percent (95 % intervals)")
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("set", overflow="fold")
    found = list(scores["sets"].values())
    columns: dict[str, Callable[[dict[str, Any]], str]] = {
        "accuracy": _accuracy,
        "longer\nwins": lambda one: _percent(one["longer_wins"]["accuracy"]),
        "both\nright": lambda one: _percent(one["position_consistent_accuracy"]),
        "ECE": lambda one: _percent(one["ece"]),
    }
    if scores["kind"] != "reward":  # whose scores know no order
        columns["position\nbias"] = lambda one: _points(one["position_bias"])
    if scores["kind"] == "cot":  # who writes his verdicts
        columns["free\naccuracy"] = lambda one: _percent(one["free_accuracy"])
        columns["invalid"] = lambda one: _percent(one["invalid_rate"])
    columns["pairs"] = lambda one: f"{one['n_pairs']:,}"
    if any(one["n_dropped"] for one in found):
        columns["did\nnot fit"] = lambda one: f"{one['n_dropped']:,}"
    for head in columns:
        table.add_column(head, justify="right", no_wrap=head == "accuracy", overflow="fold")
    for name, one in scores["sets"].items():
        table.add_row(Text(name), *(read(one) for read in columns.values()))
    return table


def _accuracy(one: dict[str, Any]) -> str:
    return f"{_percent(one['accuracy'])} ({_percent(one['accuracy_low'])}–{_percent(one['accuracy_high'])})"


def _benchmarks(benchmarks: dict[str, Any]) -> Table:
    title = "By the benchmarks' own protocols"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for head in ("benchmark", "score", "sections", "notes"):
        table.add_column(head, overflow="fold", justify="right" if head == "score" else "left")
    for name, one in benchmarks.items():
        ends = "" if one["low"] is None else f" ({_percent(one['low'])}–{_percent(one['high'])})"
        score = f"{_percent(one['score'])}{ends}"
        sections = ", ".join(f"{key} {_percent(part['score'])}" for key, part in one["sections"].items())
        part = [] if one["complete"] else ["not the whole benchmark"]
        more = [f"{len(one['notes'])} notes in scores.json"] if one["notes"] else []
        table.add_row(Text(name), score, Text(sections), Text("; ".join([*part, *more])))
    return table


def _signed(one: dict[str, Any]) -> str:
    ends = "" if one["spearman_low"] is None else f" ({one['spearman_low']:+.2f} to {one['spearman_high']:+.2f})"
    return f"{one['spearman']:+.2f}{ends}"


def _percent(share: float | None) -> str:
    return _NONE if share is None else f"{100 * share:.1f}"


def _points(share: float | None) -> str:
    return _NONE if share is None else f"{100 * share:+.1f}"
