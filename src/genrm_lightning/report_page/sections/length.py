"""What length explains: the rule "the longer response wins", and accuracy by the difference of lengths."""

from __future__ import annotations

from genrm_lightning.report_page.charts.axes import percent
from genrm_lightning.report_page.charts.lines import Level, Line, Point, line_chart
from genrm_lightning.report_page.report import Report
from genrm_lightning.report_page.sections.parts import (
    block,
    by_set,
    cell,
    complete,
    figure,
    legend,
    pct,
    points,
    row,
    seeds_note,
    set_name,
    span,
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
            coin = [Level(0.5, "coin")]
            chart = line_chart(lines, ticks, "chosen minus rejected, characters", "%", levels=coin, inset=0.5)
            figures.append(figure(set_name(name), chart + _first(report, name)))
    charts = legend(report, labels) + f"<div class=plots>{''.join(figures)}</div>" if figures else ""
    return block("length", "Length", HOW, charts + by_set(report, lambda name: _rule(report, name)))


def _first(report: Report, name: str) -> str:
    return seeds_note(report, name, "these are numbers of the first one, its accuracy too")


def _lines(report: Report, name: str) -> tuple[list[Line], list[tuple[float, str]]]:
    known = [(method, complete(numbers["by_length"], "name")) for method, numbers in report.numbers(name, "by_length")]
    bins = {one["name"]: one for _, own in known for one in own}
    order = sorted(bins, key=lambda key: -float("inf") if bins[key].get("low") is None else bins[key]["low"])
    place = {key: float(i) for i, key in enumerate(order)}
    lines = []
    for method, own in known:
        drawn = [
            Point(place[one["name"]], one["accuracy"], one.get("low_accuracy"), one.get("high_accuracy"),
                  f"{minus(one['name'])}: {percent(one['accuracy'])} of {one['n_pairs']:,} pairs")
            for one in complete(own, "accuracy") if one.get("n_pairs")
        ]  # fmt: skip
        if drawn:
            lines.append(Line(method.label, report.colour(method), drawn))
    return lines, [(place[key], _short(bins[key])) for key in order]


def _short(one: dict) -> str:
    """From where to where a bin goes, in two lines."""
    low, high = (None if one.get(end) is None else minus(f"{one[end]:,}") for end in ("low", "high"))
    if low is None:
        return "any" if high is None else f"up to\n{high}"
    if high is None:
        return f"from\n{low}"
    return low if low == high else f"{low}\nto {high}"


def minus(shown: str) -> str:
    return shown.replace("-", "−")


def _rule(report: Report, name: str) -> str:
    known = list(report.numbers(name, "longer_wins"))
    rows = []
    for method, numbers in known:
        rule = numbers["longer_wins"]
        if rule.get("diff") is None:
            continue
        low, high = rule.get("diff_low"), rule.get("diff_high")
        ends = f" <small>{span(low, high)}</small>" if span(low, high) else ""
        within = bool(ends) and low <= 0 <= high
        difference = f"<td{' class=faint' if within else ''}>{points(rule['diff'])}{ends}</td>"
        own = method.sets[name].own.get("accuracy")  # of the seed that the rule was compared with
        longer = cell(rule.get("accuracy"), rule.get("low"), rule.get("high"))
        rows.append(row(report, method, [f"<td>{pct(own)}</td>", longer, difference]))
    return table(["judge", "accuracy", "longer wins", "judge minus rule"], rows) + _first(report, name) if rows else ""
