"""What a page says of a table in numbers, in a few streamed passes over narrow columns."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from statistics import NormalDist

import polars as pl

from data_tools.view.rows import length

UNKNOWN = "unknown"
_Z = NormalDist().inv_cdf(0.975)


@dataclass(frozen=True)
class Share:
    """How often the longer response is the chosen one, with its 95 % interval; fractions."""

    share: float
    low: float
    high: float


@dataclass(frozen=True)
class Source:
    """A source's rows, prompts (distinct ones, letter by letter), rows by split, and how often longer wins there."""

    name: str
    rows: int
    prompts: int
    splits: dict[str, int]
    longer: Share


@dataclass(frozen=True)
class Numbers:
    """A table in numbers.

    Attributes:
        sources: the largest first.
        splits, categories, labels: value -> rows, the commonest first.
        longer: of all rows together.
        values: of ``prompt``, ``chosen``, ``rejected``, ``difference`` (chosen minus rejected; characters) and
            ``margin`` (known ones): ``value`` in ascending order, and how many ``rows`` have it.
    """

    rows: int
    prompts: int
    sources: list[Source]
    splits: dict[str, int]
    categories: dict[str, int]
    labels: dict[str, int]
    longer: Share
    values: dict[str, pl.DataFrame]


def measured(table: pl.LazyFrame) -> Numbers:
    """The numbers of a PREFERENCE table.

    Memory grows with distinct lengths and, by some tens of bytes, with distinct prompts; not with rows.
    """
    chosen, rejected = length("chosen"), length("rejected")
    lengths = {"prompt": length("prompt"), "chosen": chosen, "rejected": rejected, "difference": chosen - rejected}
    values = {**lengths, "margin": pl.col("margin")}
    columns = {"split": "split", "category": "category", "labels": "label_kind"}
    table = table.with_columns(pl.col("source", *columns.values()).fill_null(UNKNOWN))
    counts = [table.select(value=value).group_by("value").agg(rows=pl.len()) for value in values.values()]
    named = [table.select(value=column).group_by("value").agg(rows=pl.len()) for column in columns.values()]
    splits = table.group_by("source", "split").agg(rows=pl.len())
    queries = [*counts, *named, _prompts(table), splits]
    *collected, by_prompt, by_split = pl.collect_all(queries, engine="streaming")  # what they share is read once
    by_value = dict(zip([*values, *columns], collected, strict=True))
    rows = int(by_split["rows"].sum())
    of_split: dict[str, dict[str, int]] = {}
    for source, split, n in by_split.iter_rows():
        of_split.setdefault(source, {})[split] = n
    sources = [
        Source(row["source"], row["n"], row["prompts"], of_split[row["source"]], _share(row))
        for row in by_prompt.sort("n", "source", descending=[True, False]).iter_rows(named=True)
    ]
    # Over all: the sums of the sources. A prompt in two of them counts twice.
    overall = by_prompt.drop("source").sum().row(0, named=True)
    return Numbers(
        rows=rows,
        prompts=overall["prompts"],
        sources=sources,
        splits=_counts(by_value["split"]),
        categories=_counts(by_value["category"]),
        labels=_counts(by_value["labels"]),
        longer=_share(overall) if rows else Share(0.5, 0.0, 1.0),
        values={name: by_value[name].drop_nulls("value").sort("value") for name in values},
    )


def _prompts(table: pl.LazyFrame) -> pl.LazyFrame:
    """By source: rows ``n``, wins of the longer response ``w`` (equal lengths half), ``prompts``, and the sums over
    prompts of the squares and products that :func:`_share` needs."""
    chosen, rejected = length("chosen"), length("rejected")
    win = pl.when(chosen == rejected).then(0.5).otherwise((chosen > rejected).cast(pl.Float64))
    contents = pl.col("prompt").list.eval(pl.element().struct.field("content")).list.join("\n")
    by_prompt = table.select("source", _prompt=contents.hash(), _win=win).group_by("source", "_prompt")
    sums = by_prompt.agg(n=pl.len().cast(pl.Float64), w=pl.col("_win").sum())
    n, w = pl.col("n"), pl.col("w")
    return sums.group_by("source").agg(
        n.sum().cast(pl.Int64), w.sum(), prompts=pl.len(), nn=(n**2).sum(), ww=(w**2).sum(), nw=(n * w).sum()
    )


def _share(sums: dict[str, float]) -> Share:
    """The share of wins with Wilson's interval, at the number of independent pairs that pairs of few prompts are worth.

    That number is p(1-p) over the squared standard error clustered by prompt (E. Miller, arXiv 2411.00640), both
    estimated with one more prompt of typical size at either extreme, and at most the number of pairs.
    """
    n, share = sums["n"], sums["w"] / sums["n"]
    m = sums["nn"] / n  # pairs of the prompt that a pair has on average
    p = (sums["w"] + m) / (n + 2 * m)
    spread = sums["ww"] - 2 * p * sums["nw"] + p * p * sums["nn"] + m * m * ((1 - p) ** 2 + p * p)
    worth = min(max(n * (n + 2 * m) * p * (1 - p) / spread, n / m), n)
    centre, z2 = share + _Z * _Z / (2 * worth), _Z * _Z / worth
    half = _Z * sqrt(share * (1 - share) / worth + z2 / (4 * worth))
    return Share(share, max(0.0, (centre - half) / (1 + z2)), min(1.0, (centre + half) / (1 + z2)))


def _counts(values: pl.DataFrame) -> dict[str, int]:
    return dict(values.sort("rows", "value", descending=[True, False]).iter_rows())
