"""What verdicts and training took."""

from __future__ import annotations

from genrm_lightning.report_page.charts.lines import Line, Point, line_chart
from genrm_lightning.report_page.model import Method, Numbers
from genrm_lightning.report_page.report import Report, has
from genrm_lightning.report_page.sections.parts import (
    NONE,
    amount,
    block,
    by_set,
    figure,
    legend,
    row,
    seeds_note,
    set_name,
    table,
)

HOW = (
    "A verdict is one pair in one order, with all of its samples. Seconds are of the machine that judged and say "
    "little beside those of another one. What training took are sums over all of its stages, in the mean over seeds."
)
SEEDS = "tokens and seconds a verdict are those of the first one"
_TRAINING = {
    "pairs": "labelled<br>pairs",
    "samples": "samples",
    "sampled_tokens": "tokens<br>sampled",
    "steps": "steps",
    "trained_tokens": "tokens<br>trained",
    "seconds": "minutes<br>of training",
}


def section(report: Report) -> str:
    charts, labels = [], []
    for name in report.sets:
        lines = []
        for method, numbers in report.numbers(name, "accuracy"):
            tokens = _tokens(numbers)
            if tokens is not None:
                ends = numbers.get("accuracy_low"), numbers.get("accuracy_high")
                point = Point(tokens, numbers["accuracy"], *ends)
                lines.append(Line(method.label, report.colour(method), [point], joined=False))
        if len({line.points[0].x for line in lines}) > 1:
            labels += [line.name for line in lines]
            most = max(line.points[0].x for line in lines)
            ticks = [(most * i / 4, f"{most * i / 4:,.0f}") for i in range(5)]
            charts.append(
                figure(
                    f"Accuracy by tokens a verdict, {set_name(name)}",
                    line_chart(lines, ticks, "rationale tokens a verdict", "%", bands=0)
                    + seeds_note(report, name, f"accuracies are means over them, {SEEDS}"),
                )
            )
    drawn = legend(report, labels) + f"<div class=plots>{''.join(charts)}</div>" if charts else ""
    return block("cost", "Cost", HOW, drawn + by_set(report, lambda name: _verdicts(report, name)) + _training(report))


def _tokens(numbers: Numbers) -> float | None:
    """Rationale tokens of a presentation."""
    if has(numbers, "tokens_per_verdict"):
        return numbers["tokens_per_verdict"]
    if None in (numbers.get("mean_n_tokens"), numbers.get("n_samples"), numbers.get("n_presentations") or None):
        return None
    return numbers["mean_n_tokens"] * numbers["n_samples"] / numbers["n_presentations"]


def _seconds(method: Method, name: str) -> float | None:
    on = method.sets[name]
    if has(on.numbers, "seconds_per_verdict"):
        return on.numbers["seconds_per_verdict"]
    n = on.numbers.get("n_presentations")
    return on.seconds / n if on.seconds is not None and n else None


def _verdicts(report: Report, name: str) -> str:
    rows, known = [], False
    for method, numbers in report.numbers(name):
        seconds, tokens = _seconds(method, name), _tokens(numbers)
        known |= seconds is not None or tokens is not None
        shown, samples = numbers.get("n_presentations"), numbers.get("n_samples")
        per_order = samples / shown if shown and samples is not None else None
        cells = [
            amount(numbers.get("n_pairs")),
            NONE if per_order is None else f"<td>{per_order:g}</td>",
            amount(tokens),
        ]
        cells.append(NONE if seconds is None else f"<td>{seconds:.3g}</td>")
        rows.append(row(report, method, cells))
    heads = ["judge", "pairs", "samples<br>an order", "tokens<br>a verdict", "seconds<br>a verdict"]
    return table(heads, rows) + seeds_note(report, name, SEEDS) if known else ""


def _training(report: Report) -> str:
    known = [method for method in report.methods if method.training]
    columns = [name for name in _TRAINING if any(name in method.training for method in known)]
    rows = []
    for method in known:
        values = {**method.training}
        if "seconds" in values:
            values["seconds"] /= 60
        rows.append(row(report, method, [amount(values.get(name)) for name in columns]))
    return "<h3>Training</h3>" + table(["judge", *(_TRAINING[name] for name in columns)], rows) if rows else ""
