"""The pairs' part of a page: a sample to read, with the differences of its sides marked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from data_tools.differences import Piece, differences
from data_tools.page.numbers import UNKNOWN
from data_tools.page.sections import text
from data_tools.view.judged import said
from data_tools.view.shown import facts, letter
from data_tools.visible import visible

MAX_CHARS = 20_000  # of a text that the page shows
MAX_JUDGMENTS = 32  # of a pair


def section(
    rows: pl.DataFrame, judgments: Mapping[str, Sequence[Mapping[str, Any]]], total: int, *, sampled: bool
) -> str:
    """Pairs one below the other, with a filter that the page's script brings to life."""
    how = (
        f"a sample of {rows.height:,} of {total:,}, from every source in turn"
        if sampled
        else f"{rows.height:,} of {total:,}"
    )
    choices = "".join(_choices(rows[column], column) for column in ("source", "category"))
    articles = "\n".join(article(row, _judged(judgments.get(row["pair_id"], ()))) for row in rows.iter_rows(named=True))
    return (
        f"<section id=pairs><h2>Pairs: {how}</h2><p>Marked: words that only this side has, at their place.</p>"
        f"<form id=filter hidden>{choices}<label>text <input id=text type=search></label>"
        "<output id=count></output></form>"
        f"{articles}</section>"
    )


def _choices(values: pl.Series, column: str) -> str:
    there = values.fill_null(UNKNOWN).unique().sort()
    options = "".join(f'<option value="{text(value)}">{text(value)}</option>' for value in there)
    return f'<label>{column} <select id={column}><option value="">all</option>{options}</select></label>'


def article(row: Mapping[str, Any], below: str, most: int = MAX_CHARS) -> str:
    """One pair: its prompt and its sides beside each other, their differences marked.

    Args:
        row: of PREFERENCE.
        below: HTML of what stands beneath the sides.
        most: characters of each text that are shown.
    """
    attributes = " ".join(f'data-{name}="{text(row[name] or UNKNOWN)}"' for name in ("source", "category"))
    heading, *more = facts(row)
    said_of_it = " · ".join(f"<span>{text(what)}</span> {text(value)}" for what, value in more)
    turns = "".join(
        f"<div class=turn><b>{text(str(turn['role']))}</b>{plain(str(turn['content']), most)}</div>"
        for turn in row["prompt"] or ()
        if turn is not None
    )
    is_a = letter(row) == "A"
    named = {
        side: f"{'A' if is_a == (side == 'chosen') else 'B'}, {_size(row[side])}" for side in ("chosen", "rejected")
    }
    chosen, rejected = ((side, f"{side} <small>{named[side]}</small>", row[side] or "") for side in named)
    sides = beside(chosen, rejected, most)
    return (
        f"<article {attributes}><h3>{text(heading[1])}</h3><p class=facts>{said_of_it}</p>"
        f"<div class=prompt tabindex=0>{turns}</div>{sides}{below}</article>"
    )


def beside(first: tuple[str, str, str], second: tuple[str, str, str], most: int = MAX_CHARS) -> str:
    """Two texts beside each other, the words that only one of them has marked.

    Args:
        first, second: (the side's class in the style, its heading as HTML, its text).
        most: characters that are shown of each.
    """
    shown, beyond = zip(*(_cut(content, most) for _, _, content in (first, second)), strict=True)
    marked = differences(*shown)
    sides = zip((first, second), (marked.first, marked.second), beyond, strict=True)
    note = f"<p class=note>{text(marked.note)}</p>" if marked.note else ""
    drawn = "".join(_side(kind, heading, pieces, rest) for (kind, heading, _), pieces, rest in sides)
    return f"<div class=sides>{drawn}</div>{note}"


def _side(kind: str, heading: str, pieces: Sequence[Piece], beyond: str) -> str:
    body = "".join(f"<mark>{text(piece)}</mark>" if different else text(piece) for piece, different in pieces)
    return f'<div class="{kind}"><h4>{heading}</h4><div class=text dir=auto tabindex=0>{body}{beyond}</div></div>'


def _size(whole: str | None) -> str:
    return "missing" if whole is None else f"{len(whole):,} characters"


def _judged(judgments: Sequence[Mapping[str, Any]]) -> str:
    if not judgments:
        return ""
    lines = []
    for judgment in judgments[:MAX_JUDGMENTS]:
        line, outcome = said(judgment)
        lines.append(f"<p class={outcome}>{text(line)}</p>{plain(judgment['rationale'] or '(no rationale)')}")
    outcomes = [said(judgment)[1] for judgment in judgments]
    counts = ", ".join(f"{outcomes.count(name)} {name}" for name in ("right", "wrong", "invalid") if name in outcomes)
    rest = len(judgments) - MAX_JUDGMENTS
    more = f"<p class=note>{rest:,} more judgments</p>" if rest > 0 else ""
    return f"<details><summary>{len(judgments):,} judgments: {counts}</summary>{''.join(lines)}{more}</details>"


def plain(content: str, most: int = MAX_CHARS) -> str:
    """A text by itself, at most so many characters of it."""
    shown, beyond = _cut(content, most)
    return f"<div class=text dir=auto>{text(shown)}{beyond}</div>"


def _cut(content: str, most: int) -> tuple[str, str]:
    """The part of a text that is shown, harmless, and what to say of the rest in HTML."""
    rest = len(content) - most
    beyond = f"<i class=note>… {rest:,} more characters</i>" if rest > 0 else ""
    return visible(content[:most]), beyond
