"""The table of judges: accuracy with its interval, distance from the best, and what else is known of verdicts."""

from __future__ import annotations

from collections.abc import Sequence

from data_tools.page.sections import text
from genrm_lightning.report_page.charts.axes import around
from genrm_lightning.report_page.charts.intervals import interval_svg
from genrm_lightning.report_page.model import Numbers
from genrm_lightning.report_page.pairwise import Compared
from genrm_lightning.report_page.report import Report, has
from genrm_lightning.report_page.sections.headline import Standing
from genrm_lightning.report_page.sections.parts import (
    NONE,
    block,
    by_set,
    cell,
    listed,
    pct,
    points,
    row,
    scale,
    seeds_note,
    span,
    table,
)

HOW = (
    "Percent, with 95 % intervals. <b>Accuracy</b> reads the probability of A at the verdict, every pair in both "
    "orders. The bar is the interval, the tick the accuracy; the thin line is a coin’s 50 %."
)
_TO_BEST = "<b>To the best</b>: points on the same pairs; a difference within chance is in grey."
# What stands above the table of a column that it has.
_TOLD = {
    "free_accuracy": "<b>Free accuracy</b> parses the judge’s own text, where no verdict is a wrong one.",
    "position_consistent_accuracy": "<b>Both orders</b>: right in both.",
    "ece": "ECE: lower is better.",
    "brier": "Brier score: lower is better.",
}
_OVER_SEEDS = ("free_accuracy", "position_consistent_accuracy", "invalid_rate")  # those of a comparison's summary
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
    body = by_set(report, lambda name: _set(report, name, standing.get(name)))
    shown = {column for name in report.sets for column in _columns(report, name)}
    told = [HOW, *([_TO_BEST] if any(one.others for one in found) else [])]
    told += [said for column, said in _TOLD.items() if column in shown]
    heading = "Judges" if len(report.methods) > 1 else "The judge"
    return block("methods", heading, " ".join(told), body)


def _columns(report: Report, name: str) -> list[str]:
    return [one for one in _COLUMNS if any(_value(numbers, one) is not None for _, numbers in report.numbers(name))]


def _set(report: Report, name: str, one: Standing | None) -> str:
    there = list(report.numbers(name, "accuracy"))
    values = [n[key] for _, n in there for key in ("accuracy", "accuracy_low", "accuracy_high") if has(n, key)]
    if not values:
        return ""
    reach, _ = around(min(0.5, *values), max(0.5, *values))
    columns = _columns(report, name)
    behind = {method.label: compared for method, compared in one.others} if one else {}
    rows = []
    for method, numbers in there:
        place = report.colour(method)
        ends = numbers.get("accuracy_low"), numbers.get("accuracy_high")
        cells = [
            f"<td><b>{pct(numbers['accuracy'])}</b>{_ends(*ends)}</td>",
            f"<td class=draw>{interval_svg(numbers['accuracy'], *ends, reach, place, marks=[0.5])}</td>",
        ]
        if behind:
            compared = behind.get(method.label)
            cells.append("<td>best</td>" if method is one.best else _difference(compared))
        rows.append(row(report, method, [*cells, *(_cell(numbers, name) for name in columns)]))
    heads = [
        "judge",
        "accuracy",
        scale(f"{pct(reach[0], 0)} %", f"{pct(reach[1], 0)} %"),
        *(["to the best"] * bool(behind)),
    ]
    shown = table([*heads, *(_COLUMNS[column][0] for column in columns)], rows)
    return shown + _left_out(report, name, one) + _seeds(report, name, columns)


def _left_out(report: Report, name: str, one: Standing | None) -> str:
    """Which accuracies are not of the same pairs."""
    scored = report.scored[name]
    short = {label: own.height for label, own in scored.scores.items() if own.height < scored.pairs.height}
    if not short or len(scored.scores) < 2:
        return ""
    counts = listed(f"{text(label)} {n:,}" for label, n in short.items())
    same = f", and “to the best” is on the {one.n:,} that all have judged" if one else ""
    return (
        f"<p class=note>Of the {scored.pairs.height:,} pairs not all fitted every judge: {counts}. A judge’s numbers "
        f"are of its own pairs{same}.</p>"
    )


def _seeds(report: Report, name: str, columns: Sequence[str]) -> str:
    means = [_COLUMNS[column][0].replace("<br>", " ") for column in columns if column in _OVER_SEEDS]
    others = [_COLUMNS[column][0].replace("<br>", " ") for column in columns if column not in _OVER_SEEDS]
    first = f"; {listed(others)}: of the first one" if others else ""
    return seeds_note(report, name, f"{listed(['accuracy', *means])}: means over them{first}")


def _difference(compared: Compared | None) -> str:
    if compared is None:
        return NONE
    grey = "" if compared.beyond_chance else " class=faint"
    return f"<td{grey}>{points(compared.diff)} <small>{span(compared.low, compared.high)}</small></td>"


def _ends(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f" <small>{pct(low)}–{pct(high)}</small>"


def _value(numbers: Numbers, name: str) -> float | None:
    if not numbers.get("mean_n_tokens") and name in ("free_accuracy", "invalid_rate"):
        return None  # a judge that writes nothing has no text to parse
    return numbers.get(name)


def _cell(numbers: Numbers, name: str) -> str:
    value = _value(numbers, name)
    if value is None or _COLUMNS[name][1]:
        return cell(value)
    low, high = numbers.get(f"{name}_low"), numbers.get(f"{name}_high")
    ends = "" if low is None or high is None else f' title="{low:.3f} to {high:.3f}"'
    shown = f"{value:.3f}".replace("-", "−")
    return f"<td{ends}>{shown}</td>"
