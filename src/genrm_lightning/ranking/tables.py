"""Rankings as tables: a row a candidate, and a row a prompt."""

from __future__ import annotations

import polars as pl

from data_tools.schema import MESSAGES
from genrm_lightning.ranking.tournament import Ranking

RANKED = pl.Schema(
    {
        "group_id": pl.String,
        "prompt": MESSAGES,
        "candidate": pl.Int32,  # place in the row's list, from 0
        "response": pl.String,
        "rank": pl.Int32,  # from 1; of one strength or reward in the order of the list; last who was never compared
        "strength": pl.Float64,  # θ of Bradley-Terry less the group's mean, log-odds; null: scored by a reward model
        "low": pl.Float64,  # the ends of its 95 % interval
        "high": pl.Float64,
        "win_rate": pl.Float64,  # probability of beating another candidate of the group, in the mean
        "p_best": pl.Float64,  # probability that it is the strongest
        "comparisons": pl.Int32,  # that it was in
        "reward": pl.Float64,  # of a reward model; null of other judges, and of what did not fit
    }
)
GROUPS = pl.Schema(
    {
        "group_id": pl.String,
        "candidates": pl.Int32,
        "best": pl.Int32,  # place of the best one; null where nothing was compared
        "p_best": pl.Float64,
        "comparisons": pl.Int32,
        "unfit": pl.Int32,  # comparisons that did not fit the judge's context
        "rounds": pl.Int32,
        "cyclic": pl.Int32,  # triples that no order agrees with
        "triples": pl.Int32,  # whose three pairs were all compared
        "in_cycles": pl.Int32,  # candidates from which a chain of wins, of any length, leads back to them
    }
)


def ranked(rows: pl.DataFrame, found: dict[str, Ranking]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """(RANKED sorted by group and rank, GROUPS sorted by group).

    Args:
        rows: CANDIDATES.
        found: of each group.
    """
    candidates, groups = [], []
    for name, one in found.items():
        low, high = one.fit.intervals()
        middle, rates, best = one.fit.theta - one.fit.theta.mean(), one.fit.win_rates(), one.best()
        played = [sum(i in pair for pair in one.pairs) for i in range(one.n)]
        for rank, i in enumerate(one.order, start=1):
            numbers = map(float, (middle[i], low[i], high[i], rates[i], best[i]))
            candidates.append((name, i, rank, *(numbers if one.compared[i] else [None] * 5), played[i]))
        first, (cyclic, triples) = one.order[0], one.cycles()
        counts = (len(one.pairs), len(one.unfit), one.rounds, cyclic, triples, int(one.in_cycles().sum()))
        known = (first, float(best[first])) if one.compared[first] else (None, None)
        groups.append((name, one.n, *known, *counts))
    names = ("group_id", "candidate", "rank", "strength", "low", "high", "win_rate", "p_best", "comparisons")
    table = pl.DataFrame(candidates, schema={name: RANKED[name] for name in names}, orient="row")
    table = table.with_columns(reward=pl.lit(None, pl.Float64))
    return _joined(rows, table), pl.DataFrame(groups, schema=GROUPS, orient="row").sort("group_id")


def by_reward(rows: pl.DataFrame, rewards: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The same of a reward model, whose scores are an order already: nothing was compared, and nothing is in doubt.

    Args:
        rewards: group_id, candidate, reward; null of one that did not fit, which comes last.
    """
    table = rewards.sort(
        "group_id", "reward", "candidate", descending=[False, True, False], nulls_last=True
    ).with_columns(rank=pl.int_range(1, pl.len() + 1).over("group_id"), comparisons=pl.lit(0))
    groups = table.group_by("group_id", maintain_order=True).agg(
        candidates=pl.len(), best=pl.col("candidate").first(), unfit=pl.col("reward").null_count()
    )
    zero = {name: pl.lit(0) for name in ("comparisons", "rounds", "cyclic", "triples", "in_cycles")}
    groups = groups.with_columns(p_best=pl.lit(None, pl.Float64), **zero)
    return _joined(rows, table), groups.select(pl.col(name).cast(dtype) for name, dtype in GROUPS.items())


def _joined(rows: pl.DataFrame, table: pl.DataFrame) -> pl.DataFrame:
    joined = rows.join(table, on=["group_id", "candidate"], how="inner").sort("group_id", "rank")
    there = joined.columns
    columns = [(pl.col(n) if n in there else pl.lit(None)).cast(dtype).alias(n) for n, dtype in RANKED.items()]
    return joined.select(columns)
