"""A comparison's summary as tables: on the terminal, and as Markdown that a README or a paper can take."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from data_tools.visible import visible
from genrm_lightning.evaluation.report import SETS, percent, points

_NONE = "–"
Cells = tuple[str, list[str], list[list[str]]]  # title, heads, rows


def tables(summary: Mapping[str, Any]) -> Iterator[Cells]:
    """The tables of a summary, as text: accuracies, differences, costs."""
    yield _accuracies(summary["rows"])
    if summary["differences"]:
        yield _differences(summary["rows"], summary["differences"])
    yield _costs(summary["rows"])


def notes(summary: Mapping[str, Any]) -> list[str]:
    """What a reader of the tables must know, and what is missing from them."""
    sizes = "; ".join(f"{key.upper()}: {name}, {summary['n_pairs'][key]} pairs" for key, name in SETS.items())
    said = [
        f"{sizes}. Percent; in brackets 95 % intervals over pairs. Accuracy reads p(A), every pair in both orders; "
        "free accuracy parses the judge's own text, invalid is wrong. A reward model's scores know no order."
    ]
    if any(one["seeds"] > 1 for one in summary["rows"]):
        said.append("± standard deviation over seeds, lowest to highest seed; the intervals are of the seeds' mean.")
    if any(summary["n_dropped"].values()):
        left_out = ", ".join(f"{n} of {key.upper()}" for key, n in summary["n_dropped"].items() if n)
        said.append(f"Left out for all methods, because one of them could not take their length: {left_out}.")
    for cost, numbers in summary["unequal"].items():
        said.append(f"NOT EQUAL: {cost}: " + ", ".join(f"{name} {_count(n)}" for name, n in numbers.items()) + ".")
    for name, why in summary["failed"].items():
        said.append(f"FAILED: {name}: {why}")
    if summary["missing"]:
        said.append(f"Not run yet: {'; '.join(summary['missing'])}.")
    return said


def render(summary: Mapping[str, Any], console: Console) -> None:
    """Print the tables and the notes."""
    for title, heads, rows in tables(summary):
        table = Table(box=box.SIMPLE_HEAD, title=title, padding=(0, 1, 0, 0), pad_edge=False)
        for i, head in enumerate(heads):
            table.add_column(Text(visible(head)), justify="right" if i else "left", overflow="fold")
        for one in rows:
            table.add_row(*(Text(visible(cell)) for cell in one))  # a label may hold what rich takes for markup
        console.print(table)
    for note in notes(summary):
        console.print(Text(visible(note), style="bold" if note.startswith(("NOT EQUAL", "FAILED")) else "dim"))


def markdown(summary: Mapping[str, Any]) -> str:
    """The same as Markdown."""
    lines: list[str] = []
    for title, heads, rows in tables(summary):
        lines += [f"**{title}**", "", _line(heads), _line(["---", *["---:"] * (len(heads) - 1)])]
        lines += [*map(_line, rows), ""]
    return "\n".join([*lines, *(f"{_escaped(note)}\n" for note in notes(summary))])


def _accuracies(rows: Sequence[Mapping[str, Any]]) -> Cells:
    kinds = sorted({kind for one in rows for kind in one["categories_ood"]})
    kinds = kinds if len(kinds) > 1 else []
    heads = ["method", "ID", "OOD", *kinds, "right in both orders", "free accuracy", "invalid"]
    body = []
    for one in rows:
        found = one["categories_ood"]
        cells = [_with_interval(one, f"accuracy_{key}") for key in SETS]
        cells += [percent(found[kind]["accuracy"]) if kind in found else _NONE for kind in kinds]
        ends = ("position_consistent_accuracy_id", "free_accuracy_id", "invalid_rate_id")
        body.append([one["label"], *cells, *(_NONE if one[end] is None else percent(one[end]) for end in ends)])
    return "Held-out accuracy (OOD by category; the last three are ID)", heads, body


def _differences(rows: Sequence[Mapping[str, Any]], differences: Sequence[Mapping[str, Any]]) -> Cells:
    labels = {one["method"]: one["label"] for one in rows}
    baselines = list(dict.fromkeys(one["baseline"] for one in differences))
    found = {(one["method"], one["baseline"], one["set"]): one for one in differences}
    heads = ["method", *(f"{labels[name]}, {key.upper()}" for name in baselines for key in SETS)]
    body = []
    for method, label in labels.items():
        cells = [found.get((method, name, key)) for name in baselines for key in SETS]
        if any(cells):
            body.append([label, *(_NONE if one is None else _change(one) for one in cells)])
    return "Points above a baseline, pair by pair", heads, body


def _costs(rows: Sequence[Mapping[str, Any]]) -> Cells:
    counts = ("pairs", "samples", "sampled_tokens", "steps", "trained_tokens")
    heads = ["method", "labelled pairs", "samples", "tokens sampled", "steps", "tokens trained", "minutes"]
    body = []
    for one in rows:
        told = [f"{one['seconds'] / 60:.1f}" if one["seconds"] else _NONE, f"{one['tokens_a_verdict']:.0f}"]
        body.append([one["label"], *(_count(one[name]) for name in counts), *told])
    return "What training took (minutes: sampling and fits)", [*heads, "tokens a verdict"], body


def _with_interval(one: Mapping[str, Any], name: str) -> str:
    text = f"{percent(one[name])} ({percent(one[f'{name}_low'])}–{percent(one[f'{name}_high'])})"
    if one[f"{name}_sd"] is None:
        return text
    return f"{text} ±{percent(one[f'{name}_sd'])} [{percent(one[f'{name}_min'])}–{percent(one[f'{name}_max'])}]"


def _change(one: Mapping[str, Any]) -> str:
    spread = "" if one["sd"] is None else f" ±{percent(one['sd'])}"
    return f"{points(one['diff'])} ({points(one['low'])} to {points(one['high'])}){spread}"


def _count(value: float) -> str:
    return f"{value:,.0f}" if value else _NONE


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(map(_escaped, cells))} |"


def _escaped(text: str) -> str:
    """Text that stays in its cell and is no markup: no tag, link or image."""
    for mark, shown in (("\\", "\\\\"), ("|", "\\|"), ("<", "&lt;"), ("](", "]\\("), ("\n", " ")):
        text = text.replace(mark, shown)
    return visible(text)
