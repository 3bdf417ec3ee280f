"""Benchmarks by their own published protocols."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from data_tools.page.sections import text
from genrm_lightning.report_page.charts.axes import around
from genrm_lightning.report_page.charts.intervals import interval_svg
from genrm_lightning.report_page.model import Method
from genrm_lightning.report_page.report import Report
from genrm_lightning.report_page.sections.parts import block, cell, pct, row, scale, table

HOW = (
    "Scores in percent as each benchmark defines them, which is not always an accuracy over pairs: sections may have "
    "weights, a win may need all of several comparisons. Intervals are bootstraps over prompts, widened by Wilson’s "
    "bound where all outcomes are alike."
)


def section(report: Report) -> str:
    found: dict[str, list[tuple[Method, Mapping[str, Any]]]] = {}
    for method in report.methods:
        for name, one in method.benchmarks.items():
            if one.get("score") is not None:
                found.setdefault(name, []).append((method, one))
    return block("benchmarks", "Benchmarks by their own protocols", HOW, "".join(
        _benchmark(report, name, known) for name, known in found.items()
    ))  # fmt: skip


def _benchmark(report: Report, name: str, known: list[tuple[Method, Mapping[str, Any]]]) -> str:
    sections = list(dict.fromkeys(one for _, protocol in known for one in protocol.get("sections") or {}))
    values = [p[key] for _, p in known for key in ("score", "low", "high") if p.get(key) is not None]
    span, _ = around(min(values), max(values))
    rows, notes = [], {}
    for method, protocol in known:
        ends = protocol.get("low"), protocol.get("high")
        drawn = interval_svg(protocol["score"], *ends, span, report.colour(method))
        parts = [(protocol.get("sections") or {}).get(one) or {} for one in sections]
        cells = [cell(protocol["score"], *ends), f"<td class=draw>{drawn}</td>"]
        rows.append(
            row(report, method, [*cells, *(cell(one.get("score"), one.get("low"), one.get("high")) for one in parts)])
        )
        own = list(protocol.get("notes") or ())
        notes[method.label] = own or ["not the whole benchmark was judged"] * (protocol.get("complete") is False)
    heads = ["judge", "score", scale(f"{pct(span[0], 0)} %", f"{pct(span[1], 0)} %"), *map(text, sections)]
    told = "".join(f"<p class=note>{text(line)}</p>" for line in _lines(notes))
    return f"<h3>{text(known[0][1].get('benchmark') or name)}</h3>{table(heads, rows)}{told}"


def _lines(notes: Mapping[str, list[str]]) -> list[str]:
    """Each note once, with the judges that it is of where it is not of all."""
    judges: dict[str, list[str]] = {}
    for label, own in notes.items():
        for note in own:
            judges.setdefault(note, []).append(label)
    return [note if len(its) == len(notes) else f"{', '.join(its)}: {note}" for note, its in judges.items()]
