"""The numbers' part of a page: overview, sources, lengths, a probe."""

from __future__ import annotations

from html import escape

import polars as pl

from data_tools.page import plots
from data_tools.page.numbers import Numbers, Share
from data_tools.page.plots import amount_svg, share_svg
from data_tools.schema import SPLITS
from data_tools.visible import visible

MOST = 60  # rows of a table of sources or categories; the rest is told in one
PROBE = ("rule", "slice", "accuracy", "low", "high", "rows")


def text(value: str) -> str:
    """Text of unknown origin as HTML."""
    return escape(visible(value))


def overview(numbers: Numbers) -> str:
    """The first numbers, and how rows divide into splits, categories and kinds of labels."""
    tiles = {
        "pairs": f"{numbers.rows:,}",
        "prompts": f"{numbers.prompts:,}",
        "sources": f"{len(numbers.sources):,}",
        "longer response chosen": _percent(numbers.longer),
    }
    shown = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in tiles.items())
    counts = {"Splits": numbers.splits, "Categories": numbers.categories, "Labels": numbers.labels}
    tables = "".join(_amounts(name, values, numbers.rows) for name, values in counts.items())
    return f'<section><dl class="tiles">{shown}</dl><div class="thirds">{tables}</div></section>'


def _amounts(heading: str, counts: dict[str, int], rows: int) -> str:
    lines = [
        f"<tr><th>{text(name)}</th><td>{n:,}</td><td class=draw>{amount_svg(n / rows)}</td></tr>"
        for name, n in list(counts.items())[:MOST]
    ]
    if rest := list(counts.values())[MOST:]:
        lines.append(f"<tr><th>{len(rest):,} more</th><td>{sum(rest):,}</td><td></td></tr>")
    return f"<div><h2>{heading}</h2><table>{''.join(lines)}</table></div>"


def sources(numbers: Numbers) -> str:
    """A row a source: its rows, prompts and splits, and how often its longer response is the chosen one."""
    names = [*SPLITS, *sorted(set(numbers.splits) - {*SPLITS})]
    names = [name for name in names if name in numbers.splits]
    lines = []
    for source in numbers.sources[:MOST]:
        more = "".join(
            f"<td class=more>{n:,}</td>" for n in (source.prompts, *(source.splits.get(x, 0) for x in names))
        )
        lines.append(f"<tr><th>{text(source.name)}</th><td>{source.rows:,}</td>{_share(source.longer)}{more}</tr>")
    if rest := numbers.sources[MOST:]:
        lines.append(f"<tr><th>{len(rest):,} more</th><td>{sum(source.rows for source in rest):,}</td></tr>")
    heads = "".join(f"<th class=more scope=col>{text(name)}</th>" for name in ("prompts", *names))
    return (
        "<section><h2>Sources, and how often the longer response is the chosen one</h2>"
        "<p>A bar to the right: longer responses win more often than not. Equal lengths count half. Intervals are of "
        "95 %, with the pairs of one prompt taken together.</p>"
        f"<div class=wide><table><thead><tr><th scope=col>source</th><th scope=col>pairs</th>"
        f"<th scope=col>longer chosen</th><th class=draw scope=col>{_SCALE}</th>{heads}</tr></thead>"
        f"<tbody>{''.join(lines)}</tbody></table></div></section>"
    )


_SCALE = "<span class=scale><span>0 %</span><span>50 %</span><span>100 %</span></span>"


def lengths(numbers: Numbers) -> str:
    """Histograms of lengths and margins."""
    values, sides = numbers.values, ("prompt", "chosen", "rejected")
    drawn = dict(zip(sides, plots.lengths([values[side] for side in sides]), strict=True))
    drawn |= {"difference": plots.signed(values["difference"]), "margin": plots.margins(values["margin"])}
    figures = "".join(
        _figure(heading, drawn[name], label, name)
        for heading, name, label in (
            ("Prompt", "prompt", _LOGARITHMIC),
            ("Chosen", "chosen", _LOGARITHMIC),
            ("Rejected", "rejected", _LOGARITHMIC),
            ("Chosen minus rejected", "difference", "characters; on the right the chosen one is longer"),
            ("Margin, where it is known", "margin", "strength of the preference"),
        )
    )
    return (
        "<section><h2>Lengths and margins</h2><p>Pairs by value. The dashed line is the median; paler bars at the ends "
        f"are all that lies beyond.</p><div class=plots>{figures}</div></section>"
    )


_LOGARITHMIC = "characters, on a logarithmic scale"


def _figure(heading: str, drawn: plots.Histogram | None, label: str, kind: str) -> str:
    if drawn is None:
        return f"<figure><figcaption>{heading}</figcaption><p>unknown for all pairs</p></figure>"
    caption = f"{heading} <small>median {plots.number(drawn.median)}</small>"
    return f"<figure><figcaption>{caption}</figcaption>{plots.histogram_svg(drawn, label, kind)}</figure>"


def probe(table: pl.DataFrame) -> str:
    """What naive rules score, in the table's order.

    Raises:
        ValueError: a column of ``PROBE`` is missing.
    """
    if missing := [name for name in PROBE if name not in table.columns]:
        raise ValueError(f"expected a probe with {', '.join(PROBE)}; missing: {', '.join(missing)}")
    lines, before = [], None
    for row in table.select(PROBE).iter_rows(named=True):
        part = str(row["slice"])
        first = ' class="first"' if part != before else ""
        before = part
        score = "<td>–</td><td></td>"
        if row["accuracy"] is not None:
            score = _scored(row["accuracy"], row["low"], row["high"])
        rows = "–" if row["rows"] is None else f"{row['rows']:,}"
        lines.append(f"<tr{first}><th>{text(str(row['rule']))}</th><th>{text(part)}</th><td>{rows}</td>{score}</tr>")
    return (
        "<section><h2>What naive rules score</h2><p>Accuracy of rules that judge nothing. What they win, a judge can "
        "win without judging.</p><div class=wide><table><thead><tr><th scope=col>rule</th>"
        "<th class=name scope=col>slice</th><th scope=col>pairs</th><th scope=col>accuracy</th>"
        f"<th class=draw scope=col>{_SCALE}</th></tr></thead>"
        f"<tbody>{''.join(lines)}</tbody></table></div></section>"
    )


def _share(share: Share) -> str:
    return _scored(share.share, share.low, share.high)


def _scored(share: float, low: float | None, high: float | None) -> str:
    ends = "" if low is None or high is None else f" <small>{100 * low:.0f}–{100 * high:.0f}</small>"
    return f"<td>{100 * share:.1f} %{ends}</td><td class=draw>{share_svg(share, low, high)}</td>"


def _percent(share: Share) -> str:
    return f"{100 * share.share:.1f} % <small>{100 * share.low:.1f}–{100 * share.high:.1f}</small>"
