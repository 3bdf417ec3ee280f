"""Preference pairs -> JUDGMENT tables with no more samples of a pair than its verdict needs.

Pairs are asked in rounds, all that are still open in one: samples [0, 2), then [2, 4), [4, 8), ... of both orders. A
sample's random numbers depend on its index and not on its round, and whether a pair goes on depends on its own samples
alone: the rows are those that :func:`~genrm_lightning.evaluation.stopping.stopped` keeps of a table with all samples.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import polars as pl

from data_tools.artifact import sweep
from data_tools.errors import UserError
from data_tools.schema import JUDGMENT
from genrm_lightning.evaluation.stopping import StoppingSettings, counts, error
from genrm_lightning.evaluation.voting import samples
from genrm_lightning.judgments import judge_pairs, requests
from genrm_lightning.samplers.base import Sampler, SamplingSettings

ROUNDS = "round-*"  # folders of shards, by the number of the round


def judge_sequentially(
    folder: str | Path,
    pairs: pl.DataFrame,
    sampler: Callable[[], Sampler],
    settings: SamplingSettings,
    stopping: StoppingSettings,
    *,
    template: str,
    told: bool = False,
    **options,
) -> pl.DataFrame:
    """Judge every pair in both orders until its verdict is decided, or ``settings.n_samples`` are drawn.

    Args:
        folder: the rounds' shards lie in ``round-<i>`` below it; finished ones are not drawn again.
        options: of :func:`~genrm_lightning.judgments.judge_pairs`.

    Returns:
        The JUDGMENT rows, sorted by pair, order and sample; both orders of a pair have as many.

    Raises:
        UserError: there is nothing to stop (the first look comes after all samples), or as in ``judge_pairs``.
    """
    check(settings, stopping)
    made = cache(sampler)  # one for all rounds
    table, drawn, going = pl.DataFrame(schema=JUDGMENT), 0, pairs
    for number, k in enumerate(stopping.looks(settings.n_samples)):
        asked = [replace(r, first=drawn, n_samples=k - drawn) for r in requests(going, template, told)]
        below = Path(folder) / ROUNDS.replace("*", str(number))
        sweep(below)
        new = judge_pairs(below, going, made, settings, template=template, told=told, asked=asked, **options)
        table = pl.concat([table, new])
        going = going.filter(pl.col("pair_id").is_in(open_pairs(table, going, k, settings.n_samples, stopping)))
        drawn = k
        if going.is_empty():
            break
    return table.sort("pair_id", "swapped", "sample_index")


def open_pairs(
    judgments: pl.DataFrame, going: pl.DataFrame, k: int, k_max: int, stopping: StoppingSettings
) -> list[str]:
    """The ids of those of the ``going`` pairs, with k samples of each order, that are not decided yet."""
    if k == k_max or going.is_empty():
        return []
    given = samples(judgments.join(going, on="pair_id", how="semi"))
    undecided = error(counts(given, stopping.votes).sum(-1), k, k_max, stopping) > stopping.alpha
    return [pair_id for pair_id, more in zip(given.pair_ids, undecided, strict=True) if more]


def check(settings: SamplingSettings, stopping: StoppingSettings) -> None:
    """Raises UserError where all samples are drawn before the first look."""
    if settings.n_samples <= stopping.first:
        raise UserError(
            f"stopping: sampling.n_samples is {settings.n_samples}, the first look comes after {stopping.first} "
            "(stopping.first); nothing is left to stop: take more samples, such as --sampling.n_samples 32"
        )
