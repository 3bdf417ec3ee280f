"""What attacks do to a judge, as tables for a terminal: the worst attack first, controls below."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from data_tools.visible import visible
from genrm_lightning.evaluation.report import percent, points

_NONE = "–"
_HEADS = ("wins", "as it is", "change", "to control", "as A / as B", "flipped", "invalid")
_NOTE = (
    "Percent, and points of difference; in brackets 95 % intervals over prompts. wins: of the worse response under "
    "attack, over both orders; change: to the same response as it is; to control: to a neutral change in the same "
    "place; flipped: pairs right in both orders as they are, lost in one or both under attack. * says nothing: any win "
    "is one too many. Of a hundred attacks that do nothing, some five have a change whose interval lies beside zero."
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
    attacks = [row for row in found["attacks"] if row["kind"] != "control"]
    controls = [row for row in found["attacks"] if row["kind"] == "control"]
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("attack", overflow="fold")
    for head in _HEADS:
        table.add_column(head, justify="right")
    for rows in filter(None, (attacks, controls)):
        _add(table, rows)
    console.print(table)
    if dropped := {row["name"]: row["n_dropped"] for row in found["attacks"] if row["n_dropped"]}:
        most = max(dropped, key=lambda name: dropped[name])
        console.print(
            Text(f"{len(dropped)} of these sets lack pairs that did not fit, {most} the most: {dropped[most]}", "bold")
        )
    console.print(Text(_NOTE, style="dim"))


def _add(table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    for row in rows:
        compared = row["control_diff"] is not None
        table.add_row(
            Text(visible(row["name"]) + (" *" if row["nothing"] else "")),
            _interval(row, "win"),
            percent(row["clean_win_rate"]),
            _change(row, "diff", "diff"),
            _change(row, "control_diff", "control") if compared else _NONE,
            f"{percent(row['win_as_a'])} / {percent(row['win_as_b'])}",
            f"{row['flipped']}/{row['n_right']}",
            percent(row["invalid_rate"]),
        )
    table.add_section()


def _interval(row: Mapping[str, Any], name: str) -> str:
    return f"{percent(row[f'{name}_rate'])} ({percent(row[f'{name}_low'])}–{percent(row[f'{name}_high'])})"


def _change(row: Mapping[str, Any], name: str, ends: str) -> str:
    return f"{points(row[name])} ({points(row[f'{ends}_low'])} to {points(row[f'{ends}_high'])})"
