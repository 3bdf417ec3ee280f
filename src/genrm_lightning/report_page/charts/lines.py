"""Lines over a common x, each with the band of its interval and a point for every value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from genrm_lightning.report_page.charts.axes import Axes, Tick, around, label_at, percent, series, title

_FEW = 10  # points of a line that have room for whiskers
_BESIDE = 2.0  # between whiskers of one x


@dataclass(frozen=True)
class Point:
    """A value with the ends of its interval (None: unknown), and what the pointer is told of it."""

    x: float
    y: float
    low: float | None = None
    high: float | None = None
    said: str = ""


@dataclass(frozen=True)
class Line:
    """A series of points in the order of x. ``place``: its colour; ``dashed``: of the same series, another reading;
    ``joined``: whether a line goes through the points; ``band``: whether their intervals are drawn; ``diamonds``: in
    place of dots."""

    name: str
    place: int
    points: Sequence[Point]
    dashed: bool = False
    joined: bool = True
    band: bool = True
    diamonds: bool = False


@dataclass(frozen=True)
class Level:
    """A horizontal line to compare with, such as chance."""

    y: float
    label: str


def line_chart(
    lines: Sequence[Line],
    x_ticks: Sequence[Tick],
    x_label: str,
    y_label: str,
    *,
    levels: Sequence[Level] = (),
    logarithmic: bool = False,
    bands: int = 4,
    y: tuple[float, float] | None = None,
    inset: float = 0.0,
) -> str:
    """Shares over x.

    Args:
        bands: with more lines than this their bands would hide one another. Whiskers stand instead, a little beside
            each other, and where there are many points the pointer alone tells the ends.
        y: what the y axis must hold besides the lines.
        inset: how far before the first and behind the last x the axis goes.
    """
    points = [point for line in lines for point in line.points]
    values = [v for p in points for v in (p.y, p.low, p.high) if v is not None] + [one.y for one in levels]
    values += y or ()
    span, y_ticks = around(min(values), max(values))
    xs = [point.x for point in points] + [value for value, _ in x_ticks]
    more = 12 * max((label.count("\n") for _, label in x_ticks), default=0)  # lines of the labels
    reach, room = (min(xs) - inset, max(xs) + inset), {"height": 230 + more, "bottom": 36 + more}
    axes = Axes(reach, span, x_ticks, y_ticks, x_label, y_label, logarithmic, **room)
    parts = [_level(axes, one) for one in levels]
    ends = [line for line in lines if line.band]
    for i, line in enumerate(ends):
        if len(ends) <= bands:
            parts.append(_band(axes, line))
        elif len(line.points) <= _FEW:
            parts.append(_whiskers(axes, line, _BESIDE * (i - (len(ends) - 1) / 2) if line.joined else 0.0))
    parts += [_line(axes, line) for line in lines]
    return axes.svg("".join(parts), f"{y_label} by {x_label}: {', '.join(dict.fromkeys(x.name for x in lines))}")


def _level(axes: Axes, level: Level) -> str:
    y, end = axes.up(level.y), axes.width - axes.right
    line = f'<line class=level x1={axes.left} x2={end} y1="{y:.1f}" y2="{y:.1f}"/>'
    return line + label_at(end, y - 4, level.label, "end")


def _band(axes: Axes, line: Line) -> str:
    known = [p for p in line.points if p.low is not None and p.high is not None]
    if len(known) < 2 or not line.joined:
        return _whiskers(axes, line)
    there = [f"{axes.across(p.x):.1f},{axes.up(p.high):.1f}" for p in known]
    back = [f"{axes.across(p.x):.1f},{axes.up(p.low):.1f}" for p in reversed(known)]
    return f'<polygon class="band {series(line.place)}" points="{" ".join(there + back)}"/>'


def _whiskers(axes: Axes, line: Line, beside: float = 0.0) -> str:
    return "".join(
        f'<line class="whisker {series(line.place)}" x1="{axes.across(p.x) + beside:.1f}" '
        f'x2="{axes.across(p.x) + beside:.1f}" '
        f'y1="{axes.up(p.low):.1f}" y2="{axes.up(p.high):.1f}"/>'
        for p in line.points
        if p.low is not None and p.high is not None
    )


def _line(axes: Axes, line: Line) -> str:
    places = [f"{axes.across(p.x):.1f},{axes.up(p.y):.1f}" for p in line.points]
    dashed = " dashed" if line.dashed else ""
    drawn = f'<polyline class="line {series(line.place)}{dashed}" points="{" ".join(places)}"/>' if line.joined else ""
    return drawn + "".join(_dot(axes, line, point) for point in line.points)


def _dot(axes: Axes, line: Line, point: Point) -> str:
    x, y = axes.across(point.x), axes.up(point.y)
    told = title(f"{line.name}: {point.said or percent(point.y)}{_ends(point)}")
    if line.diamonds:
        path = f"M{x - 5:.1f} {y:.1f} L{x:.1f} {y - 5:.1f} L{x + 5:.1f} {y:.1f} L{x:.1f} {y + 5:.1f} Z"
        return f'<path class="diamond {series(line.place)}" d="{path}">{told}</path>'
    radius = 3.5 if len(line.points) <= _FEW else 2
    dashed = " dashed" if line.dashed else ""
    return f'<circle class="dot {series(line.place)}{dashed}" cx="{x:.1f}" cy="{y:.1f}" r="{radius}">{told}</circle>'


def _ends(point: Point) -> str:
    if point.low is None or point.high is None:
        return ""
    return f" ({100 * point.low:.1f} to {100 * point.high:.1f})"
