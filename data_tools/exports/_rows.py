"""What export formats share: turns, the keys that say what a trainer's own do not, and which pairs fit none."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from data_tools.clean import EMPTY, IDENTICAL
from data_tools.schema import MESSAGES, SPLITS
from data_tools.split import text_of_prompt

# Key of a row -> column of PREFERENCE: as data_tools.sources reads them. Trainers skip keys that they do not know.
EXTRAS = {
    "id": "pair_id",
    **{column: column for column in ("group_id", "source", "category", "subset", "label_kind", "split", "margin")},
}
# A conversation's roles, a letter each: s, u, a.
_ROLES = pl.col("prompt").list.eval(pl.element().struct.field("role").str.head(1)).list.join("")
# What no reader takes back: such rows are not what PREFERENCE says of its columns, or teach nothing.
UNFIT = {
    "prompt does not end with the user's turn": ~_ROLES.str.ends_with("u"),
    "margin not above 0 and at most 1": ~((pl.col("margin") > 0) & (pl.col("margin") <= 1)),
    EMPTY: pl.any_horizontal(
        column.str.strip_chars() == "" for column in (text_of_prompt(), pl.col("chosen"), pl.col("rejected"))
    ),
    IDENTICAL: pl.col("chosen").str.strip_chars() == pl.col("rejected").str.strip_chars(),
    f"split is none of {', '.join(SPLITS)}": ~pl.col("split").is_in(SPLITS),
}
TURNS = {"user and assistant do not take turns": ~_ROLES.str.contains("^s?(ua)*u$")}
ASSISTANT_FIRST = {"conversation begins with the assistant": _ROLES.str.starts_with("a")}


@dataclass(frozen=True)
class Found:
    """Of the pairs that fit.

    Attributes:
        pairs: number of them.
        values: column of :data:`EXTRAS` -> pairs that have a value there.
        firsts: the same -> index of the first of these, where there is one.
    """

    pairs: int
    values: dict[str, int]
    firsts: dict[str, int]


def turns(text: str, role: str = "assistant") -> pl.Expr:
    """MESSAGES of one turn, with the text of that column."""
    return pl.concat_list(pl.struct(role=pl.lit(role), content=pl.col(text))).cast(MESSAGES)


def extras() -> list[pl.Expr]:
    return [pl.col(column).alias(key) for key, column in EXTRAS.items()]


def without_margin(found: Found) -> int:
    """Pairs without a margin, where others have one."""
    has = found.values["margin"]
    return found.pairs - has if has else 0


def notes(found: Found) -> list[str]:
    """Of every format."""
    n = found.pairs - found.values["source"]
    return [f"source: {n:,} pairs have none; ingest will give them the name of the file"] if n else []


def margin_note(found: Found, trainer: str) -> list[str]:
    """For trainers that read ``margin`` from every row, if from any."""
    n = without_margin(found)
    return (
        [f"margin: {n:,} of {found.pairs:,} pairs have none; {trainer} needs all or none: drop the key there"]
        if n
        else []
    )
