"""What the page says first: which judge is best on what, and what cannot be told apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from data_tools.page.sections import text
from genrm_lightning.report_page.model import Method
from genrm_lightning.report_page.pairwise import Compared
from genrm_lightning.report_page.report import Report
from genrm_lightning.report_page.sections.parts import chip, pct, points, set_name

HOW = (
    "A judge is <b>within chance</b> of the best where the 95 % interval of their difference on the same pairs holds "
    "0. The intervals count the pairs of one prompt together and hold for all judges of a set at once (Bonferroni)."
)


@dataclass(frozen=True)
class Standing:
    """A set's best judge, and how far the others are behind it (their difference is at most 0)."""

    name: str
    best: Method
    others: Sequence[tuple[Method, Compared]]

    @property
    def level(self) -> list[Method]:
        """The others that are within chance of the best."""
        return [method for method, compared in self.others if not compared.beyond_chance]


def standings(report: Report) -> list[Standing]:
    """A set's methods by accuracy, for each set that somebody judged."""
    found = []
    for name, scored in report.scored.items():
        there = [method for method in report.methods if name in method.sets]
        if not there:
            continue
        there.sort(key=lambda method: -scored.accuracy(method.label))
        best, *rest = there
        behind = [(method, scored.compare(best.label, method.label, len(rest))) for method in rest]
        found.append(Standing(name, best, [(method, one) for method, one in behind if one is not None]))
    return found


def section(report: Report, found: Sequence[Standing]) -> str:
    """The headline, and a line a set."""
    lines = "".join(f"<li>{_line(report, one)}</li>" for one in found)
    how = f"<p>{HOW}</p>" if any(one.others for one in found) else ""
    return f"<section id=headline><p class=lede>{_lede(found)}</p><ul class=standings>{lines}</ul>{how}</section>"


def _lede(found: Sequence[Standing]) -> str:
    sets = f"all {len(found)} sets" if len(found) > 2 else "both sets" if len(found) == 2 else "this set"
    if not any(one.others for one in found):
        one = found[0]
        numbers = one.best.sets[one.name].numbers
        share = pct(numbers.get("accuracy"))
        return f"<b>{text(one.best.label)}</b> is right {share} % of the time on {set_name(one.name)}"
    fits = [{one.best.label, *(method.label for method in one.level)} for one in found]
    everywhere = [one for one in dict.fromkeys(x.best.label for x in found) if all(one in fit for fit in fits)]
    alone = {one.best.label for one in found if not one.level}
    names = {one.best.label for one in found}
    if len(names) == 1 and len(alone) == 1 and all(not one.level for one in found):
        return f"<b>{text(found[0].best.label)}</b> is the best judge on {sets}, beyond chance"
    in_all = [label for label in dict.fromkeys(m for fit in fits for m in sorted(fit)) if all(label in f for f in fits)]
    if len(names) == 1 and len(in_all) == 1:
        clearly = [set_name(one.name) for one in found if not one.level]
        beyond = f", beyond chance on {_listed(clearly)}" if clearly else ""
        return f"<b>{text(in_all[0])}</b> has the highest accuracy on {sets}{beyond}"
    if len(in_all) == 1:
        return f"<b>{text(in_all[0])}</b> is the best judge or within chance of the best on {sets}"
    if in_all:
        shown = _listed(
            [f"<b>{text(label)}</b>" for label in (everywhere + [x for x in in_all if x not in everywhere])]
        )
        return f"{shown} cannot be told apart: each is best or within chance of the best on {sets}"
    parts = [f"<b>{text(one.best.label)}</b> on {set_name(one.name)}" for one in found]
    return f"No judge is best everywhere: {_listed(parts)}"


def _line(report: Report, one: Standing) -> str:
    numbers = one.best.sets[one.name].numbers
    low, high = numbers.get("accuracy_low"), numbers.get("accuracy_high")
    ends = "" if low is None or high is None else f" ({pct(low)} to {pct(high)})"
    coin = ", which a coin may reach too" if low is not None and low <= 0.5 else ""
    pairs = report.scored[one.name].scores[one.best.label].height
    parts = [
        f"<b>{set_name(one.name)}</b>, {pairs:,} pairs: {chip(report, one.best)}<b>{text(one.best.label)}</b> has the "
        f"highest accuracy, {pct(numbers.get('accuracy'))} %{ends}{coin}."
    ]
    level = [(method, c) for method, c in one.others if not c.beyond_chance]
    below = [(method, c) for method, c in one.others if c.beyond_chance]
    for what, those in (("Within chance of it", level), ("Clearly below it", below)):
        if those:
            listed = _listed([f"{text(method.label)} <small>{points(c.diff)}</small>" for method, c in those])
            parts.append(f"{what}: {listed}.")
    return " ".join(parts)


def _listed(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
