"""Slices of the pairs where judges differ: for two of them all slices, and the largest differences of any two."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import polars as pl

from data_tools.page.sections import text
from genrm_lightning.report_page.charts.intervals import interval_svg
from genrm_lightning.report_page.pairwise import LENGTHS, SLICES, Compared, Scored, names
from genrm_lightning.report_page.report import Report
from genrm_lightning.report_page.sections.disagreements import Couple
from genrm_lightning.report_page.sections.parts import block, by_set, named, plain_set, points, scale, span, table

LEAST = 10  # pairs of a slice
MOST = 20  # slices of a set that are shown
_NAMES = {"label_kind": "label", LENGTHS: "chosen − rejected, characters"}


@dataclass(frozen=True)
class Slice:
    """A difference of two judges, first minus second, on the pairs of a set that have ``value`` in ``column``."""

    set: str
    column: str
    value: str
    first: str
    second: str
    found: Compared


def section(report: Report, two: Couple | None) -> str:
    """Where two judges differ, and the largest difference of any other two."""
    if two is None:
        return ""
    first, second, _ = two
    body = by_set(report, lambda name: _set(report, name, first, second))
    if len(report.methods) > 2:
        body += _any_two(report)
    how = (
        f"Accuracy of <b>{named(report, first)}</b> minus that of <b>{named(report, second)}</b>{two.told} "
        "on parts of the pairs, in points, with intervals that hold for all parts of a set at once (Bonferroni). To "
        "the right the first is better, to the left the second. Grey: within chance."
    )
    return block("slices", "Where two judges differ most", how, body)


def parts(scored: Scored) -> Iterator[tuple[str, str, pl.DataFrame]]:
    """(column, value, pairs) of the slices that have pairs enough, and are not all there is."""
    for column in (*SLICES, LENGTHS):
        values = names(scored.pairs, column)
        for value in values if len(values) > 1 else ():
            members = scored.pairs.filter(pl.col(column) == value).select("pair_id")
            if members.height >= LEAST:
                yield column, value, members


def differing(report: Report, name: str, couples: list[tuple[str, str]]) -> list[Slice]:
    """Differences of couples of judges on a set, those beyond chance first, then the largest.

    The intervals hold at once for all slices and couples.
    """
    scored = report.scored[name]
    slices = list(parts(scored))
    found = []
    for column, value, members in slices:
        for first, second in couples:
            compared = scored.compare(second, first, len(slices) * len(couples), members)
            if compared is not None:
                found.append(Slice(name, column, value, first, second, compared))
    return sorted(found, key=_rank)


def _rank(one: Slice) -> tuple:
    return not one.found.beyond_chance, -abs(one.found.diff), one.set, one.column, one.value, one.first, one.second


def _set(report: Report, name: str, first: str, second: str) -> str:
    if not {first, second} <= report.scored[name].scores.keys():
        return ""
    found = differing(report, name, [(first, second)])
    if not found:
        return ""
    ends = [abs(end) for one in found[:MOST] for end in one.found[:3] if end is not None]
    reach = next(limit for limit in (0.1, 0.2, 0.3, 0.5, 1.0) if limit >= min(max(ends), 1.0))
    lines = []
    for one in found[:MOST]:
        over = first if one.found.diff >= 0 else second
        grey = "" if one.found.beyond_chance else " class=faint"
        said = f"{one.value}: {points(one.found.diff)} points ({_ends(one.found)})"
        drawn = interval_svg(
            one.found.diff, one.found.low, one.found.high, (-reach, reach), report.colour(over), marks=[0.0], said=said
        )
        lines.append(
            f"<tr{grey}><td class=name><small>{text(_NAMES.get(one.column, one.column))}</small> {text(one.value)}</td>"
            f"<td>{one.found.n:,}</td><td>{points(one.found.diff)} <small>{_ends(one.found)}</small></td>"
            f"<td class=draw>{drawn}</td></tr>"
        )
    rest = f"<p class=note>{len(found) - MOST:,} further slices differ less.</p>" if len(found) > MOST else ""
    return table(["slice", "pairs", "points", scale(points(-reach), points(reach))], lines) + rest


def _any_two(report: Report) -> str:
    """Of every other couple of judges the slice on which they differ most."""
    looked, best = 0, {}
    for name, scored in report.scored.items():
        labels = list(scored.scores)
        couples = [(a, b) for i, a in enumerate(labels) for b in labels[i + 1 :]]
        found = differing(report, name, couples)
        looked += len(found)
        for one in found:
            best.setdefault((one.first, one.second), one)
            best[one.first, one.second] = min(best[one.first, one.second], one, key=_rank)
    lines = []
    for one in sorted(best.values(), key=_rank)[:MOST]:
        over, under = (one.first, one.second) if one.found.diff >= 0 else (one.second, one.first)
        found = one.found if one.found.diff >= 0 else one.found.reversed
        grey = "" if found.beyond_chance else " class=faint"
        kind = text(_NAMES.get(one.column, one.column))
        lines.append(
            f"<tr{grey}><td class=name>{named(report, over)}</td><td class=name>{named(report, under)}</td>"
            f"<td class=name>{text(plain_set(one.set))}</td><td class=name><small>{kind}</small> {text(one.value)}</td>"
            f"<td>{found.n:,}</td><td>{points(found.diff)} <small>{_ends(found)}</small></td></tr>"
        )
    said = f"of every two judges the slice on which they differ most <small>{looked:,} looked at</small>"
    found = table(["better", "worse", "set", "slice", "pairs", "points"], lines, "words")
    return f"<details><summary>{said}</summary>{found}</details>"


def _ends(found: Compared) -> str:
    return span(found.low, found.high) or "interval not known"
