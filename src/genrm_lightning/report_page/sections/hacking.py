"""The hacking suite: how often a worse response wins once it tries to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from data_tools.page.sections import text
from genrm_lightning.report_page.charts.heat import Cell, heat_map
from genrm_lightning.report_page.charts.intervals import interval_svg
from genrm_lightning.report_page.model import Method
from genrm_lightning.report_page.report import Report
from genrm_lightning.report_page.sections.parts import block, cell, pct, plain_set, points, row, scale, span, table

HOW = (
    "Fixed attacks change the worse response of a pair and never make it better, so every win they add is the "
    "judge’s mistake. Numbers are win rates of the attacked response in percent; the colour says by how many points "
    "it wins more often (red) or less often (green) than the same response as it is, and a grey number that this is "
    "within chance. Controls change as many characters and say nothing: what they move too is not the attack’s doing."
)
_FULL = 0.4  # a difference that has the full colour


def section(report: Report) -> str:
    parts = []
    for name, known in _by_set(report).items():
        heading = f"<h3>{text(plain_set(name))}</h3>" if name and len(_by_set(report)) > 1 else ""
        parts.append(heading + _summary(report, known) + _map(report, known))
    return block("hacking", "Hacking suite", HOW, "".join(parts))


def _by_set(report: Report) -> dict[str, list[tuple[Method, Mapping[str, Any]]]]:
    """Set ("" where none is named) -> the methods that were attacked on it, with what was found."""
    found: dict[str, list[tuple[Method, Mapping[str, Any]]]] = {}
    for method in report.methods:
        suites = {"": method.hacking} if "attacks" in method.hacking else method.hacking
        for name, suite in suites.items():
            if suite.get("attacks"):
                found.setdefault(name, []).append((method, suite))
    return found


def _attacks(suite: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    return [one for one in suite["attacks"] if None not in (one.get("name"), one.get("win_rate"))]


def _summary(report: Report, known: Sequence[tuple[Method, Mapping[str, Any]]]) -> str:
    """Of each judge: the worse response as it is, and under the attack that works best."""
    rows = []
    for method, suite in known:
        attacks = [one for one in _attacks(suite) if one.get("kind") != "control"]
        if not attacks:
            continue
        worst = max(attacks, key=lambda one: (one["win_rate"], one.get("diff") or 0.0))
        harm = [one for one in attacks if (one.get("diff_low") or 0.0) > 0]
        clean = suite.get("clean") or {}
        ends = worst.get("win_low"), worst.get("win_high")
        rows.append(row(report, method, [
            cell(clean.get("win_rate"), clean.get("win_low"), clean.get("win_high")),
            f"<td class=name>{text(worst['name'])}</td>", cell(worst["win_rate"], *ends),
            f"<td class=draw>{interval_svg(worst['win_rate'], *ends, (0.0, 1.0), report.colour(method))}</td>",
            f"<td>{len(harm)} of {len(attacks)}</td>",
        ]))  # fmt: skip
    heads = ["judge", "worse response<br>wins as it is", "strongest attack", "wins under it", scale("0 %", "100 %")]
    return table([*heads, "attacks that help<br>beyond chance"], rows) if rows else ""


def _map(report: Report, known: Sequence[tuple[Method, Mapping[str, Any]]]) -> str:
    found = {method.label: {one["name"]: one for one in _attacks(suite)} for method, suite in known}
    every = {name: one for attacks in found.values() for name, one in attacks.items()}
    by_family: dict[str, list[str]] = {}
    for name, one in every.items():
        by_family.setdefault(one.get("family") or "attacks", []).append(name)
    labels = [method.label for method, _ in known]
    classes = [f"s{report.colour(label)}" for label in labels]
    parts = []
    for family, names in sorted(by_family.items(), key=lambda one: every[one[1][0]].get("kind") == "control"):
        names.sort(key=lambda name: (-max(found[x][name]["win_rate"] for x in labels if name in found[x]), name))
        rows = [(name, [_cell(label, found[label].get(name)) for label in labels]) for name in names]
        worst = max(found[x][name]["win_rate"] for x in labels for name in names if name in found[x])
        count = f"{len(names)} attack{'s' if len(names) > 1 else ''}, up to {pct(worst)} %"
        shown = f"<summary>{text(family)} <small>{count}</small></summary>"
        opened = " open" if len(by_family) <= 4 else ""
        parts.append(f"<details{opened}>{shown}{heat_map('attack', labels, rows, column_classes=classes)}</details>")
    return "".join(parts)


def _cell(label: str, one: Mapping[str, Any] | None) -> Cell | None:
    if one is None:
        return None
    diff, low, high = (one.get(f"diff{end}") for end in ("", "_low", "_high"))
    change = "" if diff is None else f", {points(diff)} points against the same response as it is"
    change += f" ({span(low, high)})" if span(low, high) else ""
    control = one.get("control_diff")
    change += "" if control is None else f", {points(control)} against its control"
    about = f". {one['description']}" if one.get("description") else ""
    within = diff is None or (low is not None and high is not None and low <= 0 <= high)
    value = 0.0 if within else -diff / _FULL
    said = f"{label}, {one['name']}: wins {pct(one['win_rate'])} %{change}{about}"
    return Cell(pct(one["win_rate"], 0), value, said, within)
