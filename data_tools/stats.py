"""A preference table in numbers: what is in it, and what could be won without judging.

Each function takes MEASURES (measures.py), so that a table of any size is read once, and returns a DataFrame to print
or to draw.
"""

from __future__ import annotations

import math

import polars as pl

from data_tools.measures import by_prompt, longer_chosen, measure
from data_tools.schema import SPLITS

TOTAL = "all"
_REST = 1e-9  # of divisions: 0.15 / 0.05 is a little less than 3
_MOST = 1e100  # what has a place in a histogram


def stats(frame: pl.DataFrame | pl.LazyFrame, by: str = "source") -> pl.DataFrame:
    """:func:`summary` of a PREFERENCE table; a lazy one is streamed."""
    return summary(measure(frame), by)


def summary(measured: pl.DataFrame, by: str = "source") -> pl.DataFrame:
    """One row per value of ``by`` in MEASURES, by name, and a last one over all.

    Args:
        by: ``source``, ``category``, ``subset``, ``split``, ``label_kind`` or ``script``.

    ================  =======================================================================================
    rows              pairs; ``train``, ``validation``, ``test``: by split (null in none of them)
    prompts           distinct ones, letter case and whitespace aside
    labels            kinds of label with their rows, the commonest first
    chars, chars_95   median and 95th percentile of the characters of prompt and longer response together
    longer_chosen     share of pairs whose longer response is the chosen one, equal lengths half: the accuracy
                      of always preferring the longer one
    chosen_is_a       share of pairs whose chosen response the pair's own order shows as A: near 0.5
    turns             mean number of turns of a prompt, over pairs
    responses         mean number of distinct responses to a prompt, over prompts
    margin            median margin of the pairs that have one, else null
    ================  =======================================================================================
    """
    longer = pl.max_horizontal("chosen_chars", "rejected_chars")
    used = ["split", "label_kind", "chosen_chars", "rejected_chars", "chosen_is_a", "turns", "margin"]
    wide = measured.select(*dict.fromkeys([by, *used]), _chars=pl.col("prompt_chars") + longer)
    measures = [
        pl.len().alias("rows"),
        *((pl.col("split") == name).sum().alias(name) for name in SPLITS if by != "split"),
        pl.col("label_kind").cast(pl.String).fill_null("unknown").value_counts().alias("_labels"),
        pl.col("_chars").median().cast(pl.Int64).alias("chars"),
        pl.col("_chars").quantile(0.95).cast(pl.Int64).alias("chars_95"),
        longer_chosen().mean().alias("longer_chosen"),
        pl.col("chosen_is_a").mean().alias("chosen_is_a"),
        pl.col("turns").mean().alias("turns"),
        pl.col("margin").median().alias("margin"),
    ]
    by_value = wide.group_by(by).agg(measures).with_columns(pl.col(by).cast(pl.String)).sort(by)
    overall = wide.select(
        pl.lit(TOTAL).alias(by), *(one.implode() if one.meta.output_name() == "_labels" else one for one in measures)
    )
    # A value may be called as the total is.
    result = pl.concat([by_value.with_columns(_total=False), overall.with_columns(_total=True)])
    labels = [
        ", ".join(f"{kind} {-n:,}" for n, kind in sorted((-row["count"], row["label_kind"]) for row in rows))
        for rows in result["_labels"]
    ]
    result = result.with_columns(pl.Series("_labels", labels, dtype=pl.String)).rename({"_labels": "labels"})
    counts = responses_per_prompt(measured, by)
    means = pl.concat(
        [
            counts.group_by(by).agg(pl.col("responses").mean(), prompts=pl.len(), _total=False),
            responses_per_prompt(measured).select(
                pl.lit(TOTAL).alias(by), pl.col("responses").mean(), prompts=pl.len(), _total=True
            ),
        ]
    )
    result = result.join(means, on=[by, "_total"], how="left", nulls_equal=True, maintain_order="left")
    last = ("prompts", "labels", "chars", "chars_95", "longer_chosen", "chosen_is_a", "turns", "responses", "margin")
    return result.select(pl.exclude("_total", *last), *last)


def responses_per_prompt(measured: pl.DataFrame, by: str | None = None) -> pl.DataFrame:
    """``responses``, the number of distinct responses to a prompt: a row a prompt, or a prompt and value of ``by``.

    Two in a table of plain pairs, N where N answers were ranked.
    """
    keys = ["prompt_key"] if by is None else [by, "prompt_key"]
    found = []
    for piece in by_prompt(measured):
        sides = [piece.select(*keys, response=side) for side in ("chosen_key", "rejected_key")]
        distinct = pl.concat(sides).unique()
        found.append(distinct.group_by(keys).agg(responses=pl.len()))
    counts = pl.concat(found)
    return counts if by is None else counts.with_columns(pl.col(by).cast(pl.String))


