"""What a judge said of pairs as labels: which response is the better one, how sure that is, and what it took.

A pair's p is the mean over both orders of the probability of a response, each order's the mean over its samples: a
judge that follows the position alone lands at one half. The response with p > 0.5 is chosen; the confidence is its p.
A pair within ``tie`` of one half is a tie, one below ``confidence`` is abstained on.
"""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from data_tools.errors import UserError
from data_tools.order import chosen_is_a
from data_tools.schema import PREFERENCE
from genrm_lightning.evaluation.voting import verdicts

# What a label has beside PREFERENCE's columns.
EXTRA = pl.Schema(
    {
        "p": pl.Float64,  # mean probability of the chosen response, over both orders
        "votes": pl.Float64,  # its share of the samples' votes
        "consistent": pl.Boolean,  # whether both orders choose it
        "n_samples": pl.Int32,  # of both orders
        "n_tokens": pl.Int64,  # of all rationales
        "rationale": pl.String,  # the sample that is surest of the label, and names it; null: there is none
        "rationale_swapped": pl.Boolean,  # the order that it was written in
        "judge": pl.String,
    }
)
LABELS = pl.Schema({**PREFERENCE, **EXTRA})
LABEL_KIND = "model"


@dataclass(frozen=True)
class Labels:
    """LABELS tables that together have every pair that was judged, each sorted by pair.

    Attributes:
        labels: sure enough.
        ties: as good as equal; which response is called chosen says nothing.
        abstained: neither.
    """

    labels: pl.DataFrame
    ties: pl.DataFrame
    abstained: pl.DataFrame


def labels_of(
    pairs: pl.DataFrame, judgments: pl.DataFrame, *, confidence: float = 0.5, tie: float = 0.0, judge: str = ""
) -> Labels:
    """Label pairs.

    Args:
        pairs: PREFERENCE; which response is called chosen does not matter.
        judgments: JUDGMENT rows of some or all of them, both orders; pairs without any are left out.
        confidence: the least p of a label, in [0.5, 1].
        tie: |p − 0.5| of a tie at most, in [0, 0.5); 0: only exactly one half.
        judge: its name, for the column.

    Returns:
        ``margin`` is 2p − 1 (null for a tie of exactly one half), ``label_kind`` is "model".

    Raises:
        UserError: a threshold out of its range.
        ValueError: as :func:`~genrm_lightning.evaluation.voting.verdicts`.
    """
    check_thresholds(confidence, tie)
    said = _said(judgments)
    table = pairs.join(said, on="pair_id", how="inner").sort("pair_id")
    other = pl.col("first") < 0.5  # the second response is the better one
    table = table.with_columns(
        chosen=pl.when(other).then("rejected").otherwise("chosen"),
        rejected=pl.when(other).then("chosen").otherwise("rejected"),
        p=pl.when(other).then(1 - pl.col("first")).otherwise("first"),
        votes=pl.when(other).then(1 - pl.col("votes_first")).otherwise("votes_first"),
        label_kind=pl.lit(LABEL_KIND),
        judge=pl.lit(judge),
    )
    table = table.with_columns(margin=pl.when(pl.col("p") > 0.5).then(2 * pl.col("p") - 1))
    table = table.join(_rationales(judgments, said), on="pair_id", how="left", maintain_order="left")
    table = table.select(pl.col(name).cast(dtype) for name, dtype in LABELS.items())
    tied = pl.col("p") - 0.5 <= tie
    sure = ~tied & (pl.col("p") >= confidence)
    return Labels(table.filter(sure), table.filter(tied), table.filter(~tied & ~sure))


def check_thresholds(confidence: float, tie: float) -> None:
    """Raises UserError where one is out of its range; names the flag."""
    if not 0.5 <= confidence <= 1:
        raise UserError(f"--confidence: {confidence} is not in [0.5, 1]")
    if not 0 <= tie < 0.5:
        raise UserError(f"--ties: {tie} is not in [0, 0.5)")


def _said(judgments: pl.DataFrame) -> pl.DataFrame:
    """pair_id, first and votes_first (mean probability and share of votes of the pair's ``chosen``), consistent,
    n_samples, n_tokens."""
    by_order = (
        _toward(judgments)
        .group_by("pair_id", "swapped")
        .agg(pl.col("toward").mean())
        .group_by("pair_id")
        .agg(consistent=(pl.col("toward") > 0.5).all() | (pl.col("toward") < 0.5).all())
    )
    return (
        verdicts(judgments)
        .select(
            "pair_id",
            first="p_chosen",
            votes_first="votes_chosen",
            n_samples=2 * pl.col("n_samples"),
            n_tokens="n_tokens",
        )
        .join(by_order, on="pair_id")
    )


def _toward(judgments: pl.DataFrame) -> pl.DataFrame:
    """With ``is_a`` (whether the pair's ``chosen`` stood as A) and ``toward`` (its probability)."""
    orders = judgments.select("pair_id", "swapped").unique()
    is_a = pl.Series("is_a", [chosen_is_a(*row) for row in orders.iter_rows()], dtype=pl.Boolean)
    p = pl.col("p_a").cast(pl.Float64)
    return judgments.join(orders.with_columns(is_a), on=["pair_id", "swapped"]).with_columns(
        toward=pl.when("is_a").then(p).otherwise(1 - p)
    )


def _rationales(judgments: pl.DataFrame, said: pl.DataFrame) -> pl.DataFrame:
    """Of each pair the sample whose forced verdict is surest of the label, among those whose own text names it."""
    better = pl.when(pl.col("first") >= 0.5).then("toward").otherwise(1 - pl.col("toward"))
    is_a = pl.col("is_a") == (pl.col("first") >= 0.5)
    named = pl.col("verdict") == pl.when(is_a).then(pl.lit("A")).otherwise(pl.lit("B"))
    written = _toward(judgments).filter(pl.col("rationale").str.strip_chars() != "")
    return (
        written.join(said.select("pair_id", "first"), on="pair_id")
        .filter(named)
        .with_columns(sure=better)
        .sort("pair_id", "sure", "swapped", "sample_index", descending=[False, True, False, False])
        .unique("pair_id", keep="first", maintain_order=True)
        .select("pair_id", "rationale", rationale_swapped="swapped")
    )
