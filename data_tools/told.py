"""Samples of a judge that was told an answer: which of them may be trained on, and how they stand beside the others.

A judge that is told the right answer writes a reason for it (post-rationalization, arXiv 2410.12832; for the prompts
that it failed alone: Zelikman et al. 2022); one that is told the wrong answer writes what a mistaken judge would. A
sample is of use if it chooses what it was told, by its vote or by its verdict, as the selection reads it, and its text
does not speak of being told. It is trained on behind the prompt without the hint, like any other.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import polars as pl

from data_tools import star
from data_tools.errors import UserError
from data_tools.order import chosen_is_a
from data_tools.selection import texts

Told = Literal["right", "wrong"]  # the answer that a prompt tells, as if it were known
# What is dropped, beside star.TOLD.
AGAINST = "does not vote as it was told"
ELSEWHERE = "of prompts that had not failed"

_PLACE = ["pair_id", "swapped"]
_SPEAKS = texts.told(pl.col("rationale").fill_null(""))


def failed(judgments: pl.DataFrame, right: str = "vote") -> pl.DataFrame:
    """The prompts (``pair_id``, ``swapped``), sorted, none of whose samples chooses the preferred response.

    Args:
        right: what says what a sample chooses: its vote or its verdict, as in :func:`data_tools.star.choose`.
    """
    found = judgments.with_columns(_right=chooses(judgments, "right", right))
    places = found.group_by(_PLACE).agg(pl.col("_right").any())
    return places.filter(~pl.col("_right")).select(_PLACE).sort(_PLACE)


def followed(judgments: pl.DataFrame, told: Told, right: str = "vote") -> tuple[pl.DataFrame, dict[str, int]]:
    """(the samples that choose as they were told and do not speak of it, how many were dropped and why)."""
    as_told = judgments.filter(chooses(judgments, told, right))
    kept = as_told.filter(~_SPEAKS)
    return kept, {AGAINST: judgments.height - as_told.height, star.TOLD: as_told.height - kept.height}


@dataclass(frozen=True)
class Joined:
    """Tables of samples as one, for :func:`data_tools.star.write_examples`.

    Attributes:
        judgments: JUDGMENT.
        sampled: rows that were given.
        dropped: {why: how many} that are not in ``judgments``.
        lost: the prompts that failed; None where nobody asked.
    """

    judgments: pl.DataFrame
    sampled: int
    dropped: dict[str, int]
    lost: pl.DataFrame | None

    def counts(self, found: dict[str, Any], examples: pl.DataFrame) -> dict[str, Any]:
        """The counts of the selection, and those of the join.

        ``sampled`` counts every table; ``before`` is what fell out before they were joined, and ``dropped`` holds it,
        too. Where prompts were rationalized there are ``failed``, how many had failed, and ``rationalized``, the
        examples kept of them.
        """
        found = found | {"sampled": self.sampled, "before": self.dropped, "dropped": self.dropped | found["dropped"]}
        if self.lost is not None:
            of_them = examples.select(_PLACE).join(self.lost, on=_PLACE, how="semi")
            found |= {"failed": self.lost.height, "rationalized": of_them.height}
        return found


def joined(
    judgments: pl.DataFrame,
    objective: str,
    told_wrong: pl.DataFrame | None = None,
    rationalized: pl.DataFrame | None = None,
    right: str = "vote",
) -> Joined:
    """One table of samples, of those that are of use.

    Args:
        judgments: JUDGMENT.
        objective: of :mod:`data_tools.star`.
        told_wrong: JUDGMENT drawn with the wrong answer told; ``judgments`` were drawn with the right one. Couples of a
            right sample of the one and a wrong sample of the other (objective dpo).
        rationalized: JUDGMENT drawn with the right answer told at prompts that ``judgments`` failed: their right
            samples join the others (objectives sft and dpo).
        right: what says what a sample chooses: its vote or its verdict.

    Raises:
        UserError: an objective that has no use for a table, or nothing left.
    """
    dropped: dict[str, int] = {}
    sampled, lost = judgments.height, None

    def usable(table: pl.DataFrame, told: Told) -> pl.DataFrame:
        kept, gone = followed(table, told, right)
        for why, n in gone.items():
            dropped[why] = dropped.get(why, 0) + n
        return kept

    if told_wrong is not None:
        if objective != "dpo":
            raise UserError(f"samples that were told the wrong answer are for objective dpo, not for {objective}")
        sampled += told_wrong.height
        judgments = _after(usable(judgments, "right"), usable(told_wrong, "wrong"))
    if rationalized is not None:
        if objective not in ("sft", "dpo"):
            raise UserError(f"rationalized prompts are for objectives sft and dpo, not for {objective}")
        sampled += rationalized.height
        lost = failed(judgments, right)
        hinted = usable(rationalized, "right")
        there = hinted.join(lost, on=_PLACE, how="semi")
        dropped[ELSEWHERE] = hinted.height - there.height
        judgments = _after(judgments, there)
    dropped = {why: n for why, n in dropped.items() if n}
    if judgments.is_empty() and sampled:
        gone = ", ".join(f"{why}: {n}" for why, n in dropped.items())
        raise UserError(f"none of {sampled} judgments is left ({gone}); sample more, or start from a better judge")
    return Joined(judgments, sampled, dropped, lost)


def write_examples(
    judgments: star.Table,
    preferences: star.Table,
    path: str | Path,
    *,
    objective: str,
    told_wrong: star.Table | None = None,
    rationalized: star.Table | None = None,
    right: str = "vote",
    **options: Any,
) -> dict[str, Any]:
    """:func:`data_tools.star.write_examples` of :func:`joined` tables; the counts of both.

    In bounded memory where there is but one table; several are joined in memory.
    """
    options |= {"objective": objective, "right": right}
    if told_wrong is None and rationalized is None:
        return star.write_examples(judgments, preferences, path, **options)
    tables = (None if table is None else table.lazy().collect() for table in (told_wrong, rationalized))
    if right not in star.RIGHT_WAYS:
        raise UserError(f"right '{right}' is unknown; there are: {', '.join(star.RIGHT_WAYS)}")
    together = joined(judgments.lazy().collect(), objective, *tables, right)
    counts = star.write_examples(together.judgments, preferences, path, **options)
    return together.counts(counts, pl.read_parquet(path, columns=_PLACE))


def is_right(judgments: pl.DataFrame) -> pl.Series:
    """Whether each row votes for the preferred response."""
    return chooses(judgments, "right")


def chooses(judgments: pl.DataFrame, which: Told, right: str = "vote") -> pl.Series:
    """Whether each row chooses the preferred response, or the other one; a verdict may choose neither.

    Args:
        right: what says so: vote or verdict.
    """
    places = judgments.select(_PLACE).unique()
    letters = ["A" if chosen_is_a(pair, swapped) == (which == "right") else "B" for pair, swapped in places.iter_rows()]
    places = places.with_columns(pl.Series("_letter", letters, dtype=pl.String))
    letter = judgments.select(_PLACE).join(places, on=_PLACE, how="left", maintain_order="left")["_letter"]
    return (judgments[right] == letter).fill_null(False)


def _after(first: pl.DataFrame, second: pl.DataFrame) -> pl.DataFrame:
    """Both tables' rows; the second's sample indices go on behind the first's."""
    behind = first["sample_index"].max()
    shift = 0 if behind is None else behind + 1
    return pl.concat([first, second.with_columns(pl.col("sample_index") + pl.lit(shift, pl.Int32))])
