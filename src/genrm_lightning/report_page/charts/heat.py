"""A heat map as a table: its numbers stay text that can be read, copied and printed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from data_tools.page.sections import text

STEPS = 5  # of colour on either side of the middle


def breakable(name: str) -> str:
    """A name as HTML that goes on in the next line after a slash or an underscore, if it must."""
    return text(name).replace("/", "/<wbr>").replace("_", "_<wbr>")


@dataclass(frozen=True)
class Cell:
    """A field: what it says, its value in [-1, 1] (0: no colour), what the pointer is told; ``faint``: small print."""

    shown: str
    value: float
    said: str = ""
    faint: bool = False


def heat_map(
    corner: str,
    columns: Sequence[str],
    rows: Sequence[tuple[str, Sequence[Cell | None]]],
    classes: Sequence[str] = (),
    column_classes: Sequence[str] = (),
) -> str:
    """A table with a coloured field for each row and column; None leaves one empty.

    Args:
        columns, rows: names as plain text.
        classes, column_classes: of each row and each column, to hide it by.
    """
    along = list(column_classes) or [""] * len(columns)
    heads = "".join(
        f"<th scope=col{f' class={its}' if its else ''}>{breakable(name)}</th>"
        for name, its in zip(columns, along, strict=True)
    )
    lines = []
    for i, (name, cells) in enumerate(rows):
        own = f' class="{classes[i]}"' if classes else ""
        lines.append(f"<tr{own}><th scope=row>{breakable(name)}</th>{''.join(map(_field, cells, along))}</tr>")
    return (
        f"<div class=wide><table class=heat><thead><tr><th scope=col>{text(corner)}</th>{heads}</tr></thead>"
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )


def shade(value: float) -> str:
    """The class of a value in [-1, 1]: n5 ... n1, none, p1 ... p5."""
    step = min(round(abs(value) * STEPS), STEPS)
    return f"{'p' if value > 0 else 'n'}{step}" if step else "none"


def _field(cell: Cell | None, column: str = "") -> str:
    column = column and f" {column}"
    if cell is None:
        return f'<td class="none{column}">–</td>'
    faint = (" faint" if cell.faint else "") + column
    said = f' title="{text(cell.said)}"' if cell.said else ""
    return f'<td class="{shade(cell.value)}{faint}"{said}>{text(cell.shown)}</td>'
