"""A frame with two axes: where a value lies, and the lines and labels of the axes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from math import ceil, floor, log2

from data_tools.page.sections import text

COLOURS = 8  # of the style; a ninth series has the first one's again, with another dash
Tick = tuple[float, str]


@dataclass(frozen=True)
class Axes:
    """A chart's frame.

    Attributes:
        x, y: (lowest, highest) value.
        x_ticks, y_ticks: (value, label); one of x may have several lines, for which ``bottom`` must leave room.
        x_label: below the chart; y_label: above it, at the axis.
        logarithmic: x by its logarithm.
        width, height: in the chart's own units, of which a page shows about one a pixel.
    """

    x: tuple[float, float]
    y: tuple[float, float]
    x_ticks: Sequence[Tick]
    y_ticks: Sequence[Tick]
    x_label: str
    y_label: str = ""
    logarithmic: bool = False
    width: int = 360
    height: int = 230
    left: int = 44
    right: int = 12
    top: int = 22
    bottom: int = 36

    def across(self, value: float) -> float:
        """The place of an x value."""
        low, high, value = (log2(v) if self.logarithmic else v for v in (*self.x, value))
        part = 0.5 if high == low else (value - low) / (high - low)
        return self.left + min(max(part, 0.0), 1.0) * (self.width - self.left - self.right)

    def up(self, value: float) -> float:
        """The place of a y value."""
        low, high = self.y
        part = 0.5 if high == low else (value - low) / (high - low)
        return self.height - self.bottom - min(max(part, 0.0), 1.0) * (self.height - self.top - self.bottom)

    def svg(self, inside: str, said: str) -> str:
        """The whole chart: its axes behind ``inside``; ``said`` describes it to those who do not see it."""
        base, end = self.height - self.bottom, self.width - self.right
        parts = []
        for value, label in self.y_ticks:
            y = self.up(value)
            parts.append(f'<line class=grid x1={self.left} x2={end} y1="{y:.1f}" y2="{y:.1f}"/>')
            parts.append(label_at(self.left - 5, y + 4, label, "end"))
        for value, label in self.x_ticks:
            x = self.across(value)
            parts.append(f'<line class=axis x1="{x:.1f}" x2="{x:.1f}" y1={base} y2="{base + 3}"/>')
            parts += [label_at(x, base + 14 + 12 * i, line, "middle") for i, line in enumerate(label.split("\n"))]
        parts.append(f'<line class=axis x1={self.left} x2={end} y1={base} y2="{base}"/>')
        parts.append(label_at((self.left + end) / 2, self.height - 5, self.x_label, "middle"))
        if self.y_label:
            parts.append(label_at(2, 12, self.y_label, "start"))
        return (
            f'<svg class=plot viewBox="0 0 {self.width} {self.height}" role=img aria-label="{text(said)}">'
            f"{''.join(parts)}{inside}</svg>"
        )


def label_at(x: float, y: float, label: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor={anchor}>{text(label)}</text>'


def title(said: str) -> str:
    """What stands under the pointer."""
    return f"<title>{text(said)}</title>"


def series(place: int) -> str:
    """The classes of the series at a place: its own (to hide it by), its colour and, beyond the colours, its dash."""
    dash = f" d{min(place // COLOURS, 2)}" if place >= COLOURS else ""
    return escape(f"s{place} m{place % COLOURS}{dash}")


def percent(share: float, digits: int = 1) -> str:
    return f"{100 * share:.{digits}f} %"


def around(
    low: float, high: float, floor_at: float = 0.0, ceiling: float = 1.0
) -> tuple[tuple[float, float], list[Tick]]:
    """A range of shares that holds both in whole ticks, and these, labelled in percent.

    >>> around(0.52, 0.87)
    ((0.5, 0.9), [(0.5, '50'), (0.6, '60'), (0.7, '70'), (0.8, '80'), (0.9, '90')])
    """
    low, high = (min(max(end, floor_at), ceiling) for end in (low, high))
    step = next((s for s in (0.01, 0.02, 0.05, 0.1) if (high - low) / s <= 5), 0.2)
    first, last = floor(low / step + 1e-9), ceil(high / step - 1e-9)
    if last == first:
        first, last = (first - 1, last) if (first + 1) * step > ceiling else (first, last + 1)
    ticks = [round(k * step, 4) for k in range(first, last + 1) if floor_at <= round(k * step, 4) <= ceiling]
    return (ticks[0], ticks[-1]), [(tick, f"{100 * tick:.0f}") for tick in ticks]
