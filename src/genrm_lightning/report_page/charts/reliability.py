"""A reliability diagram: what share is right at each confidence, beside the diagonal where both are equal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import sqrt
from typing import Any

from genrm_lightning.report_page.charts.axes import Axes, percent, series, title

_TICKS = [(value / 10, f"{10 * value}") for value in (5, 6, 7, 8, 9, 10)]
_SHARES = [(value / 4, f"{25 * value}") for value in range(5)]


def reliability(bins: Sequence[Mapping[str, Any]], place: int, said: str) -> str:
    """Bins of confidence in [0.5, 1], each a dot whose area is its share of all, with its interval.

    Args:
        bins: mean_p, share_right, share_low, share_high (None: unknown), n; those without any are left out.
        said: describes the diagram.
    """
    known = [one for one in bins if one.get("n") and None not in (one.get("mean_p"), one.get("share_right"))]
    axes = Axes(
        (0.5, 1.0), (0.0, 1.0), _TICKS, _SHARES, "confidence, %", "right, %", width=240, height=210, left=34, right=10
    )
    total = sum(one["n"] for one in known) or 1
    diagonal = " ".join(f"{axes.across(share):.1f},{axes.up(share):.1f}" for share in (0.5, 1.0))
    parts = [f'<polyline class=level points="{diagonal}"/>']
    for one in known:
        x = axes.across(one["mean_p"])
        low, high = one.get("share_low"), one.get("share_high")
        if low is not None and high is not None:
            parts.append(
                f'<line class="whisker {series(place)}" x1="{x:.1f}" x2="{x:.1f}" '
                f'y1="{axes.up(low):.1f}" y2="{axes.up(high):.1f}"/>'
            )
    path = " ".join(f"{axes.across(one['mean_p']):.1f},{axes.up(one['share_right']):.1f}" for one in known)
    parts.append(f'<polyline class="line thin {series(place)}" points="{path}"/>')
    for one in known:
        x, y = axes.across(one["mean_p"]), axes.up(one["share_right"])
        told = f"confidence {percent(one['mean_p'])}: {percent(one['share_right'])} right, {one['n']:,} verdicts"
        radius = 2 + 7 * sqrt(one["n"] / total)
        parts.append(
            f'<circle class="dot {series(place)}" cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}">{title(told)}</circle>'
        )
    return axes.svg("".join(parts), said)
