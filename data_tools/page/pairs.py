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
    articles = "\n".join(_pair(row, judgments.get(row["pair_id"], ())) for row in rows.iter_rows(named=True))
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


def _pair(row: Mapping[str, Any], judgments: Sequence[Mapping[str, Any]]) -> str:
    attributes = " ".join(f'data-{name}="{text(row[name] or UNKNOWN)}"' for name in ("source", "category"))
    heading, *more = facts(row)
    said_of_it = " · ".join(f"<span>{text(what)}</span> {text(value)}" for what, value in more)
    turns = "".join(
        f"<div class=turn><b>{text(str(turn['role']))}</b>{_plain(str(turn['content']))}</div>"
        for turn in row["prompt"] or ()
        if turn is not None
    )
    shown, beyond = zip(*(_cut(row[side] or "") for side in ("chosen", "rejected")), strict=True)
    marked = differences(*shown)
    is_a = letter(row) == "A"
    sides = _side("chosen", "A" if is_a else "B", marked.first, row["chosen"], beyond[0]) + _side(
        "rejected", "B" if is_a else "A", marked.second, row["rejected"], beyond[1]
    )
    note = f"<p class=note>{text(marked.note)}</p>" if marked.note else ""
    return (
        f"<article {attributes}><h3>{text(heading[1])}</h3><p class=facts>{said_of_it}</p>"
        f"<div class=prompt tabindex=0>{turns}</div><div class=sides>{sides}</div>{note}{_judged(judgments)}</article>"
    )


def _side(side: str, named: str, pieces: Sequence[Piece], whole: str | None, beyond: str) -> str:
    body = "".join(f"<mark>{text(piece)}</mark>" if different else text(piece) for piece, different in pieces)
    count = "missing" if whole is None else f"{len(whole):,} characters"
    return (
        f"<div class={side}><h4>{side} <small>{named}, {count}</small></h4>"
        f"<div class=text dir=auto tabindex=0>{body}{beyond}</div></div>"
    )


def _judged(judgments: Sequence[Mapping[str, Any]]) -> str:
    if not judgments:
        return ""
    lines = []
    for judgment in judgments[:MAX_JUDGMENTS]:
        line, outcome = said(judgment)
        lines.append(f"<p class={outcome}>{text(line)}</p>{_plain(judgment['rationale'] or '(no rationale)')}")
    outcomes = [said(judgment)[1] for judgment in judgments]
    counts = ", ".join(f"{outcomes.count(name)} {name}" for name in ("right", "wrong", "invalid") if name in outcomes)
    rest = len(judgments) - MAX_JUDGMENTS
    more = f"<p class=note>{rest:,} more judgments</p>" if rest > 0 else ""
    return f"<details><summary>{len(judgments):,} judgments: {counts}</summary>{''.join(lines)}{more}</details>"


def _plain(content: str) -> str:
    shown, beyond = _cut(content)
    return f"<div class=text dir=auto>{text(shown)}{beyond}</div>"


def _cut(content: str) -> tuple[str, str]:
    """The part of a text that is shown, harmless, and what to say of the rest in HTML."""
    rest = len(content) - MAX_CHARS
    beyond = f"<i class=note>… {rest:,} more characters</i>" if rest > 0 else ""
    return visible(content[:MAX_CHARS]), beyond
