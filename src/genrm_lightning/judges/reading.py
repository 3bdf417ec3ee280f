"""Judges that write no rationale: a verdict is read off one forward, a reward model's scores or a direct p(A)."""

from __future__ import annotations

import gc
import io
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl
import torch

from data_tools.artifact import digest_of, write_table
from data_tools.errors import UserError
from genrm_lightning.backbone import BackboneSettings, load_judge
from genrm_lightning.budget import REMEDY, Limits, TooLong, fit_rows, policy_key
from genrm_lightning.judges.base import REWARDS, Judge, Judged, check_finite, verdicts
from genrm_lightning.objectives import GenRM, Objective
from genrm_lightning.prefix import Tree, collate
from genrm_lightning.progress import Progress
from genrm_lightning.quiet import no_loading_bars
from genrm_lightning.shards import note
from genrm_lightning.star.stage import identity

CHUNK = 512  # pairs a file: what a killed run loses at most
BATCH_TOKENS = 16384  # of trees in one forward
# margin: log-odds of the chosen response, in the order of order.py and in the other one. Direct judges give no rewards.
READ = pl.Schema(
    {
        "pair_id": pl.String,
        "margin": pl.Float64,
        "margin_swapped": pl.Float64,
        "chosen_reward": pl.Float64,
        "rejected_reward": pl.Float64,
    }
)


