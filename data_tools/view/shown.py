"""A pair as Rich shows it: prompt, chosen beside rejected with their differences marked, judgments beneath."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.panel import Panel
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from data_tools.differences import Piece, differences
from data_tools.order import chosen_is_a
from data_tools.view.judged import said
from data_tools.visible import visible

SIDE_BY_SIDE = 90  # columns from which two responses stand side by side
_COLOURS = {"chosen": "green", "rejected": "red"}
_PLAIN = {"chosen": ("{+", "+}"), "rejected": ("[-", "-]")}  # as wdiff writes what differs
_ROLES = {"system": "magenta", "user": "cyan", "assistant": "yellow"}
_OUTCOMES = {"right": "green", "wrong": "red", "invalid": "yellow"}


def facts(row: dict[str, Any]) -> list[tuple[str, str]]:
    """(what, value) of what is known of a pair beside its texts."""
    margin = None if row["margin"] is None else f"{row['margin']:.3g}"
    known = [
        ("id", row["pair_id"]),
        ("source", row["source"]),
        ("category", row["category"]),
        ("subset", row["subset"]),
        ("split", row["split"]),
        ("label", row["label_kind"]),
        ("margin", margin),
        ("group", row["group_id"]),
        ("A is", ("chosen" if letter(row) == "A" else "rejected") if row["pair_id"] is not None else None),
    ]
    return [(what, visible(value).replace("\n", " ")) for what, value in known if value is not None]


def letter(row: dict[str, Any]) -> str:
    """The letter of the chosen response in the pair's own order."""
    return "A" if row["pair_id"] is not None and chosen_is_a(row["pair_id"], False) else "B"


def pair(
    row: dict[str, Any], heading: str, judgments: Sequence[dict[str, Any]] = (), *, width: int, plain: bool = False
) -> RenderableType:
    """A pair to print.

    Args:
        row: a mapping of PREFERENCE; missing texts are shown as such.
        heading: which one it is, such as "3 of 120".
        judgments: of :class:`data_tools.view.judged.Judgments`.
        width: columns there are; under 90 the responses stand one under the other.
        plain: marks as characters, ``{+…+}`` on the chosen side and ``[-…-]`` on the rejected one, for output
            without colour.
    """
    marked = differences(*(visible(row[side] or "") for side in ("chosen", "rejected")))
    sides = [
        _response(row, "chosen", marked.first, letter(row), plain),
        _response(row, "rejected", marked.second, "B" if letter(row) == "A" else "A", plain),
    ]
    if width >= SIDE_BY_SIDE:
        beside = Table.grid(expand=True, padding=0)
        for _ in sides:
            beside.add_column(ratio=1)
        beside.add_row(*sides)
        sides = [beside]
    parts: list[RenderableType] = [Rule(Text(heading), style="dim"), _facts(row), Text()]
    for turn in row["prompt"] or ():
        role = visible(str((turn or {}).get("role")))
        parts.append(Text(role, f"bold {_ROLES.get(role, 'white')}"))
        parts.append(_indented(str((turn or {}).get("content"))))
    parts += [Text(), *sides]
    if marked.note:
        parts.append(Text(f"({marked.note})", "dim"))
    for judgment in judgments:
        line, outcome = said(judgment)
        parts.append(Text(visible(line), f"bold {_OUTCOMES[outcome]}"))
        parts.append(_indented(judgment["rationale"] or "(no rationale)"))
    return Group(*parts)


def _indented(text: str) -> Padding:
    # Folded: rich would end a word that is longer than a line with an ellipsis.
    return Padding(Text(visible(text), overflow="fold"), (0, 0, 0, 2), expand=False)


def _facts(row: dict[str, Any]) -> Text:
    line = Text(overflow="fold")
    for what, value in facts(row):
        line.append(" · " if line else "", "dim").append(f"{what} ", "dim").append(value)
    return line


def _response(row: dict[str, Any], side: str, pieces: Sequence[Piece], named: str, plain: bool) -> Panel:
    text = Text(overflow="fold")
    opening, closing = _PLAIN[side]
    for piece, different in pieces:
        if different:
            text.append(f"{opening}{piece}{closing}" if plain else piece, f"bold {_COLOURS[side]}")
        else:
            text.append(piece)
    if row[side] is None:
        text = Text("(missing)", "dim")
    title = Text(f"{side} ({named}), {len(row[side] or ''):,} characters", f"bold {_COLOURS[side]}")
    return Panel(text, title=title, title_align="left", border_style=_COLOURS[side])
