"""The judge behind the queue, as a judge: rewards are computed as offline, their pairs share batches with others'."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as TooLate
from pathlib import Path
from typing import Any

import polars as pl

from genrm_lightning.budget import NoneFits
from genrm_lightning.judges.base import Judge, Judged
from genrm_lightning.serving.batching import Batcher
from genrm_lightning.serving.refusals import Unfit
from genrm_lightning.serving.works import PAIRS, Pair


class QueuedJudge(Judge):
    """Asks the queue, for one request. Blocks, so it is not for the thread of the event loop.

    Args:
        judge: the one that the queue leads to.
        deadline: of time.monotonic().

    Raises:
        TimeoutError: by its methods, at the deadline; what still waits is taken back.
        CancelledError: by its methods, after :meth:`give_up`.
        Refused: by its methods: no room in the queue, or the judge failed.
    """

    def __init__(self, judge: Judge, batcher: Batcher, deadline: float) -> None:
        self.name, self.kind, self.objective = judge.name, judge.kind, judge.objective
        self.judge_prompt, self.n_samples = judge.judge_prompt, judge.n_samples
        self._judge, self._batcher, self._deadline = judge, batcher, deadline
        self._admitted = self._given_up = False
        self._futures: list[Future] = []
        self.written = 0  # tokens, so far

    def key(self) -> dict[str, Any]:
        return self._judge.key()

    def judge(self, pairs: pl.DataFrame, folder: Path, where: str, aloud: bool = True) -> Judged:
        return self.judge_now(pairs, where)

    def judge_now(self, pairs: pl.DataFrame, where: str) -> Judged:
        return self.judge_rows(list(pairs.select("pair_id", "prompt", "chosen", "rejected").iter_rows()), where)

    def judge_rows(self, rows: Sequence[tuple[str, Any, str, str]], where: str = "pairs") -> Judged:
        self._futures = futures = self._batcher.submit(PAIRS, [Pair(*row) for row in rows], self._admitted)
        self._admitted = True
        if self._given_up:
            self.give_up()
        found: list[Judged] = []
        dropped = []
        try:
            for (pair_id, *_), future in zip(rows, futures, strict=True):
                try:
                    found.append(future.result(max(0.0, self._deadline - time.monotonic())))
                except Unfit:
                    dropped.append(pair_id)
        except TooLate:
            raise TimeoutError from None
        finally:
            for future in futures:
                future.cancel()
        if not found:
            raise NoneFits(f"{where}: no pair fits")
        rewards = None if found[0].rewards is None else pl.concat([one.rewards for one in found]).sort("pair_id")
        judgments = pl.concat([one.judgments for one in found]).sort("pair_id", "swapped", "sample_index")
        judged = Judged(judgments, rewards, frozenset(dropped))
        self.written += judged.tokens
        return judged

    def give_up(self) -> None:
        """From another thread: nobody waits for the rewards any more. What still waits is taken back; so is what would
        be asked from now on."""
        self._given_up = True
        for future in self._futures:
            future.cancel()