class ReadingJudge(Judge):
    """A reward model or a direct judge.

    A reward model scores the responses, r_w and r_l: p(A) is σ of the difference of the response shown as A to the
    other, in both orders the same preference (PairRM's scores are means over both orders already). A direct judge
    reads each order by itself: p(A) at the verdict. ``verdict`` and ``vote`` are the letter that p(A) chooses.

    Args:
        backbone: judge folder, hub id or "embedded".
        objective: BradleyTerry, PairRM or GenRM: how it is read.
        judge_prompt: shown by GenRM.
        dtype: of the weights.
        too_long: what becomes of pairs that do not fit the context.
        batch_tokens: of trees in one forward, where one alone is not longer.
        name: as it is called in tables; None: ``backbone``.
        seed: what the column says; nothing is drawn.
    """

    def __init__(
        self,
        backbone: str,
        objective: type[Objective],
        judge_prompt: str = "mt_bench",
        *,
        dtype: torch.dtype = torch.bfloat16,
        too_long: TooLong = "shorten",
        batch_tokens: int = BATCH_TOKENS,
        name: str | None = None,
        seed: int = 0,
    ) -> None:
        direct = issubclass(objective, GenRM)
        self.name, self.kind, self.objective = name or backbone, "direct" if direct else "reward", objective.__name__
        self.judge_prompt = judge_prompt if direct else None
        self.backbone, self.dtype, self.too_long, self.seed = backbone, dtype, too_long, seed
        self.batch_tokens = batch_tokens
        prompt = {"judge_prompt": judge_prompt} if direct else {}
        self._reads = objective(backbone=BackboneSettings(backbone, lora=None), **prompt)

    def key(self) -> dict[str, Any]:
        return {
            "read_as": self.objective,
            "judge": self._identity,
            "judge_prompt": self.judge_prompt,
            "dtype": str(self.dtype).removeprefix("torch."),
            **policy_key(self.too_long),
        }

    @cached_property
    def _identity(self) -> Any:
        """Of gigabytes of weights: once is enough."""
        return identity(self.backbone)

    def judge(self, pairs: pl.DataFrame, folder: Path, where: str, aloud: bool = True) -> Judged:
        """As :meth:`Judge.judge`; what is there is read from ``shard-*.parquet``."""
        key = self.key()
        fitting = self._fitting(pairs, where, aloud)
        chunks = list(fitting.sort("pair_id").iter_slices(CHUNK))
        tables = []
        with Progress(where, 2 * len(fitting), "verdicts", aloud=aloud) as progress:
            for number, chunk in enumerate(chunks):
                path = folder / f"shard-{number:05d}.parquet"
                said = digest_of([key, chunk.write_ndjson()])
                if (table := _stored(path, said)) is None:
                    table = self.read(chunk, progress.advance)
                    check_finite(table, self.name, where)
                    write_table(table, path, READ, {"key": said})
                else:
                    progress.advance(2 * len(table))
                tables.append(table)
        return self._judged(pl.concat(tables), pairs)

    def judge_now(self, pairs: pl.DataFrame, where: str) -> Judged:
        """As :meth:`Judge.judge_now`; no file of the judge is looked at again, so that a small call takes no time."""
        return self._judged(self.read(self._fitting(pairs, where, aloud=False)), pairs)

    def read(self, pairs: pl.DataFrame, advance: Callable[[int, int], None] = lambda verdicts, tokens: None):
        """READ rows of pairs that fit, in their order.

        Args:
            advance: told of finished verdicts, two a pair, and of the tokens they took.
        """
        objective = self._loaded()
        trees = list(objective.trees(pairs, objective.renderer))  # one an order (GenRM), or one for both
        found: list[dict[str, float]] = [{} for _ in trees]
        letters = tuple(objective.renderer.letter_ids.values())
        device = next(objective.policy.parameters()).device
        for rows in _batches(trees, self.batch_tokens):
            batch = collate([trees[i] for i in rows], objective.renderer.pad_id, letters).to(device)
            with torch.inference_mode():
                values = objective.loss(batch, objective(batch))[1]
            for name in ("accuracy", "chosen_reward", "rejected_reward"):
                for i, value in zip(rows, values[name].tolist() if name in values else (), strict=name in values):
                    found[i][name] = value
            advance(len(rows) * 2 * len(pairs) // len(trees), sum(len(trees[i]) for i in rows))
        of_pair: dict[str, list[dict[str, float]]] = {}
        for tree, values in zip(trees, found, strict=True):
            of_pair.setdefault(tree.pair_id, []).append(values)
        return pl.DataFrame([_read_row(pair_id, orders) for pair_id, orders in of_pair.items()], schema=READ)

    def open(self) -> None:
        self._loaded()

    def close(self) -> None:
        self._reads.policy = None
        gc.collect()

    def _loaded(self) -> Objective:
        if self._reads.policy is None:
            no_loading_bars()
            device = "cuda" if torch.cuda.is_available() else "cpu"
            self._reads.policy = load_judge(self.backbone, self.dtype, self._reads.scores).to(device)
        return self._reads

    def _fitting(self, pairs: pl.DataFrame, where: str, aloud: bool) -> pl.DataFrame:
        renderer, limits = self._reads.renderer, Limits(None, self._reads.context)
        long = {
            tree.pair_id
            for some in pairs.iter_slices(CHUNK)
            for tree in self._reads.trees(some, renderer)
            if limits.excess(tree) > 0
        }
        if not long:
            return pairs
        if self.too_long == "error":
            raise UserError(f"{where}: pair '{min(long)}' is too long ({limits}); {REMEDY}")

        def excess(rows: pl.DataFrame) -> int:
            return max(map(limits.excess, self._reads.trees(rows, renderer)))

        fitted = fit_rows(pairs, excess, renderer, self.too_long, long)
        fitted.say(where, limits, aloud)
        return fitted.rows

    def _judged(self, table: pl.DataFrame, pairs: pl.DataFrame) -> Judged:
        """From READ rows of those of the pairs that fit."""
        dropped = frozenset(pairs["pair_id"]) - frozenset(table["pair_id"])
        return Judged(verdicts(table, self.name, self.seed), self._rewards(table), dropped)

    def _rewards(self, table: pl.DataFrame) -> pl.DataFrame | None:
        return None if self.kind == "direct" else table.select(list(REWARDS)).sort("pair_id")


def _read_row(pair_id: str, orders: list[dict[str, float]]) -> dict[str, Any]:
    """A READ row from what the pair's trees say: one an order, or one for both."""
    first, second = orders[0], orders[-1]
    rewards = {name: first.get(name) for name in ("chosen_reward", "rejected_reward")}
    return {"pair_id": pair_id, "margin": first["accuracy"], "margin_swapped": second["accuracy"], **rewards}


def _batches(trees: list[Tree], tokens: int) -> Iterator[list[int]]:
    """Places of trees of like length, the longest first, so many that their padded tokens stay in the budget."""
    batch: list[int] = []
    for i in sorted(range(len(trees)), key=lambda i: (-len(trees[i]), i)):
        if batch and len(trees[batch[0]]) * (len(batch) + 1) > tokens:
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch


def _stored(path: Path, key: str) -> pl.DataFrame | None:
    """A chunk that was read before; None where there is none that can be used.

    Raises:
        UserError: it is of other pairs or another judge.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    try:
        said, table = pl.read_parquet_metadata(io.BytesIO(data)).get("key"), pl.read_parquet(io.BytesIO(data))
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError, ValueError):
        note(f"{path}: the file is damaged; its pairs are judged again")
        return None
    if said != key or table.schema != READ:
        raise UserError(
            f"{path}: of other pairs, another judge or another version; use another folder, or remove this one to "
            "begin anew"
        )
    return table
