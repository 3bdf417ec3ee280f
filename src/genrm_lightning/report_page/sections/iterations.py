"""STaR runs: accuracy of every judge on the way."""

from __future__ import annotations

from genrm_lightning.report_page.charts.axes import percent
from genrm_lightning.report_page.charts.lines import Level, Line, Point, line_chart
from genrm_lightning.report_page.model import Method
from genrm_lightning.report_page.report import Report, has
from genrm_lightning.report_page.sections.parts import block, figure, legend, set_name

HOW = (
    "Accuracy of the judge after each iteration of STaR, with its 95 % interval. Iteration 0 is the judge without "
    "training; the step after it, where there is one, is the warm start. Intervals that overlap widely say that the "
    "curve’s next bend may be chance."
)
_WARM = 0.5  # where a warm start stands: between the untrained judge and the first iteration
_SHOWN = {"accuracy": "Accuracy", "position_consistent_accuracy": "Right in both orders"}


def section(report: Report) -> str:
    runs = [method for method in report.methods if len(method.steps) > 1]
    if not runs:
        return ""
    figures = [
        figure(f"{shown}, {set_name(name)}", _chart(report, runs, name, number))
        for number, shown in _SHOWN.items()
        for name in report.sets
        if any(has(step.sets.get(name, {}), number) for method in runs for step in method.steps)
    ]
    body = legend(report, [method.label for method in runs]) + f"<div class=plots>{''.join(figures)}</div>"
    return block("iterations", "Iterations", HOW, body if figures else "")


def _chart(report: Report, runs: list[Method], name: str, number: str) -> str:
    lines, last, warm = [], 1, False
    for method in runs:
        points = []
        for step in method.steps:
            numbers = step.sets.get(name, {})
            if not has(numbers, number):
                continue
            is_warm = step.iteration == 0 and step is not method.steps[0]
            warm |= is_warm
            last = max(last, step.iteration)
            said = f"{step.label}: {percent(numbers[number])}"
            ends = numbers.get(f"{number}_low"), numbers.get(f"{number}_high")
            points.append(Point(_WARM if is_warm else step.iteration, numbers[number], *ends, said))
        if points:
            lines.append(Line(method.label, report.colour(method), points))
    ticks = [(float(i), str(i)) for i in range(0, last + 1, max(1, last // 8))]
    ticks += [(_WARM, "warm")] if warm and last <= 5 else []
    coin = [Level(0.5, "coin")] if number == "accuracy" else []
    return line_chart(lines, ticks, "iteration", "%", levels=coin)
