"""Whether a judge prefers a place: how often it says A when A is right half of the time."""

from __future__ import annotations

from genrm_lightning.report_page.charts.intervals import bar_svg
from genrm_lightning.report_page.model import Numbers
from genrm_lightning.report_page.report import Report, has
from genrm_lightning.report_page.sections.parts import block, by_set, cell, points, row, scale, seeds_note, span, table

HOW = (
    "Each response stands once as A, so a judge without position bias says A half of the time. Bars show by how many "
    "points it says A more often (to the right) or less often (to the left), with the 95 % interval where it is known. "
    "<b>Consistent</b>: both orders name the same response, right or wrong."
)


def section(report: Report) -> str:
    return block("position", "Position bias", HOW, by_set(report, lambda name: _set(report, name)))


def _bias(numbers: Numbers) -> float | None:
    if has(numbers, "position_bias"):
        return numbers["position_bias"]
    return numbers["share_a"] - 0.5 if has(numbers, "share_a") else None


def _set(report: Report, name: str) -> str:
    known = [(m, n, bias) for m, n in report.numbers(name) if (bias := _bias(n)) is not None]
    if not known:
        return ""
    values = [
        abs(v)
        for _, n, bias in known
        for v in (bias, n.get("position_bias_low"), n.get("position_bias_high"))
        if v is not None
    ]
    reach = next(limit for limit in (0.05, 0.1, 0.2, 0.3, 0.5, 1.0) if limit >= min(max(values), 1.0))
    rows = []
    for method, numbers, bias in known:
        ends = numbers.get("position_bias_low"), numbers.get("position_bias_high")
        small = f" <small>{span(*ends)}</small>" if span(*ends) else ""
        drawn = bar_svg(
            bias, *ends, (-reach, reach), report.colour(method), said=f"{method.label}: {points(bias)} points"
        )
        cells = [
            f"<td>{points(bias)}{small}</td>",
            f"<td class=draw>{drawn}</td>",
            cell(numbers.get("position_consistency")),
        ]
        rows.append(row(report, method, cells))
    ends = scale(f"B {points(reach)[1:]}", f"A {points(reach)[1:]}")
    heads = ["judge", "says A more often<br>than half, points", ends, "consistent, %"]
    return table(heads, rows) + seeds_note(report, name, "these are numbers of the first one")
