"""Several samples a verdict: accuracy by K, and by the tokens they cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from data_tools.page.sections import text
from genrm_lightning.report_page.charts.axes import percent
from genrm_lightning.report_page.charts.lines import Line, Point, line_chart
from genrm_lightning.report_page.report import Report
from genrm_lightning.report_page.sections.parts import (
    block,
    complete,
    figure,
    legend,
    pct,
    points,
    row,
    seeds_note,
    set_name,
    table,
)

Votes = Mapping[str, Sequence[Mapping[str, Any]]]  # curve and stopping, without rows that lack a number
HOW = (
    "Accuracy of one verdict from K samples of each order. Whole lines: the majority of drawn votes (maj@K); dashed: "
    "the mean probability (soft votes). Bands (of many judges whiskers) are 95 % intervals of maj@K. By tokens: the "
    "same against rationale tokens a pair; diamonds are sequential stopping, which ends a pair’s sampling where more "
    "would hardly change its verdict."
)


def section(report: Report) -> str:
    figures, labels, tables = [], [], []
    for name in report.sets:
        known = [(m, votes) for m, n in report.numbers(name, "votes") if (votes := _known(n["votes"]))["curve"]]
        if not known:
            continue
        labels += [method.label for method, _ in known]
        by_k = [line for m, votes in known for line in _lines(votes, m.label, report.colour(m), "k")]
        ks = sorted({point.x for line in by_k for point in line.points})
        ticks = [(k, f"{k:g}") for k in ks]
        figures.append(
            figure(f"By K, {set_name(name)}", line_chart(by_k, ticks, "samples an order (K)", "%", logarithmic=True))
        )
        by_tokens = [line for m, votes in known for line in _lines(votes, m.label, report.colour(m), "tokens")]
        if all(point.x > 0 for line in by_tokens for point in line.points):
            by_tokens += [_stopping(votes, m.label, report.colour(m)) for m, votes in known if votes.get("stopping")]
            figures.append(figure(f"By tokens, {set_name(name)}", _tokens(by_tokens)))
        tables += [_table(report, name, known)]
    body = legend(report, labels) + f"<div class=plots>{''.join(figures)}</div>{''.join(tables)}"
    return block("votes", "Votes", HOW, body if figures else "")


def _known(votes: Mapping[str, Any]) -> Votes:
    """The rows that can be drawn."""
    curve = complete(votes.get("curve"), "k", "tokens", "reading", "scope", "accuracy")
    return {
        "curve": curve,
        "stopping": complete(votes.get("stopping"), "votes", "scope", "alpha", "tokens", "accuracy"),
    }


def _lines(votes: Votes, label: str, place: int, across: str) -> list[Line]:
    found = []
    for reading, shown in (("hard", "maj@K"), ("soft", "soft votes")):
        rows = [one for one in votes["curve"] if one["reading"] == reading and one["scope"] == "pair"]
        drawn = [
            Point(
                one[across],
                one["accuracy"],
                one.get("low"),
                one.get("high"),
                f"K = {one['k']:g}: {percent(one['accuracy'])}",
            )
            for one in sorted(rows, key=lambda one: one["k"])
        ]
        if drawn:
            found.append(Line(f"{label}, {shown}", place, drawn, dashed=reading == "soft", band=reading == "hard"))
    return found


def _stopping(votes: Votes, label: str, place: int) -> Line:
    """Simulated stopping of both orders together; its tokens are told as a share of all."""
    whole = max(one["tokens"] for one in votes["curve"])
    rows = [one for one in votes["stopping"] if one["scope"] == "pair" and one["votes"] == "soft"]
    drawn = [
        Point(
            max(one["tokens"] * whole, 1e-9),
            one["accuracy"],
            said=f"stopping at {one['alpha']:g}: {percent(one['accuracy'])}",
        )
        for one in rows
    ]
    return Line(f"{label}, stopping", place, drawn, joined=False, band=False, diamonds=True)


def _tokens(lines: list[Line]) -> str:
    lines = [line for line in lines if line.points]
    low = min(point.x for line in lines for point in line.points)
    high = max(point.x for line in lines for point in line.points)
    ticks, value = [], 1.0
    while value <= high * 1.001:
        for step in (1, 2, 5):
            if low * 0.999 <= step * value <= high * 1.001:
                ticks.append((step * value, f"{step * value:,.0f}"))
        value *= 10
    ticks = ticks if len(ticks) > 1 else [(low, f"{low:,.0f}"), (high, f"{high:,.0f}")]
    return line_chart(lines, ticks, "rationale tokens a pair", "%", logarithmic=True)


def _table(report: Report, name: str, known: list) -> str:
    """What K samples are worth, and what stopping saves, in numbers."""
    rows = []
    for method, votes in known:
        hard = sorted(
            (x for x in votes["curve"] if (x["reading"], x["scope"]) == ("hard", "pair")), key=lambda x: x["k"]
        )
        if not hard:
            continue
        first, last = hard[0], hard[-1]
        soft = (x for x in votes["stopping"] if (x["votes"], x["scope"], x["alpha"]) == ("soft", "pair", 0.05))
        stop = next(soft, {})
        saved = f"<td>{pct(stop.get('tokens'), 0)}</td><td>{points(stop.get('diff'))}</td>"
        rows.append(row(report, method, [
            f"<td>{pct(first['accuracy'])}</td>",
            f"<td>{pct(last['accuracy'])} <small>K = {last['k']:g}{_ends(last)}</small></td>",
            saved,
        ]))  # fmt: skip
    heads = [
        f"judge, {text(name)}" if len(report.sets) > 1 else "judge",
        f"maj@{first['k']:g}" if rows else "",
        "maj@most",
    ]
    note = seeds_note(report, name, "the votes are those of the first one")
    return table([*heads, "tokens with<br>stopping, %", "accuracy<br>against all"], rows) + note if rows else ""


def _ends(one: Mapping[str, Any]) -> str:
    low, high = one.get("low"), one.get("high")
    return "" if low is None or high is None else f", {pct(low)}–{pct(high)}"
