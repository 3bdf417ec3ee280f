"""Pairs judged as a stage: a folder with a manifest at the end, taken up where a killed call left it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl

from data_tools.artifact import MANIFEST, digest_of, read_json, read_table, write_table
from data_tools.errors import UserError
from data_tools.schema import JUDGMENT
from genrm_lightning.judges.base import REWARDS, Judge, Judged, by_contents, check_finite
from genrm_lightning.locking import absent, remove_empty
from genrm_lightning.shards import Shards
from genrm_lightning.star.peers import shared_stage
from genrm_lightning.star.stage import remove_shards, run_stage

JUDGMENTS, REWARD_FILE = "judgments.parquet", "rewards.parquet"


class Missing(Exception):
    """Shards that other processes are to draw; ``args`` are their files."""


def judge_pairs(
    judge: Judge,
    pairs: pl.DataFrame,
    folder: Path,
    where: str,
    inputs: Iterable[str | Path] = (),
    *,
    share: bool = False,
    part: tuple[int, int] | None = None,
) -> Judged:
    """Judge pairs, or read what was judged: ``judgments.parquet`` and of scores ``rewards.parquet``.

    Args:
        pairs: PREFERENCE, each id once.
        where: names them, in messages.
        inputs: the files they come from, for the manifest.
        share: divide the shards with all who call this on the same folder, as they come.
        part: (i, n), the shards that this process draws.

    Raises:
        Missing: shards are missing that other processes draw.
        UserError: the folder holds what was judged of other pairs, by another judge or with other settings; as
            :meth:`Judge.judge`; or shards are to be divided of a judge that has none.
    """
    key = {"stage": "judge", **by_contents(judge.key()), "pairs": digest_of(pairs.write_ndjson())}

    def finish(judged: Judged) -> dict[str, Any]:
        check_finite(judged.judgments.select("pair_id", "p_a"), judge.name, where)
        write_table(judged.judgments, folder / JUDGMENTS, JUDGMENT)
        if judged.rewards is not None:
            write_table(judged.rewards, folder / REWARD_FILE, REWARDS)
        counts = {"rows": len(judged.judgments), "tokens": judged.tokens, "dropped": sorted(judged.dropped)}
        # Of several processes, perhaps on several days, nobody knows how long they worked.
        return counts | ({"divided": True} if share or part is not None else {})

    made = absent(folder)
    try:
        if share or part is not None:
            _divided(judge, pairs, folder, where, key, finish, part, inputs)
        else:
            run_stage(folder, key, lambda: finish(judge.judge(pairs, folder, where)), inputs)
    finally:
        remove_empty(made)
    remove_shards(folder)
    return read_judged(folder)


def _divided(
    judge: Judge,
    pairs: pl.DataFrame,
    folder: Path,
    where: str,
    key: dict[str, Any],
    finish: Callable[[Judged], dict[str, Any]],
    part: tuple[int, int] | None,
    inputs: Iterable[str | Path],
) -> None:
    """Judge together with other processes: with the last shard of all the stage is ended."""
    from genrm_lightning.judges.sampled import SampledJudge

    if not isinstance(judge, SampledJudge):
        raise UserError(f"--share, --shard: '{judge.name}' draws no samples that could be divided; leave them out")

    def whole(shards: Shards) -> dict[str, Any]:
        while (table := shards.table()) is None:
            judge.fill(shards)
        return finish(judge.judged(table, pairs))

    folder.mkdir(parents=True, exist_ok=True)
    missing = shared_stage(folder, key, partial(judge.asked, pairs, folder, where), judge.fill, whole, part, inputs)
    if missing:
        raise Missing(*missing)


def read_judged(folder: Path) -> Judged:
    """What :func:`judge_pairs` left in a folder."""
    facts = read_json(folder / MANIFEST)
    rewards = folder / REWARD_FILE
    return Judged(
        read_table(folder / JUDGMENTS, JUDGMENT),
        read_table(rewards, REWARDS) if rewards.exists() else None,
        frozenset(facts["facts"]["dropped"]),
        None if facts["facts"].get("divided") else facts["seconds"],
    )
