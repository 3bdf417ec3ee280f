"""What a page says of a table in numbers, in a few streamed passes over narrow columns."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from data_tools.intervals import clustered_shares
from data_tools.split import normalised_prompt
from data_tools.view.rows import length

UNKNOWN = "unknown"


@dataclass(frozen=True)
class Share:
    """How often the longer response is the chosen one, with its 95 % interval; fractions."""

    share: float
    low: float
    high: float


@dataclass(frozen=True)
class Source:
    """A source's rows, distinct prompts (letter case and whitespace aside), rows by split, how often longer wins."""

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
    longer = clustered_shares(by_prompt, ["longer"], ["source"], "_prompt")
    sources = [
        Source(row["source"], row["rows"], row["clusters"], of_split[row["source"]], _share(row))
        for row in longer.sort("rows", "source", descending=[True, False]).iter_rows(named=True)
    ]
    overall = clustered_shares(by_prompt, ["longer"], [], "_prompt").row(0, named=True) if rows else None
    return Numbers(
        rows=rows,
        prompts=overall["clusters"] if overall else 0,
        sources=sources,
        splits=_counts(by_value["split"]),
        categories=_counts(by_value["category"]),
        labels=_counts(by_value["labels"]),
        longer=_share(overall) if overall else Share(0.5, 0.0, 1.0),
        values={name: by_value[name].drop_nulls("value").sort("value") for name in values},
    )


def _prompts(table: pl.LazyFrame) -> pl.LazyFrame:
    """By source and prompt: ``rows``, and wins of the ``longer`` response, equal lengths half."""
    chosen, rejected = length("chosen"), length("rejected")
    win = pl.when(chosen == rejected).then(0.5).otherwise((chosen > rejected).cast(pl.Float64))
    by_prompt = table.select("source", _prompt=normalised_prompt().hash(), _win=win).group_by("source", "_prompt")
    return by_prompt.agg(rows=pl.len(), longer=pl.col("_win").sum())


def _share(row: dict[str, float]) -> Share:
    return Share(row["score"], row["low"], row["high"])


def _counts(values: pl.DataFrame) -> dict[str, int]:
    return dict(values.sort("rows", "value", descending=[True, False]).iter_rows())
