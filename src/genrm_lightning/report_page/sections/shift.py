"""Distribution shift: accuracy against the distance of a category from what the judge was trained on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from genrm_lightning.report_page.adapters.files import number
from genrm_lightning.report_page.charts.axes import percent
from genrm_lightning.report_page.charts.lines import Level, Line, Point, line_chart
from genrm_lightning.report_page.report import Report
from genrm_lightning.report_page.sections.parts import block, figure, legend

HOW = (
    "Each point is a part of the test pairs: on the right those that are least like the training pairs. Whiskers are "
    "95 % intervals. Points that fall to the right: the judge knows what it has seen."
)


def section(report: Report) -> str:
    lines = []
    for method in report.methods:
        drawn = [
            Point(one["distance"], one["accuracy"], number(one.get("accuracy_low")), number(one.get("accuracy_high")),
                  f"{name}, distance {one['distance']:.3g}: {percent(one['accuracy'])}")
            for name, one in parts(method.shift)
        ]  # fmt: skip
        if drawn:
            drawn.sort(key=lambda point: point.x)
            lines.append(Line(method.label, report.colour(method), drawn, joined=False))
    if not lines:
        return ""
    xs = [point.x for line in lines for point in line.points]
    low, high = min(xs), max(xs)
    ticks = [(low + (high - low) * i / 4, f"{low + (high - low) * i / 4:.2g}") for i in range(5 if high > low else 1)]
    chart = line_chart(lines, ticks, "distance from the training pairs", "%", levels=[Level(0.5, "coin")], bands=0)
    body = legend(report, [line.name for line in lines]) + f"<div class=plots>{figure('Accuracy', chart)}</div>"
    return block("shift", "Distance from the training data", HOW, body)


def parts(value: Any, name: str = "all") -> Iterator[tuple[str, dict[str, Any]]]:
    """What has a distance and an accuracy, wherever in ``shift`` it stands, with its name."""
    if isinstance(value, list):
        for one in value:
            yield from parts(one, name)
    elif isinstance(value, dict):
        if number(value.get("distance")) is not None and number(value.get("accuracy")) is not None:
            yield str(value.get("name", name)), value
        else:
            for key, one in value.items():
                yield from parts(one, str(key))
