"""A value with its interval in one line of a table, on a scale that the table's rows share."""

from __future__ import annotations

from collections.abc import Sequence

from data_tools.page.sections import text
from genrm_lightning.report_page.charts.axes import percent, series, title


def interval_svg(
    value: float,
    low: float | None,
    high: float | None,
    scale: tuple[float, float],
    place: int,
    *,
    marks: Sequence[float] = (),
    said: str = "",
) -> str:
    """The interval as a bar and the value as a tick in it.

    Args:
        scale: what lies at the left and the right end; what is beyond is cut off.
        marks: values that every row shows, such as chance.
        said: under the pointer; empty: the numbers in percent.
    """
    first, last = scale

    def across(x: float) -> float:
        return 100 * min(max((x - first) / (last - first), 0.0), 1.0)

    parts = ["<line class=grid x1=0 x2=100 y1=8 y2=8 />"]
    parts += [f'<line class=half x1="{across(x):.2f}" x2="{across(x):.2f}" y1=0 y2=16 />' for x in marks]
    ends = ""
    if low is not None and high is not None:
        ends = f", 95 % interval {percent(low)} to {percent(high)}"
        width = max(across(high) - across(low), 0.3)
        parts.append(f'<rect class="range {series(place)}" x="{across(low):.2f}" y=5 width="{width:.2f}" height=6 />')
    x = across(value)
    parts.append(f'<line class="tick {series(place)}" x1="{x:.2f}" x2="{x:.2f}" y1=1.5 y2=14.5 />')
    return _framed(parts, said or f"{percent(value)}{ends}")


def bar_svg(
    value: float, low: float | None, high: float | None, scale: tuple[float, float], place: int, base: float = 0.0,
    said: str = "",
) -> str:  # fmt: skip
    """A bar from ``base`` to the value, with its interval as a line."""
    first, last = scale

    def across(x: float) -> float:
        return 100 * min(max((x - first) / (last - first), 0.0), 1.0)

    left, right = sorted((across(base), across(value)))
    parts = [
        f'<rect class="fill {series(place)}" x="{left:.2f}" y=3 width="{max(right - left, 0.3):.2f}" height=10 />',
        f'<line class=half x1="{across(base):.2f}" x2="{across(base):.2f}" y1=0 y2=16 />',
    ]
    ends = ""
    if low is not None and high is not None:
        ends = f", 95 % interval {100 * low:.1f} to {100 * high:.1f}"
        parts.append(f'<line class=interval x1="{across(low):.2f}" x2="{across(high):.2f}" y1=8 y2=8 />')
        parts += [f'<line class=interval x1="{across(x):.2f}" x2="{across(x):.2f}" y1=5 y2=11 />' for x in (low, high)]
    return _framed(parts, said or f"{percent(value)}{ends}")


def _framed(parts: Sequence[str], said: str) -> str:

    return (
        f'<svg class=share viewBox="0 0 100 16" preserveAspectRatio=none role=img aria-label="{text(said)}">'
        f"{title(said)}{''.join(parts)}</svg>"
    )
