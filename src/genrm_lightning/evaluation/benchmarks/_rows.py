"""The judged pairs of one benchmark, and what its protocols read of a judge's verdicts."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from data_tools.order import chosen_is_a
from genrm_lightning.evaluation.scores import clusters


@dataclass(frozen=True)
class Rows:
    """The pairs of one benchmark.

    Attributes:
        frame: PREFERENCE rows with cluster, judged (whether the judge was asked) and, null where it was not,
            own, other: 1 for a verdict for the chosen response, 0.5 for none (p(A) of exactly 0.5), 0 for the rejected
            one; in the order that is drawn for the pair, and in the other one;
            preferred: the same for both orders together, by the mean of p(right), compared exactly;
            chosen_reward, rejected_reward: null of judges without rewards.
        scored: whether there are rewards.
    """

    frame: pl.DataFrame
    scored: bool

    @property
    def judged(self) -> pl.DataFrame:
        return self.frame.filter("judged")

    def unjudged(self) -> list[str]:
        """A line about pairs that were not judged, where there are any."""
        n = self.frame.height - self.judged.height
        return [f"{n} of {self.frame.height} pairs were not judged (they did not fit the judge)"] if n else []


def plain(text: str) -> str:
    """Lower case, letters and digits alone: how names are compared.

    >>> plain("RM-Bench"), plain("rm_bench")
    ('rmbench', 'rmbench')
    """
    return re.sub(r"[\W_]+", "", text.lower())


def rows(
    shown: pl.DataFrame, preferences: pl.DataFrame, rewards: pl.DataFrame | None, sources: Sequence[str]
) -> Rows | None:
    """The rows of one benchmark, in the order of ``preferences``; None where there are none.

    Raises:
        ValueError: a pair was judged that ``preferences`` has not, stands there twice, or has no finite reward.
    """
    names = preferences["source"].unique().drop_nulls().to_list()
    its = [name for name in names if plain(name) in sources]
    frame = preferences.filter(pl.col("source").is_in(its))
    strange = shown.join(preferences, on="pair_id", how="anti")
    if strange.height:
        raise ValueError(f"expected judgments of pairs in the preferences, got '{strange['pair_id'][0]}' beside them")
    if frame.is_empty():
        return None
    if frame["pair_id"].is_duplicated().any():
        raise ValueError(
            f"expected each pair once, got '{frame.filter(pl.col('pair_id').is_duplicated())['pair_id'][0]}' again"
        )
    frame = frame.join(clusters(frame), on="pair_id", how="left", maintain_order="left")
    frame = frame.join(_verdicts(shown), on="pair_id", how="left", maintain_order="left")
    frame = frame.with_columns(judged=pl.col("own").is_not_null())
    if rewards is None:
        empty = pl.lit(None, dtype=pl.Float64)
        return Rows(frame.with_columns(chosen_reward=empty, rejected_reward=empty), scored=False)
    rewards = rewards.select("pair_id", "chosen_reward", "rejected_reward")
    frame = frame.join(rewards, on="pair_id", how="left", maintain_order="left")
    finite = pl.col("chosen_reward").is_finite() & pl.col("rejected_reward").is_finite()
    lacking = frame.filter(pl.col("judged") & ~finite.fill_null(False))
    if lacking.height:
        raise ValueError(f"expected two finite rewards of every judged pair, got none of '{lacking['pair_id'][0]}'")
    return Rows(frame, scored=True)


def _verdicts(shown: pl.DataFrame) -> pl.DataFrame:
    """pair_id, own, other, preferred, of pairs judged in both orders."""

    def choice(right: str, wrong: str) -> pl.Expr:
        return pl.when(right).then(1.0).when(wrong).then(0.0).otherwise(0.5)

    sides = {
        swapped: shown.filter(pl.col("swapped") == swapped).select(
            "pair_id", choice("right", "wrong").alias(name), pl.col("p_a").alias(f"p_{name}")
        )
        for swapped, name in ((False, "own"), (True, "other"))
    }
    both = sides[False].join(sides[True], on="pair_id")
    first = pl.Series([chosen_is_a(pair_id, False) for pair_id in both["pair_id"]], dtype=pl.Boolean)
    # Chosen is A in one order and B in the other, so p(right) is above 0.5 in the mean where p(A) is higher in the
    # first: no 1 - p is formed, which would round a tie to one side.
    a = pl.when(first).then("p_own").otherwise("p_other")
    b = pl.when(first).then("p_other").otherwise("p_own")
    preferred = pl.when(a > b).then(1.0).when(a < b).then(0.0).otherwise(0.5)
    return both.with_columns(preferred=preferred).select("pair_id", "own", "other", "preferred")


def higher(tie: float) -> pl.Expr:
    """1 where the chosen response has the higher reward, 0 where the other has, ``tie`` where they are equal."""
    chosen, rejected = pl.col("chosen_reward"), pl.col("rejected_reward")
    return pl.when(chosen > rejected).then(1.0).when(chosen < rejected).then(0.0).otherwise(tie)
