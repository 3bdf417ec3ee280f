"""Pairs of which two judges think most differently, to read: both responses, and what either judge wrote of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from data_tools.artifact import damage_told, scan_tables
from data_tools.page.pairs import article, beside
from data_tools.page.sections import text
from data_tools.schema import JUDGMENT, PREFERENCE
from data_tools.view.judged import said
from genrm_lightning.report_page.charts.axes import series
from genrm_lightning.report_page.report import Report
from genrm_lightning.report_page.sections.headline import Standing
from genrm_lightning.report_page.sections.parts import block, chip, named, plain_set, seeds_note

MOST_CHARS = 4_000  # of a text that is shown
MOST_BYTES = 2_500_000  # of all pairs together: the page is to stay one that a browser opens at once
_SHOWN = ("pair_id", "swapped", "iteration", "sample_index", "rationale", "verdict", "p_a", "finish_reason", "judge")
ORDERS = {False: "in the pair’s own order", True: "in the other order"}


class Couple(NamedTuple):
    """Labels of two judges to read beside each other, and how they were chosen, in words ("": there was no choice)."""

    first: str
    second: str
    chosen: str

    @property
    def told(self) -> str:
        """How they were chosen, as HTML to follow their names."""
        return f" ({text(self.chosen)})" if self.chosen else ""


def couple(report: Report, found: Sequence[Standing]) -> Couple | None:
    """Of the first set with two judges the best two that write rationales, the best one first; of fewer such judges,
    the best two of all."""
    for one in found:
        by_rank = [one.best, *(method for method, _ in one.others)]
        writing = [method for method in by_rank if method.sets[one.name].numbers.get("mean_n_tokens")]
        first, second, *_ = [*(writing if len(writing) > 1 else by_rank), None, None]
        if second is not None:
            place = f" on {plain_set(one.name)}" if len(report.sets) > 1 else ""
            wanted = " of those that write rationales" if 1 < len(writing) < len(by_rank) else ""
            return Couple(first.label, second.label, f"the best two{place}{wanted}" if len(by_rank) > 2 else "")
    return None


def section(report: Report, two: Couple | None, n: int) -> str:
    """At most ``n`` pairs a set, those first whose mean probability of the right response differs most."""
    if two is None or n < 1:
        return ""
    first, second, _ = two
    both = first, second
    parts, room = [], MOST_BYTES
    for name, scored in report.scored.items():
        if first not in scored.scores or second not in scored.scores:
            continue
        wanted = scored.disagreements(first, second, n)
        rows = {row["pair_id"]: row for row in _rows(scored.set.pairs, wanted["pair_id"])}
        wrote = [_judgments(report.on(name)[label].judgments[0], wanted["pair_id"]) for label in both]
        shown = []
        for pair_id, *p_right in wanted.iter_rows():
            below = "".join(_order(report, both, [of.get((pair_id, order)) for of in wrote], order) for order in ORDERS)
            html = article(rows[pair_id], _summary(report, both, p_right) + below, MOST_CHARS)
            room -= len(html.encode())
            if room < 0:
                shown.append("<p class=note>Further pairs would make this page too large.</p>")
                break
            shown.append(html)
        heading = f"<h3>{text(plain_set(name))}</h3>" if len(report.scored) > 1 else ""
        parts.append(heading + ("".join(shown) or "<p class=note>On no pair do they differ by ten points or more.</p>"))
        parts.append(seeds_note(report, name, "probabilities are means over them, what is said is of the first one"))
    how = (
        f"<b>{named(report, first)}</b> and <b>{named(report, second)}</b>{two.told} beside each other: the "
        "pairs whose mean probability of the right response, over both orders and all samples, differs most between "
        "the two, half of them in favour of each where there are enough. Marked are words that only one side has. Of "
        "several samples the first is shown."
    )
    return block("pairs", "Pairs on which two judges differ", how, "".join(parts))


def _rows(pairs: Path, ids: pl.Series) -> Sequence[Mapping[str, Any]]:
    with damage_told([pairs]):
        query = scan_tables([pairs], PREFERENCE).filter(pl.col("pair_id").is_in(ids.implode()))
        return query.collect(engine="streaming").to_dicts()


def _judgments(path: Path, ids: pl.Series) -> dict[tuple[str, bool], dict[str, Any]]:
    """(pair, order) -> its first sample."""
    query = scan_tables([path], JUDGMENT).select(_SHOWN).filter(pl.col("pair_id").is_in(ids.implode()))
    with damage_told([path]):
        rows = query.filter(pl.col("sample_index") == 0).collect(engine="streaming").to_dicts()
    return {(row["pair_id"], row["swapped"]): row for row in rows}


def _summary(report: Report, two: tuple[str, str], p_right: Sequence[float]) -> str:
    shown = "".join(
        f"<div><dt>{chip(report, label)}{text(label)}</dt><dd class={_outcome(p)}>{100 * p:.0f} %"
        "<small> for the right response</small></dd></div>"
        for label, p in zip(two, p_right, strict=True)
    )
    return f"<dl class=tiles>{shown}</dl>"


def _outcome(p: float) -> str:
    return "none" if abs(p - 0.5) < 0.005 else "right" if p > 0.5 else "wrong"  # what is shown as 50 % is neither


def _order(report: Report, two: tuple[str, str], wrote: Sequence[Mapping[str, Any] | None], swapped: bool) -> str:
    """What both judges said of one order, their rationales beside each other."""
    if not any(wrote):
        return ""
    sides = []
    for label, one in zip(two, wrote, strict=True):
        line, outcome = (
            said({**one, "iteration": None, "sample_index": None, "judge": None}) if one else ("not judged", "")
        )
        heading = f"{chip(report, label)}{text(label)} <small class={outcome or 'none'}>{text(line)}</small>"
        rationale = (one or {}).get("rationale") or ""
        sides.append((f"judge {series(report.colour(label)).partition(' ')[2]}", heading, rationale))
    written = any(content.strip() for _, _, content in sides)
    if written:
        body = beside(
            *((kind, heading, content or "(no rationale)") for kind, heading, content in sides), most=MOST_CHARS
        )
    else:
        body = "".join(f"<p class=facts>{heading}</p>" for _, heading, _ in sides)
    return f"<details{'' if swapped else ' open'}><summary>{ORDERS[swapped]}</summary>{body}</details>"
