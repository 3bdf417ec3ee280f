"""Whether a judge's confidence says how often it is right, and what leaving out doubtful pairs is worth."""

from __future__ import annotations

from data_tools.page.sections import text
from genrm_lightning.report_page.charts.lines import Line, Point, line_chart
from genrm_lightning.report_page.charts.reliability import reliability
from genrm_lightning.report_page.report import Report
from genrm_lightning.report_page.sections.parts import (
    block,
    by_set,
    chip,
    complete,
    figure,
    legend,
    seeds_note,
    set_name,
)

RELIABILITY = (
    "Verdicts by the judge’s confidence, max(p, 1 − p). On the diagonal a judge that is 80 % sure is right 80 % of "
    "the time; below it the judge is surer than it should be. The larger a dot, the more verdicts it holds; whiskers "
    "are 95 % intervals."
)
_ECE = " ECE is the mean distance from the diagonal."
RISK = (
    "The pairs that a judge is surest of come first. Coverage is the share of pairs that are answered, risk the "
    "share of wrong verdicts among them. A line that rises from left to right: the judge knows what it does not "
    "know. Bands (of many judges the pointer) tell 95 % intervals."
)


def diagrams(report: Report) -> str:
    def one_set(name: str) -> str:
        known = [(m, n) for m, n in report.numbers(name, "reliability") if any(b.get("n") for b in n["reliability"])]
        figures = [
            figure(
                f"{chip(report, method)}{text(method.label)} <small class=own>{_ece(numbers)}</small>",
                reliability(numbers["reliability"], report.colour(method), f"reliability of {method.label} on {name}"),
                f"s{report.colour(method)}",
            )
            for method, numbers in known
        ]
        return f"<div class=small>{''.join(figures)}</div>{_first(report, name)}" if figures else ""

    known = any(_ece(numbers) for name in report.sets for _, numbers in report.numbers(name, "reliability"))
    return block("reliability", "Reliability", RELIABILITY + _ECE * known, by_set(report, one_set))


def _first(report: Report, name: str) -> str:
    return seeds_note(report, name, "the first one is shown")


def _ece(numbers) -> str:
    value, low, high = (numbers.get(f"ece{end}") for end in ("", "_low", "_high"))
    if value is None:
        return ""
    return f"ECE {value:.3f}" + ("" if low is None or high is None else f" ({low:.3f}–{high:.3f})")


def risk(report: Report) -> str:
    figures, labels = [], []
    for name in report.sets:
        known = list(report.numbers(name, "risk_coverage"))
        lines = [
            Line(m.label, report.colour(m), [
                Point(one["coverage"], one["risk"], one.get("risk_low"), one.get("risk_high"),
                      f"{100 * one['coverage']:.0f} % answered, {100 * one['risk']:.1f} % of them wrong")
                for one in complete(n["risk_coverage"], "coverage", "risk")
            ])
            for m, n in known
        ]  # fmt: skip
        lines = [line for line in lines if line.points]
        if lines:
            labels += [line.name for line in lines]
            ticks = [(share / 4, f"{25 * share}") for share in range(5)]
            chart = line_chart(lines, ticks, "coverage, %", "wrong, %", y=(0.0, 0.0))
            figures.append(figure(set_name(name), chart + _first(report, name)))
    body = legend(report, labels) + f"<div class=plots>{''.join(figures)}</div>"
    return block("risk", "Risk and coverage", RISK, body if figures else "")
