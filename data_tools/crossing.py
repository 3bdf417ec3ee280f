"""Whether prompts cross from one side of a split to another, or from file to file."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

import polars as pl

from data_tools.contamination import COVERAGE, NGRAM, contaminated, evaluation
from data_tools.memory import DEFAULT, Memory
from data_tools.removal import numbered
from data_tools.schema import SPLITS
from data_tools.split import normalised_prompt, text_of_prompt

CROSSING = pl.Schema(
    {
        "one": pl.String,  # the side that is trained on, or nearer to it
        "other": pl.String,
        "prompts": pl.Int64,  # distinct ones of the first side that cross
        "rows_one": pl.Int64,  # rows of the first side with such a prompt
        "rows_other": pl.Int64,  # rows of the other side that share a prompt exactly; null for n-grams
        "example_one": pl.String,  # of the first such row: its pair id, a pair id of the other side, and the prompt
        "example_other": pl.String,
        "example": pl.String,
    }
)


def sides(tables: Mapping[str, pl.LazyFrame], by_file: bool = False) -> dict[str, pl.LazyFrame]:
    """The sides that must share no prompt: the splits, over all files, and each file's rows that have none.

    Args:
        tables: PREFERENCE by the name of the file.
        by_file: the sides are the splits of each file, so that files of one split must not share a prompt either.

    Returns:
        PREFERENCE by the side's name: train, validation and test first, then others as they come.
    """
    found: dict[str, list[pl.LazyFrame]] = {} if by_file else {name: [] for name in SPLITS}
    for file, table in tables.items():
        labels = table.select(pl.col("split").unique().sort()).collect(engine="streaming")["split"].to_list()
        for label in sorted(labels, key=lambda label: SPLITS.index(label) if label in SPLITS else len(SPLITS)):
            name = label if label is not None and not by_file else f"{file} ({label or 'no split'})"
            found.setdefault(name, []).append(table.filter(pl.col("split").eq_missing(pl.lit(label, pl.String))))
    return {name: pl.concat(parts) for name, parts in found.items() if parts}


def shared_prompts(of: Mapping[str, pl.LazyFrame]) -> pl.DataFrame:
    """CROSSING: pairs of sides with prompts of the same text as :func:`data_tools.split.normalised_prompt` has it."""
    keys = [
        table.select("pair_id", _key=normalised_prompt().hash())
        .group_by("_key")
        .agg(pl.col("pair_id").min(), rows=pl.len().cast(pl.Int64))
        .collect(engine="streaming")
        for table in of.values()
    ]
    found = []
    for (one, mine), (other, its) in combinations(zip(of, keys, strict=True), 2):
        both = mine.join(its, on="_key", suffix="_other").sort("pair_id")
        if not both.is_empty():
            first = both.row(0, named=True)
            text = _prompt_of(of[one], first["pair_id"])
            sums = both.height, both["rows"].sum(), both["rows_other"].sum()
            found.append((one, other, *sums, first["pair_id"], first["pair_id_other"], text))
    return pl.DataFrame(found, schema=CROSSING, orient="row")


def overlapping_prompts(
    of: Mapping[str, pl.LazyFrame], *, ngram: int = NGRAM, coverage: float = COVERAGE, memory: Memory = DEFAULT
) -> pl.DataFrame:
    """CROSSING: pairs of sides where a prompt of the first overlaps one of the other by n-grams.

    The other side is the evaluation set of :func:`data_tools.contamination.contaminated`, the same prompts included.
    Where neither side is a split, and nothing was found, it is tried the other way round as well.
    """
    found = []
    for one, other in combinations(of, 2):
        rows = contaminated(numbered(of[one]), evaluation({other: of[other]}, ngram), coverage=coverage, memory=memory)
        if rows.is_empty() and not {one, other} & set(SPLITS):  # neither is known to be trained on or held out
            one, other = other, one
            known = evaluation({other: of[other]}, ngram)
            rows = contaminated(numbered(of[one]), known, coverage=coverage, memory=memory)
        table = numbered(of[one])
        if not rows.is_empty():
            keys = table.join(rows.lazy().select("_row"), on="_row", how="semi").select(normalised_prompt().hash())
            prompts = keys.collect(engine="streaming").to_series().n_unique()
            first = rows.sort("pair_id").row(0, named=True)
            example = first["pair_id"], first["match"], first["words"]
            found.append((one, other, prompts, rows.height, None, *example))
    return pl.DataFrame(found, schema=CROSSING, orient="row")


def _prompt_of(table: pl.LazyFrame, pair: str) -> str:
    rows = table.filter(pl.col("pair_id") == pair).select(text_of_prompt()).head(1)
    return rows.collect(engine="streaming").item()
