"""Every judge against every other one on the same pairs."""

from __future__ import annotations

from genrm_lightning.report_page.charts.heat import Cell, heat_map
from genrm_lightning.report_page.report import Report
from genrm_lightning.report_page.sections.parts import block, by_set, points, span

HOW = (
    "Accuracy of the row minus that of the column, in points, pair by pair: the same pairs are hard for both, so "
    "this is sharper than two intervals side by side. Grey: within chance, when a row is read against all columns at "
    "once. Point at a number for its interval."
)
_FULL = 0.3  # a difference that has the full colour


def section(report: Report) -> str:
    if len(report.methods) < 3:  # the table of judges has said it
        return ""
    return block("couples", "Judge against judge", HOW, by_set(report, lambda name: _set(report, name)))


def _set(report: Report, name: str) -> str:
    scored = report.scored[name]
    labels = [method.label for method in report.methods if name in method.sets]
    if len(labels) < 2:
        return ""
    rows = [(one, [_cell(scored, one, other, len(labels) - 1) for other in labels]) for one in labels]
    classes = [f"s{report.colour(label)}" for label in labels]
    return heat_map("row minus column", labels, rows, classes, classes)


def _cell(scored, one: str, other: str, comparisons: int) -> Cell | None:
    found = scored.compare(other, one, comparisons) if one != other else None
    if found is None:
        return None
    ends = f" ({span(found.low, found.high)})" if span(found.low, found.high) else ""
    said = f"{one} minus {other}: {points(found.diff)} points{ends}, {found.n:,} pairs"
    value = found.diff / _FULL if found.beyond_chance else 0.0
    return Cell(points(found.diff), value, said, not found.beyond_chance)
