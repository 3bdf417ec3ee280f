"""What every judge is given and what it returns."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import polars as pl
from polars import selectors as cs

from data_tools.judging import Verdict
from data_tools.order import chosen_is_a
from data_tools.schema import JUDGMENT, conform
from genrm_lightning.errors import REMEDY, NotFinite

# reward: scores of responses; direct: a verdict without a rationale; cot: rationales with verdicts; scores: a file
Kind = Literal["reward", "direct", "cot", "scores"]

REWARDS = pl.Schema({"pair_id": pl.String, "chosen_reward": pl.Float64, "rejected_reward": pl.Float64})


def contents(identity: Any) -> Any:
    """What a :func:`~genrm_lightning.star.stage.identity` says beside the path. JSON's form of it."""
    if isinstance(identity, str):
        return identity
    return [[list(file) for file in identity[1]], *map(contents, identity[2:])]


# What two draws may differ in and still be of one judge that was asked in one way.
_INCIDENTAL = ("pairs", "seed", "shard_size", "stage", "iteration")


def way(key: dict[str, Any]) -> dict[str, Any]:
    """What of a :meth:`Judge.key`, or of a stage's key made of it, tells a judge and how it was asked."""
    return {name: value for name, value in key.items() if name not in _INCIDENTAL}


def by_contents(key: dict[str, Any]) -> dict[str, Any]:
    """A :meth:`Judge.key` in which a judge counts by what its files hold, and not by the path that it was named by."""
    return key | ({"judge": contents(key["judge"])} if "judge" in key else {})


def verdicts(margins: pl.DataFrame, judge: str, seed: int = 0) -> pl.DataFrame:
    """JUDGMENT rows of a judge without rationales: one an order, p(A) = σ of what speaks for the response shown as A.

    Args:
        margins: pair_id, and the log-odds of the chosen response in the order of order.py (``margin``) and in the
            other one (``margin_swapped``); of a reward model both are the difference of the scores.
        judge, seed: what the columns say.

    Returns:
        Rows sorted by pair and order. ``verdict`` and ``vote`` are the letter that p(A) chooses; at a margin of 0
        the verdict is INVALID.
    """
    orders = [
        margins.select("pair_id", toward=pl.col(name), swapped=pl.lit(swapped))
        for swapped, name in ((False, "margin"), (True, "margin_swapped"))
    ]
    table = pl.concat(orders)
    is_a = [chosen_is_a(*row) for row in table.select("pair_id", "swapped").iter_rows()]
    toward = pl.when(pl.Series(is_a, dtype=pl.Boolean)).then("toward").otherwise(-pl.col("toward"))
    letter = pl.when(pl.col("toward") > 0).then(pl.lit(Verdict.A.value)).otherwise(pl.lit(Verdict.B.value))
    table = table.with_columns(toward=toward).with_columns(
        iteration=pl.lit(0),
        sample_index=pl.lit(0),
        rationale=pl.lit(""),
        token_ids=pl.lit([], dtype=JUDGMENT["token_ids"]),
        verdict=pl.when(pl.col("toward") == 0).then(pl.lit(Verdict.INVALID.value)).otherwise(letter),
        vote=letter,
        p_a=1 / (1 + (-pl.col("toward")).exp()),
        logp=pl.lit(0.0),
        mean_token_prob=pl.lit(1.0),
        n_tokens=pl.lit(0),
        finish_reason=pl.lit("stop"),
        seed=pl.lit(seed),
        judge=pl.lit(judge),
    )
    return conform(table, JUDGMENT).sort("pair_id", "swapped")


def check_finite(table: pl.DataFrame, name: str, where: str) -> None:
    """Raises NotFinite where a number that judge ``name`` gave of a ``pair_id`` is NaN or infinite."""
    odd = table.filter(pl.any_horizontal(cs.float().is_finite().not_()))["pair_id"].unique()
    if len(odd):
        what = f"'{name}' judges {len(odd)} pairs NaN or infinite, such as '{odd.min()}'"
        raise NotFinite(f"{where}: {what}; {REMEDY}")


@dataclass(frozen=True)
class Judged:
    """What a judge said of some pairs.

    Attributes:
        judgments: JUDGMENT, both orders of every pair, sorted by pair, order and sample.
        rewards: REWARDS, sorted by pair; None of a judge that compares responses and scores none.
        dropped: ids of the pairs that did not fit its context; they are in no table.
        seconds: of wall time, loading included; None where nobody measured, or several processes worked.
    """

    judgments: pl.DataFrame
    rewards: pl.DataFrame | None = None
    dropped: frozenset[str] = field(default_factory=frozenset)
    seconds: float | None = None

    @property
    def tokens(self) -> int:
        """That the judge wrote."""
        return int(self.judgments["n_tokens"].sum())


class Judge(ABC):
    """Says of pairs which response is the better one.

    Attributes:
        name: as it is called in tables.
        kind: how it comes to a verdict.
        objective: that trained it, as far as it is known.
        judge_prompt: that it is shown, None where there is none.
        n_samples: verdicts a presentation, at most.
        probabilities: whether p(A) is meant as one, so that it can be calibrated.
    """

    name: str
    kind: Kind
    objective: str | None = None
    judge_prompt: str | None = None
    n_samples: int = 1
    probabilities: bool = True

    @abstractmethod
    def key(self) -> dict[str, Any]:
        """All that its verdicts depend on beside the pairs, as JSON; part of the keys of stages."""

    @abstractmethod
    def judge(self, pairs: pl.DataFrame, folder: Path, where: str, aloud: bool = True) -> Judged:
        """Judge pairs in both orders.

        Args:
            pairs: PREFERENCE, each id once.
            folder: for what a killed call need not do again; the caller removes it when all is done
                (:func:`~genrm_lightning.star.stage.remove_shards`).
            where: names the pairs, in messages.
            aloud: whether progress, and what did not fit, is said on stderr.

        Raises:
            UserError: no pair fits, or what the judge needs is missing.
        """

    def judge_now(self, pairs: pl.DataFrame, where: str) -> Judged:
        """As :meth:`judge`, for callers that want no folder; nothing is said, and nothing left on the disk."""
        with TemporaryDirectory(prefix="genrm-") as folder:
            return self.judge(pairs, Path(folder), where, aloud=False)

    def judge_rows(self, rows: Sequence[tuple[str, Any, str, str]], where: str = "pairs") -> Judged:
        """As :meth:`judge_now`, of rows as :func:`~genrm_lightning.judges.memory.pairs_of` takes them.

        A table holds a copy of a prompt for each of its pairs; who hands rows on need not make one.
        """
        from genrm_lightning.judges.memory import pairs_of  # which needs this module

        return self.judge_now(pairs_of(rows), where)

    def open(self) -> None:  # noqa: B027  (not every one holds something)
        """Load what judging needs, and hold it from call to call until :meth:`close`."""

    def close(self) -> None:  # noqa: B027
        """Let go of weights and connections. The judge may be used again, and loads them again."""
