"""What the sections are put together from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from data_tools.page.sections import text
from genrm_lightning.evaluation.report import SETS
from genrm_lightning.report_page.charts.axes import series
from genrm_lightning.report_page.charts.heat import breakable
from genrm_lightning.report_page.model import Method
from genrm_lightning.report_page.report import Report

NONE = "<td>–</td>"


def block(name: str, heading: str, how: str, body: str) -> str:
    """A section, with how to read it below its heading; nothing where it has no body.

    Args:
        name: what the table of contents leads to.
        heading, how: HTML.
    """
    if not body:
        return ""
    return f"<section id={name}><h2>{heading}</h2><p>{how}</p>{body}</section>"


def by_set(report: Report, part: Callable[[str], str], heading: str = "h3") -> str:
    """A part a set, below the set's name where there are several sets."""
    found = {name: part(name) for name in report.sets}
    if len(report.sets) == 1:
        return next(iter(found.values()))
    return "".join(f"<{heading}>{set_name(name)}</{heading}>{html}" for name, html in found.items() if html)


def set_name(name: str) -> str:
    """A set's name as HTML; those of STaR runs with what they are."""
    return f"{name.upper()} <small>{SETS[name]}</small>" if name in SETS else text(name)


def plain_set(name: str) -> str:
    return name.upper() if name in SETS else name


def chip(report: Report, method: Method | str) -> str:
    """A method's colour."""
    return f'<i class="chip {series(report.colour(method))}"></i>'


def named(report: Report, method: Method | str) -> str:
    """A method's colour and its name."""
    label = method if isinstance(method, str) else method.label
    return f"{chip(report, label)}{breakable(label)}"


def head(report: Report, method: Method | str) -> str:
    """The first cell of a method's row."""
    return f"<th scope=row>{named(report, method)}</th>"


def row(report: Report, method: Method | str, cells: Iterable[str]) -> str:
    """A method's row, which goes with it when it is hidden."""
    return f"<tr class=s{report.colour(method)}>{head(report, method)}{''.join(cells)}</tr>"


def table(heads: Sequence[str], rows: Iterable[str], kind: str = "") -> str:
    """A table that scrolls by itself where the screen is narrow. Heads are HTML; ``draw`` before one: a chart below."""
    cells = "".join(
        f"<th class=draw scope=col>{one.removeprefix('draw:')}</th>" if one.startswith("draw:")
        else f"<th scope=col>{one}</th>"
        for one in heads
    )  # fmt: skip
    own = f' class="{kind}"' if kind else ""
    return f"<div class=wide><table{own}><thead><tr>{cells}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"


def scale(low: str, high: str) -> str:
    """The two ends of a chart in a table's column, for its head."""
    return f"draw:<span class=scale><span>{low}</span><span>{high}</span></span>"


def figure(caption: str, drawn: str, kind: str = "") -> str:
    """A chart below its caption (HTML)."""
    own = f' class="{kind}"' if kind else ""
    return f"<figure{own}><figcaption>{caption}</figcaption>{drawn}</figure>"


def legend(report: Report, labels: Iterable[str]) -> str:
    """Which colour is which: on paper, where the page's own switches are not."""
    items = "".join(f"<span>{chip(report, label)}{text(label)}</span>" for label in dict.fromkeys(labels))
    return f"<p class=legend>{items}</p>"


def seeds_note(report: Report, name: str, said: str) -> str:
    """Below a table of a set, where judges of several seeds stand in it: which numbers are of which seeds."""
    on = report.on(name)
    several = [label for label, one in on.items() if len(one.judgments) > 1]
    who = "Judges have several seeds" if len(several) == len(on) else f"{listed(map(text, several))}: several seeds"
    return f"<p class=note>{who}: {said}.</p>" if several else ""


def listed(parts: Iterable[str]) -> str:
    """Parts as a sentence names them.

    >>> listed(["a", "b", "c"])
    'a, b and c'
    """
    *first, last = [*parts] or [""]
    return f"{', '.join(first)} and {last}" if first else last


def complete(rows: Iterable[Mapping[str, Any]] | None, *needed: str) -> list[Mapping[str, Any]]:
    """The rows in which all of these are known."""
    return [one for one in rows or () if all(one.get(name) is not None for name in needed)]


def pct(value: float | None, digits: int = 1) -> str:
    """A share in percent, without the sign."""
    return "–" if value is None else f"{100 * value:.{digits}f}"


def cell(value: float | None, low: float | None = None, high: float | None = None, digits: int = 1) -> str:
    """A share with the ends of its interval in small print."""
    if value is None:
        return NONE
    ends = "" if low is None or high is None else f" <small>{pct(low, digits)}–{pct(high, digits)}</small>"
    return f"<td>{pct(value, digits)}{ends}</td>"


def points(value: float | None) -> str:
    """A difference of shares in points, with a true minus sign.

    >>> points(-0.031)
    '−3.1'
    """
    return "–" if value is None else f"{100 * value:+.1f}".replace("-", "−")


def span(low: float | None, high: float | None) -> str:
    """The ends of a difference's interval; empty where one is not known."""
    return "" if low is None or high is None else f"{points(low)} to {points(high)}"


def amount(value: float | None) -> str:
    """A count in a table."""
    return NONE if value is None else f"<td>{value:,.0f}</td>"
