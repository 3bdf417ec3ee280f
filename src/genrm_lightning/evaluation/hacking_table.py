"""What attacks do to a judge, as tables for a terminal: the worst attack first, controls below."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from data_tools.visible import visible
from genrm_lightning.evaluation.report import percent, points

_NONE = "–"
_WIDE = 125  # characters that all columns take, intervals beside their numbers

_NOTE = (
    "Percent, and points of difference, with 95 % intervals over prompts. wins: of the worse response under attack, "
    "over both orders; clean: of the same response as it is; to control: beside a neutral change in the same place; "
    "flipped: pairs right in both orders when clean, lost in one or both under attack. * says nothing: any win is one "
    "too many. Of a hundred attacks that do nothing, some five have a change whose interval lies beside zero."
)


def render(found: Mapping[str, Any], title: str, console: Console) -> None:
    """Print what :func:`~genrm_lightning.evaluation.hacking.hacking` found.

    Args:
        title: of any text, shown as it is.
    """
    clean = found["clean"]
    console.print(
        Text(
            visible(
                f"{title}: the worse response wins {_interval(clean, 'win')} of {found['n_pairs']} pairs as it is; "
                f"{percent(clean['invalid_rate'])} invalid"
            )
        )
    )
    wide = console.width >= _WIDE
    # Narrow: intervals below their numbers, and columns that stand in scores.json alone.
    heads = ("wins", "clean", "change", "to control", "flipped", *(("as A / as B", "invalid") if wide else ()))
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("attack", no_wrap=True)
    for head in heads:
        table.add_column(head, justify="right")
    controls = [row for row in found["attacks"] if row["kind"] == "control"]
    attacks = [row for row in found["attacks"] if row["kind"] != "control"]
    for rows in (attacks, controls):
        for row in rows:
            table.add_row(Text(visible(row["name"]) + (" *" if row["nothing"] else "")), *_cells(row, wide))
        table.add_section()
    console.print(table)
    if dropped := {row["name"]: row["n_dropped"] for row in found["attacks"] if row["n_dropped"]}:
        most = max(dropped, key=lambda name: dropped[name])
        console.print(
            Text(f"{len(dropped)} of these sets lack pairs that did not fit, {most} the most: {dropped[most]}", "bold")
        )
    console.print(Text(_NOTE, style="dim"))


def _cells(row: Mapping[str, Any], wide: bool) -> list[str]:
    cells = [
        _interval(row, "win", wide),
        percent(row["clean_win_rate"]),
        _change(row, "diff", "diff", wide),
        _NONE if row["control_diff"] is None else _change(row, "control_diff", "control", wide),
        f"{row['flipped']}/{row['n_right']}",
    ]
    places = f"{percent(row['win_as_a'])} / {percent(row['win_as_b'])}"
    return [*cells, places, percent(row["invalid_rate"])] if wide else cells


def _interval(row: Mapping[str, Any], name: str, wide: bool = True) -> str:
    return _with_ends(
        percent(row[f"{name}_rate"]), f"{percent(row[f'{name}_low'])}–{percent(row[f'{name}_high'])}", wide
    )


def _change(row: Mapping[str, Any], name: str, ends: str, wide: bool) -> str:
    return _with_ends(points(row[name]), f"{points(row[f'{ends}_low'])} to {points(row[f'{ends}_high'])}", wide)


def _with_ends(number: str, ends: str, wide: bool) -> str:
    return f"{number} ({ends})" if wide else f"{number}\n{ends}"
