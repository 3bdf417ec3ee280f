"""Distribution shift: accuracy against the distance of test pairs from what the judge was trained on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from data_tools.page.sections import text
from genrm_lightning.report_page.charts.axes import percent
from genrm_lightning.report_page.charts.lines import Level, Line, Point, line_chart
from genrm_lightning.report_page.model import Method
from genrm_lightning.report_page.report import Report
from genrm_lightning.report_page.sections.parts import NONE, block, complete, figure, legend, plain_set, row, table

HOW = (
    "On the right lie the pairs that are least like the training pairs. Lines: bins of equally many pairs by distance; "
    "diamonds: categories at their mean distance. Bands (of many judges whiskers) are 95 % intervals. A line that "
    "falls: the judge is worse on what is far from its training, or what is far is harder. Spearman’s correlation says "
    "the same in one number, from −1 (falls throughout) to 1."
)
Shift = Mapping[str, Any]


def section(report: Report) -> str:
    found = _by_set(report)
    body = ""
    for name, known in found.items():
        heading = f"<h3>{text(plain_set(name))}</h3>" if len(found) > 1 else ""
        labels = [method.label for method, _ in known]
        chart = f"<div class=plots>{figure('Accuracy', _chart(report, known))}</div>"
        body += heading + legend(report, labels) + chart + _table(report, known)
    return block("shift", "Distance from the training data", HOW, body)


def _by_set(report: Report) -> dict[str, list[tuple[Method, Shift]]]:
    """Set ("" where none is named) -> the methods whose shift was measured on it, with what was found."""
    found: dict[str, list[tuple[Method, Shift]]] = {}
    for method in report.methods:
        sets = {"": method.shift} if "bins" in method.shift else method.shift
        for name, one in sets.items():
            bins = complete(one.get("bins"), "low", "high", "accuracy")
            kinds = complete(one.get("categories"), "name", "distance", "accuracy")
            if bins:
                found.setdefault(name, []).append((method, {**one, "bins": bins, "categories": kinds}))
    return found


def _chart(report: Report, known: list[tuple[Method, Shift]]) -> str:
    lines = []
    for method, one in known:
        place = report.colour(method)
        bins = [
            _point(x, (x["low"] + x["high"]) / 2, f"distance {x['low']:.2f} to {x['high']:.2f}") for x in one["bins"]
        ]
        kinds = [_point(x, x["distance"], f"{x['name']}, {x['distance']:.2f}") for x in one["categories"]]
        lines += [Line(method.label, place, bins)]
        lines += [Line(method.label, place, kinds, joined=False, band=False, diamonds=True)] if len(kinds) > 1 else []
    xs = [point.x for line in lines for point in line.points]
    low, high = min(xs), max(xs)
    n = 4 if high > low else 1
    ticks = [(low + (high - low) * i / n, f"{low + (high - low) * i / n:.2f}") for i in range(n + 1 if n > 1 else 1)]
    return line_chart(lines, ticks, "distance from the training pairs", "%", levels=[Level(0.5, "coin")])


def _point(one: Mapping[str, Any], x: float, said: str) -> Point:
    told = f"{said}: {percent(one['accuracy'])} of {one.get('n_pairs') or 0:,} pairs"
    return Point(x, one["accuracy"], one.get("accuracy_low"), one.get("accuracy_high"), told)


def _table(report: Report, known: list[tuple[Method, Shift]]) -> str:
    rows = []
    for method, one in known:
        value, low, high = (one.get(f"spearman{end}") for end in ("", "_low", "_high"))
        ends = "" if low is None or high is None else f" <small>{_signed(low)} to {_signed(high)}</small>"
        near, far = one["bins"][0]["accuracy"], one["bins"][-1]["accuracy"]
        rows.append(row(report, method, [
            NONE if value is None else f"<td>{_signed(value)}{ends}</td>",
            f"<td>{100 * near:.1f}</td><td>{100 * far:.1f}</td><td class=name>{text(one.get('train') or '')}</td>",
        ]))  # fmt: skip
    return table(["judge", "Spearman", "nearest bin, %", "farthest bin, %", "measured from"], rows)


def _signed(value: float) -> str:
    return f"{value:+.2f}".replace("-", "−")
