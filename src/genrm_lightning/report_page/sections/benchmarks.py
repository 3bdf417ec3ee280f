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
    "weights, a win may need all of several comparisons. Intervals are bootstraps over prompts."
)


def section(report: Report) -> str:
    found: dict[str, list[tuple[Method, Mapping[str, Any]]]] = {}
    for method in report.methods:
        for name, one in method.benchmarks.items():
            if isinstance(one, dict) and one.get("score") is not None:
                found.setdefault(name, []).append((method, one))
    return block("benchmarks", "Benchmarks by their own protocols", HOW, "".join(
        _benchmark(report, name, known) for name, known in found.items()
    ))  # fmt: skip


def _benchmark(report: Report, name: str, known: list[tuple[Method, Mapping[str, Any]]]) -> str:
    sections = list(dict.fromkeys(one for _, protocol in known for one in protocol.get("sections") or {}))
    values = [p[key] for _, p in known for key in ("score", "low", "high") if p.get(key) is not None]
    span, _ = around(min(values), max(values))
    rows, notes = [], []
    for method, protocol in known:
        ends = protocol.get("low"), protocol.get("high")
        drawn = interval_svg(protocol["score"], *ends, span, report.colour(method))
        parts = [(protocol.get("sections") or {}).get(one) or {} for one in sections]
        cells = [cell(protocol["score"], *ends), f"<td class=draw>{drawn}</td>"]
        rows.append(
            row(report, method, [*cells, *(cell(one.get("score"), one.get("low"), one.get("high")) for one in parts)])
        )
        notes += [str(note) for note in protocol.get("notes") or ()]
        if protocol.get("complete") is False:
            lacking = f"of {protocol['n_expected']:,} pairs" if protocol.get("n_expected") else "of the benchmark"
            notes.append(f"{method.label}: not all {lacking} were judged")
    heads = ["judge", "score", scale(f"{pct(span[0], 0)} %", f"{pct(span[1], 0)} %"), *map(text, sections)]
    told = "".join(f"<p class=note>{text(note)}</p>" for note in dict.fromkeys(notes))
    return f"<h3>{text(str(known[0][1].get('benchmark') or name))}</h3>{table(heads, rows)}{told}"
