"""What the page says first: which judge is best on what, and which others may be as good."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from data_tools.page.sections import text
from genrm_lightning.report_page.model import Method
from genrm_lightning.report_page.pairwise import Compared
from genrm_lightning.report_page.report import Report
from genrm_lightning.report_page.sections.parts import chip, listed, pct, points, set_name

HOW = (
    "A judge is <b>within chance</b> of the best where the 95 % interval of their difference on the same pairs holds "
    "0. The intervals count the pairs of one prompt together and hold for all judges of a set at once (Bonferroni)."
)
_FEW = 4  # sets that one sentence can hold


@dataclass(frozen=True)
class Standing:
    """A set's best judge, and how far the others are behind it (their difference is at most 0).

    Attributes:
        n: pairs that all judges of the set have judged, on which they are ranked.
        left_out: the set's other pairs: those that did not fit one judge or another.
        accuracy: of the best one on these pairs, with the ends of its interval (None: not known).
    """

    name: str
    best: Method
    others: Sequence[tuple[Method, Compared]]
    n: int
    left_out: int
    accuracy: tuple[float, float | None, float | None]

    @property
    def level(self) -> list[Method]:
        """The others that are within chance of the best."""
        return [method for method, compared in self.others if not compared.beyond_chance]


def standings(report: Report) -> list[Standing]:
    """A set's methods by accuracy on the pairs that all of them have judged, for each set that has such pairs.

    The pairs that do not fit a judge are its longest, which may be the hard ones: it must not win by their absence.
    """
    found = []
    for name, scored in report.scored.items():
        there = [method for method in report.methods if name in method.sets]
        n = scored.common.height
        if not there or not n:
            continue
        accuracies = {method.label: scored.accuracy(method.label) for method in there}
        best, *rest = sorted(there, key=lambda method: -accuracies[method.label][0])
        behind = [(method, scored.compare(best.label, method.label, len(rest), scored.common)) for method in rest]
        accuracy = accuracies[best.label]
        if scored.scores[best.label].height == n:  # the run's own numbers are of these pairs, and of all its seeds
            numbers = best.sets[name].numbers
            if numbers.get("accuracy") is not None:
                accuracy = tuple(numbers.get(f"accuracy{end}") for end in ("", "_low", "_high"))
        others = [(method, one) for method, one in behind if one is not None]
        found.append(Standing(name, best, others, n, scored.pairs.height - n, accuracy))
    return found


def section(report: Report, found: Sequence[Standing]) -> str:
    """The headline, and a line a set."""
    lines = "".join(f"<li>{_line(report, one)}</li>" for one in found)
    ranked = {one.name for one in found}
    lines += "".join(
        f"<li><b>{set_name(name)}</b>: no pair was judged by all of its judges, so none is called the best.</li>"
        for name in report.sets
        if name not in ranked
    )
    how = f"<p>{HOW}</p>" if any(one.others for one in found) else ""
    return f"<section id=headline><p class=lede>{_lede(found)}</p><ul class=standings>{lines}</ul>{how}</section>"


def _lede(found: Sequence[Standing]) -> str:
    compared = [one for one in found if one.others]
    if not compared:
        return _alone(found)
    n = len(compared)
    sets = f"all {n} sets" if n > 2 else "both sets" if n == 2 else "this set"
    if n < len(found):
        sets = f"the {n} sets that several have judged" if n > 1 else set_name(compared[0].name)
    return _compared(compared, sets)


def _alone(found: Sequence[Standing]) -> str:
    """Judges that nobody can be compared with."""
    if not found:
        return "No pair was judged by all judges of its set"
    said: dict[str, list[Standing]] = {}
    for one in found:
        said.setdefault(one.best.label, []).append(one)
    parts = []
    for label, its in said.items():
        shares = sorted(its, key=lambda one: one.accuracy[0])
        if len(its) > _FEW:
            low, high = (f"{pct(one.accuracy[0])} % on {set_name(one.name)}" for one in (shares[0], shares[-1]))
            on = f"{low} to {high}, {len(its)} sets in all"
            parts.append(f"<b>{text(label)}</b> is right from {on}")
            continue
        first, *rest = its
        on = [f"{pct(first.accuracy[0])} % of the time on {set_name(first.name)}"]
        on += [f"{pct(one.accuracy[0])} % on {set_name(one.name)}" for one in rest]
        parts.append(f"<b>{text(label)}</b> is right {listed(on)}")
    return "; ".join(parts)


def _compared(found: Sequence[Standing], sets: str) -> str:
    fits = [{one.best.label, *(method.label for method in one.level)} for one in found]
    everywhere = [one for one in dict.fromkeys(x.best.label for x in found) if all(one in fit for fit in fits)]
    alone = {one.best.label for one in found if not one.level}
    names = {one.best.label for one in found}
    if len(names) == 1 and len(alone) == 1 and all(not one.level for one in found):
        return f"<b>{text(found[0].best.label)}</b> is the best judge on {sets}, beyond chance"
    in_all = [label for label in dict.fromkeys(m for fit in fits for m in sorted(fit)) if all(label in f for f in fits)]
    if len(names) == 1 and len(in_all) == 1:
        clearly = [set_name(one.name) for one in found if not one.level]
        beyond = f", beyond chance on {listed(clearly)}" if clearly else ""
        return f"<b>{text(in_all[0])}</b> has the highest accuracy on {sets}{beyond}"
    if len(in_all) == 1:
        return f"<b>{text(in_all[0])}</b> is the best judge or within chance of the best on {sets}"
    if in_all:
        shown = listed(f"<b>{text(label)}</b>" for label in (everywhere + [x for x in in_all if x not in everywhere]))
        judges = {method.label for one in found for method in (one.best, *(other for other, _ in one.others))}
        ahead = " are ahead" if judges > {*in_all} else ""
        return f"{shown}{ahead}: each is best or within chance of the best on {sets}"
    parts = [f"<b>{text(one.best.label)}</b> on {set_name(one.name)}" for one in found]
    return f"No judge is best everywhere: {listed(parts)}"


def _line(report: Report, one: Standing) -> str:
    share, low, high = one.accuracy
    ends = "" if low is None or high is None else f" ({pct(low)} to {pct(high)})"
    coin = ""
    if ends:
        coin = ", worse than a coin" if high < 0.5 else ", which a coin may reach too" if low <= 0.5 else ""
    best = f"{chip(report, one.best)}<b>{text(one.best.label)}</b>"
    number = f"{pct(share)} %"
    several = bool(one.others)
    left_out = ""
    if one.left_out:
        whom = "all judges" if several else "the judge"
        left_out = f" that {whom} could read ({one.left_out:,} more did not fit{' one or another' * several})"
    where = f"<b>{set_name(one.name)}</b>, {one.n:,} pairs{left_out}"
    if not several:
        return f"{where}: {best} is right {number} of the time{ends}{coin}."
    parts = [f"{where}: {best} has the highest accuracy, {number}{ends}{coin}."]
    level = [(method, c) for method, c in one.others if not c.beyond_chance]
    below = [(method, c) for method, c in one.others if c.beyond_chance]
    for what, those in (("Within chance of it", level), ("Clearly below it", below)):
        if those:
            names = listed(f"{text(method.label)} <small>{points(c.diff)}</small>" for method, c in those)
            parts.append(f"{what}: {names}.")
    return " ".join(parts)