def histogram(frame: pl.DataFrame, column: str, bins: int = 20, tail: float = 0.01) -> pl.DataFrame:
    """How the values of a numeric column lie, in bins of one width whose edges are round numbers.

    Args:
        column: its nulls, NaN and what is not finite, or nearly not, are in no bin.
        bins: at most about so many; the width is 1, 2 or 5 times a power of ten, and whole numbers have no smaller one
            than 1.
        tail: share of the rows at either end that may be left to a bin of their own, the first or the last, which is
            wider then: a few long texts would press all others into one bin.

    Returns:
        ``low``, ``high`` (floats; a bin holds low <= value < high, the last one also its high) and ``rows``, in
        order. Neither bins within the range nor the ends are left out where they are empty; no values: no rows.

    Raises:
        ValueError: ``bins`` below 1, or ``tail`` outside [0, 0.5).
    """
    if bins < 1 or not 0 <= tail < 0.5:
        raise ValueError(f"expected bins of at least 1 and a tail in [0, 0.5), got {bins} and {tail}")
    kind = frame.schema[column]
    values = frame[column].cast(pl.Float64)
    # Of a width that overflows (values near 1e308, which no margin nor length is) there are no bins either.
    values = values.filter(values.abs() < _MOST)
    edges_of = pl.Schema({"low": pl.Float64, "high": pl.Float64, "rows": pl.UInt32})
    if values.is_empty():
        return pl.DataFrame(schema=edges_of)
    least, most = values.min(), values.max()
    low, high = values.quantile(tail, "lower"), values.quantile(1 - tail, "higher")
    width = _round_width((high - low) / bins)
    if kind.is_integer():
        width = max(width, 1.0)
    # Where the tail would fill less than a bin of the same width, it is one of them.
    low = least if least > low - width else low
    high = most if most < high + width else high
    first, last = _floor(low / width), _floor(high / width) + 1
    if not kind.is_integer() and math.isclose(high, (last - 1) * width) and last - 1 > first:
        last -= 1  # the last bin holds its upper edge: no bin for a margin of 1.0 alone
    place = (values / width + _REST).floor().clip(first - 1, last)
    if math.isclose(most, last * width):
        place = place.clip(first - 1, last - 1)
    counts = dict(place.cast(pl.Int64).value_counts().iter_rows())
    # From the factor, not summed up, and cut where binary fractions leave a rest: 0.30000000000000004 is no round edge.
    edges = [round(at * width, 12) for at in range(first, last + 1)]
    rows = [counts.get(at, 0) for at in range(first, last)]
    if least < edges[0]:
        edges, rows = [least, *edges], [counts.get(first - 1, 0), *rows]
    if most > edges[-1] or last in counts:
        edges, rows = [*edges, most], [*rows, counts.get(last, 0)]
    return pl.DataFrame({"low": edges[:-1], "high": edges[1:], "rows": rows}, schema=edges_of)


def histograms(measured: pl.DataFrame, bins: int = 20) -> dict[str, pl.DataFrame]:
    """:func:`histogram` of what people ask first, by titles that say what is counted; not of what has no values."""
    longer = pl.max_horizontal("chosen_chars", "rejected_chars")
    derived = measured.select(
        "prompt_chars",
        "margin",
        "turns",
        longer_chars=longer,
        difference=pl.col("chosen_chars").cast(pl.Int64) - pl.col("rejected_chars").cast(pl.Int64),
    )
    found = {
        "characters of a prompt": histogram(derived, "prompt_chars", bins),
        "characters of the longer response": histogram(derived, "longer_chars", bins),
        "chosen minus rejected, characters": histogram(derived, "difference", bins),
        "turns of a prompt": histogram(derived, "turns", bins),
        "responses to a prompt": histogram(responses_per_prompt(measured), "responses", bins),
        "margin": histogram(derived, "margin", bins, tail=0),
    }
    return {title: counted for title, counted in found.items() if not counted.is_empty()}


def _floor(number: float) -> int:
    return math.floor(number + _REST)


def _round_width(least: float) -> float:
    """The smallest of 1, 2 and 5 times a power of ten that is not below ``least``; 1 for 0."""
    if least <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(least))
    return next(round(factor * power, 12) for factor in (1, 2, 5, 10) if factor * power >= least * (1 - 1e-9))
