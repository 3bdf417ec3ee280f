"""What length explains: the rule "the longer response wins", and accuracy by the difference of lengths."""

from __future__ import annotations

from genrm_lightning.report_page.charts.axes import percent
from genrm_lightning.report_page.charts.lines import Level, Line, Point, line_chart
from genrm_lightning.report_page.report import Report
from genrm_lightning.report_page.sections.parts import (
    block,
    by_set,
    cell,
    figure,
    legend,
    pct,
    points,
    row,
    set_name,
    table,
)

HOW = (
    "On the left the rejected response is the longer one, on the right the chosen one. A judge that goes by length "
    "falls to the left. The table sets each judge against the rule “the longer response wins” on the same pairs: "
    "what it does not win there, it may have from length alone."
)


def section(report: Report) -> str:
    figures, labels = [], []
    for name in report.sets:
        lines, ticks = _lines(report, name)
        if lines:
            labels += [line.name for line in lines]
            chart = line_chart(lines, ticks, "chosen minus rejected, characters", "%", levels=[Level(0.5, "coin")])
            figures.append(figure(set_name(name), chart))
    charts = legend(report, labels) + f"<div class=plots>{''.join(figures)}</div>" if figures else ""
    return block("length", "Length", HOW, charts + by_set(report, lambda name: _rule(report, name)))


def _lines(report: Report, name: str) -> tuple[list[Line], list[tuple[float, str]]]:
    known = list(report.numbers(name, "by_length"))
    bins = {one["name"]: one for _, numbers in known for one in numbers["by_length"]}
    order = sorted(bins, key=lambda key: -float("inf") if bins[key].get("low") is None else bins[key]["low"])
    place = {key: float(i) for i, key in enumerate(order)}
    lines = []
    for method, numbers in known:
        drawn = [
            Point(place[one["name"]], one["accuracy"], one.get("low_accuracy"), one.get("high_accuracy"),
                  f"{one['name']}: {percent(one['accuracy'])} of {one['n_pairs']:,} pairs")
            for one in numbers["by_length"] if one.get("n_pairs") and one.get("accuracy") is not None
        ]  # fmt: skip
        if drawn:
            lines.append(Line(method.label, report.colour(method), drawn))
    return lines, [(place[key], _short(bins[key])) for key in order]


def _short(one: dict) -> str:
    """A bin's lower end; of the first one its upper."""
    low, high = one.get("low"), one.get("high")
    if low is None:
        return "less" if high is None else f"≤ {high:,}"
    return f"{low:,}+" if high is None else f"{low:,}"


def _rule(report: Report, name: str) -> str:
    known = list(report.numbers(name, "longer_wins"))
    rows = []
    for method, numbers in known:
        rule = numbers["longer_wins"]
        if rule.get("diff") is None:
            continue
        within = rule.get("diff_low") is not None and rule["diff_low"] <= 0 <= rule["diff_high"]
        ends = (
            ""
            if rule.get("diff_low") is None
            else f" <small>{points(rule['diff_low'])} to {points(rule['diff_high'])}</small>"
        )
        difference = f"<td{' class=faint' if within else ''}>{points(rule['diff'])}{ends}</td>"
        rows.append(
            row(
                report,
                method,
                [
                    f"<td>{pct(numbers.get('accuracy'))}</td>",
                    cell(rule.get("accuracy"), rule.get("low"), rule.get("high")),
                    difference,
                ],
            )
        )
    return table(["judge", "accuracy", "longer wins", "judge minus rule"], rows) if rows else ""
