"""Histograms and bars as inline SVG. Colours are classes of the page's style, so a plot follows light and dark."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from math import ceil, floor, log2, log10

import polars as pl

WIDTH, HEIGHT = 360, 190  # of a histogram, in its own units
_LEFT, _RIGHT, _TOP, _BOTTOM = 42, 10, 10, 34
_BINS = 30  # nearly: of differences


@dataclass(frozen=True)
class Histogram:
    """Rows by value: bin ``i`` holds the values in [edges[i], edges[i + 1]), and is as wide on paper as any other.

    Attributes:
        counts: of the bins.
        below, above: rows before the first bin and behind the last.
        median: of all values.
        ticks: values that the axis names.
    """

    edges: list[float]
    counts: list[int]
    below: int
    above: int
    median: float
    ticks: list[float]

    def place(self, value: float) -> float:
        """Where a value lies, in bins from the first edge."""
        i = min(max(bisect_right(self.edges, value) - 1, 0), len(self.counts) - 1)
        return i + (value - self.edges[i]) / (self.edges[i + 1] - self.edges[i])


def lengths(values: list[pl.DataFrame]) -> list[Histogram | None]:
    """Histograms of lengths over the same bins, two an octave; all but 0.1 % at either end of each lie within.

    Args:
        values: for each ``value`` in ascending order, whole and not negative, and how many ``rows`` have it.
    """
    there = [table for table in values if not table.is_empty()]
    if not there:
        return [None for _ in values]
    low = max(1.0, min(_quantile(table, 0.001) for table in there))
    high = max(2.0, *(_quantile(table, 0.999) for table in there))
    steps = sorted({ceil(2 ** (k / 2)) for k in range(2 * ceil(log2(high + 1)) + 1)})
    first = bisect_right(steps, low) - 1
    last = bisect_right(steps, high)
    edges = [float(step) for step in steps[first : last + 1]]
    ticks = [10.0**k for k in range(10) if edges[0] <= 10**k <= edges[-1]]
    return [_filled(table, edges, ticks) for table in values]


def signed(values: pl.DataFrame) -> Histogram | None:
    """A histogram of whole numbers around 0 in bins of one round width; 98 % of the rows lie within, or more."""
    if values.is_empty():
        return None
    reach = max(abs(_quantile(values, 0.01)), abs(_quantile(values, 0.99)), 1.0)
    width = _round_up(2 * reach / _BINS)
    n = ceil((reach + 1) / width)
    edges = [width * i for i in range(-n, n + 1)]
    return _filled(values, edges, [edges[0], 0.0, edges[-1]])


def margins(values: pl.DataFrame) -> Histogram | None:
    """A histogram of margins in (0, 1] in 20 bins, which hold their lower ends; the last one 1 as well."""
    edges = [i / 20 for i in range(20)] + [1.0 + 1e-9]
    return _filled(values, edges, [0.0, 0.5, 1.0])


def _quantile(values: pl.DataFrame, share: float) -> float:
    """The smallest value that at least this share of the rows does not exceed."""
    cumulated = values["rows"].cum_sum()
    return float(values["value"][int((cumulated >= share * cumulated[-1]).arg_max())])


def _filled(values: pl.DataFrame, edges: list[float], ticks: list[float]) -> Histogram | None:
    if values.is_empty():
        return None
    places = pl.Series(edges).search_sorted(values["value"].cast(pl.Float64), side="right")
    by_bin = values.select("rows", bin=places).group_by("bin").agg(pl.col("rows").sum())
    found = dict(by_bin.select("bin", "rows").iter_rows())
    counts = [int(found.get(i, 0)) for i in range(len(edges) + 1)]
    return Histogram(edges, counts[1:-1], counts[0], counts[-1], _quantile(values, 0.5), ticks)


def _round_up(x: float) -> float:
    """The smallest of 1, 2, 2.5, 5 times a power of ten that is at least x and whole.

    >>> [_round_up(x) for x in (0.3, 3, 21, 260)]
    [1.0, 5.0, 25.0, 500.0]
    """
    power = 10.0 ** floor(log10(max(x, 1.0)))
    steps = (1, 2, 5, 10) if power == 1 else (1, 2, 2.5, 5, 10)
    return next(step * power for step in steps if step * power >= x)


def number(x: float) -> str:
    """A number on an axis: 1,500 or 0.25."""
    return f"{x:,.0f}" if abs(x) >= 10 or abs(x - round(x)) < 1e-6 else f"{x:g}"


def histogram_svg(drawn: Histogram, label: str, kind: str) -> str:
    """The histogram's picture; each bar tells its numbers under the pointer.

    Args:
        label: of the axis below.
        kind: the bars' class: ``prompt``, ``chosen``, ``rejected``, ``margin`` or ``difference``, whose bars below 0
            are of the class ``rejected`` and the others of ``chosen``.
    """
    bars = [drawn.below, *drawn.counts, drawn.above]
    top = max(*bars, 1)
    step = (WIDTH - _LEFT - _RIGHT) / len(bars)
    base, high = HEIGHT - _BOTTOM, HEIGHT - _BOTTOM - _TOP
    start, end = number(drawn.edges[0]), number(drawn.edges[-1])
    spans = [f"{number(low)} to {number(up)}" for low, up in pairwise(drawn.edges)]
    spans = [f"below {start}", *spans, f"{end} or more"]
    negative = bisect_left(drawn.edges, 0.0)
    parts = []
    for share in (0.5, 1.0):
        y = base - share * high
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(_text(_LEFT - 5, y + 4, _short(share * top), "end"))
    for i, rows in enumerate(bars):
        if not rows:
            continue
        which = kind if kind != "difference" else "rejected" if i <= negative else "chosen"
        beyond = " beyond" if i in (0, len(bars) - 1) else ""
        tall = max(rows / top * high, 0.8)
        parts.append(
            f'<rect class="bar {which}{beyond}" x="{_LEFT + i * step + 0.5:.1f}" y="{base - tall:.1f}" '
            f'width="{step - 1:.1f}" height="{tall:.1f}"><title>{spans[i]}: {rows:,} pairs</title></rect>'
        )
    parts.append(f'<line class="axis" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{base}" y2="{base}"/>')
    for value in drawn.ticks:
        x = _LEFT + step * (1 + drawn.place(value))
        parts.append(f'<line class="axis" x1="{x:.1f}" x2="{x:.1f}" y1="{base}" y2="{base + 3}"/>')
        parts.append(_text(x, base + 14, number(value), "middle"))
    if drawn.edges[0] <= drawn.median < drawn.edges[-1]:
        x = _LEFT + step * (1 + drawn.place(drawn.median))
        parts.append(f'<line class="median" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{base}"/>')
    parts.append(_text((_LEFT + WIDTH - _RIGHT) / 2, HEIGHT - 5, label, "middle"))
    said = f"{label}: median {number(drawn.median)}, {sum(bars):,} pairs"
    return (
        f'<svg class="plot" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(said)}">'
        f"{''.join(parts)}</svg>"
    )


def share_svg(share: float, low: float | None, high: float | None) -> str:
    """A bar from one half to a share of [0, 1], with its interval as a line."""
    left, right = sorted((50.0, 100 * share))
    ends = "" if low is None or high is None else f", 95 % interval {low:.1%} to {high:.1%}"
    parts = [
        '<rect class="track" x="0" y="3" width="100" height="8"/>',
        f'<rect class="bar {"chosen" if share >= 0.5 else "rejected"}" x="{left:.2f}" y="3" '
        f'width="{right - left:.2f}" height="8"/>',
        '<line class="half" x1="50" x2="50" y1="0" y2="14"/>',
    ]
    if ends:
        a, b = 100 * low, 100 * high
        parts.append(f'<line class="interval" x1="{a:.2f}" x2="{b:.2f}" y1="7" y2="7"/>')
        parts += [f'<line class="interval" x1="{x:.2f}" x2="{x:.2f}" y1="4" y2="10"/>' for x in (a, b)]
    title = f"{share:.1%}{ends}"
    return (
        f'<svg class="share" viewBox="0 0 100 14" preserveAspectRatio="none" role="img" aria-label="{title}">'
        f"<title>{title}</title>{''.join(parts)}</svg>"
    )


def amount_svg(share: float) -> str:
    """A bar for a share of all rows."""
    return (
        '<svg class="amount" viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">'
        f'<rect class="bar prompt" x="0" y="0" width="{100 * share:.2f}" height="10"/></svg>'
    )


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _short(x: float) -> str:
    """Rows on an axis of little room: 950, 1.2k, 3M."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if x >= size:
            return f"{x / size:.3g}{letter}"
    return f"{x:.3g}"
