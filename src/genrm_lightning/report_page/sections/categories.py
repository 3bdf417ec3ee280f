"""Accuracy by category and by whatever else the pairs are told apart by."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from genrm_lightning.report_page.charts.heat import Cell, heat_map
from genrm_lightning.report_page.model import Numbers
from genrm_lightning.report_page.report import Report
from genrm_lightning.report_page.sections.parts import block, by_set, pct, seeds_note

HOW = (
    "Accuracy in percent. Green is above a coin’s 50 %, red below; the deeper, the further. Grey numbers: the 95 % "
    "interval holds 50 %. Point at a number for its interval and its pairs."
)
_NAMES = {"category": "Category", "subset": "Subset", "source": "Source", "label_kind": "Kind of label"}
MOST = 40  # columns of a map; the largest are shown


def section(report: Report) -> str:
    return block("categories", "Categories", HOW, by_set(report, lambda name: _set(report, name)))


def _set(report: Report, name: str) -> str:
    known = [(method, slices(numbers)) for method, numbers in report.numbers(name)]
    parts = []
    for column, heading in _NAMES.items():
        there = [(method, found[column]) for method, found in known if found.get(column)]
        sizes: dict[str, int] = {}
        for _, values in there:
            for value, numbers in values.items():
                sizes[value] = max(sizes.get(value, 0), numbers.get("n_pairs") or 0)
        if len(sizes) < 2:
            continue
        shown = sorted(sizes, key=lambda value: (-sizes[value], value))[:MOST]
        rows = [(m.label, [_cell(m.label, value, values.get(value)) for value in sorted(shown)]) for m, values in there]
        rest = f"<p class=note>{len(sizes) - MOST:,} smaller ones are left out.</p>" if len(sizes) > MOST else ""
        parts.append(heat_map(heading, sorted(shown), rows, [f"s{report.colour(m)}" for m, _ in there]) + rest)
    shown = "categories are means over them where the run has these, other parts are of the first one"
    return "".join(parts) + (seeds_note(report, name, shown) if parts else "")


def slices(numbers: Numbers) -> Mapping[str, Mapping[str, Any]]:
    """column -> value -> numbers; of an older summary the categories alone."""
    by = numbers.get("by")
    return by or {"category": numbers.get("categories") or {}}


def _cell(label: str, value: str, numbers: Mapping[str, Any] | None) -> Cell | None:
    if not numbers or numbers.get("accuracy") is None:
        return None
    low, high = numbers.get("accuracy_low"), numbers.get("accuracy_high")
    ends = "" if low is None or high is None else f" ({pct(low)} to {pct(high)})"
    said = f"{label}, {value}: {pct(numbers['accuracy'])} %{ends}, {numbers.get('n_pairs') or 0:,} pairs"
    faint = low is not None and high is not None and low <= 0.5 <= high
    return Cell(pct(numbers["accuracy"], 0), 2 * (numbers["accuracy"] - 0.5), said, faint)
