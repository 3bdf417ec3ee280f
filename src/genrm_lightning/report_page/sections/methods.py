"""The table of judges: accuracy with its interval, distance from the best, and what else is known of verdicts."""

from __future__ import annotations

from collections.abc import Sequence

from genrm_lightning.report_page.charts.axes import around
from genrm_lightning.report_page.charts.intervals import interval_svg
from genrm_lightning.report_page.model import Numbers
from genrm_lightning.report_page.pairwise import Compared
from genrm_lightning.report_page.report import Report, has
from genrm_lightning.report_page.sections.headline import Standing
from genrm_lightning.report_page.sections.parts import NONE, block, by_set, cell, pct, points, row, scale, table

HOW = (
    "Percent, with 95 % intervals. <b>Accuracy</b> reads the probability of A at the verdict, every pair in both "
    "orders; <b>free accuracy</b> parses the judge’s own text, where no verdict is a wrong one. The bar is the "
    "interval, the tick the accuracy; the thin line is a coin’s 50 %. <b>To the best</b>: points on the same pairs; "
    "a difference within chance is in grey. <b>Both orders</b>: right in both. ECE and Brier score: lower is better."
)
# name of a number -> the head of its column, and whether it is a share of [0, 1] that is shown in percent
_COLUMNS = {
    "free_accuracy": ("free<br>accuracy", True),
    "position_consistent_accuracy": ("both<br>orders", True),
    "invalid_rate": ("no<br>verdict", True),
    "ece": ("ECE", False),
    "brier": ("Brier", False),
    "auroc": ("AUROC", False),
    "kappa": ("Cohen’s κ", False),
}


def section(report: Report, found: Sequence[Standing]) -> str:
    standing = {one.name: one for one in found}
    body = by_set(report, lambda name: _set(report, standing[name]) if name in standing else "")
    return block("methods", "Judges", HOW, body)


def _set(report: Report, one: Standing) -> str:
    there = list(report.numbers(one.name, "accuracy"))
    values = [n[key] for _, n in there for key in ("accuracy", "accuracy_low", "accuracy_high") if has(n, key)]
    if not values:
        return ""
    span, _ = around(min(0.5, *values), max(0.5, *values))
    columns = [name for name in _COLUMNS if any(has(numbers, name) for _, numbers in there)]
    behind = {method.label: compared for method, compared in one.others}
    rows = []
    for method, numbers in there:
        place = report.colour(method)
        ends = numbers.get("accuracy_low"), numbers.get("accuracy_high")
        cells = [
            f"<td><b>{pct(numbers['accuracy'])}</b>{_ends(*ends)}</td>",
            f"<td class=draw>{interval_svg(numbers['accuracy'], *ends, span, place, marks=[0.5])}</td>",
        ]
        if behind:
            compared = behind.get(method.label)
            cells.append("<td>best</td>" if method is one.best else _difference(compared))
        rows.append(row(report, method, [*cells, *(_cell(numbers, name) for name in columns)]))
    heads = [
        "judge",
        "accuracy",
        scale(f"{pct(span[0], 0)} %", f"{pct(span[1], 0)} %"),
        *(["to the best"] * bool(behind)),
    ]
    return table([*heads, *(_COLUMNS[name][0] for name in columns)], rows)


def _difference(compared: Compared | None) -> str:
    if compared is None:
        return NONE
    grey = "" if compared.beyond_chance else " class=faint"
    return f"<td{grey}>{points(compared.diff)} <small>{points(compared.low)} to {points(compared.high)}</small></td>"


def _ends(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f" <small>{pct(low)}–{pct(high)}</small>"


def _cell(numbers: Numbers, name: str) -> str:
    value = numbers.get(name)
    if not numbers.get("mean_n_tokens") and name in ("free_accuracy", "invalid_rate"):
        return NONE  # a judge that writes nothing has no text to parse
    if value is None or _COLUMNS[name][1]:
        return cell(value)
    low, high = numbers.get(f"{name}_low"), numbers.get(f"{name}_high")
    ends = "" if low is None or high is None else f' title="{low:.3f} to {high:.3f}"'
    shown = f"{value:.3f}".replace("-", "−")
    return f"<td{ends}>{shown}</td>"
