"""Tables -> PrefixBatches: the data modules, and a loader that resumes in mid-epoch on the same batches.

A data module reads a table of the schema its objective names and lets the objective turn rows into trees; it needs
no weights. The batch plan is a function of (rows, rows of an optimizer step, seed, epoch)
alone, and made of whole steps.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import polars as pl
from lightning.pytorch.callbacks import GradientAccumulationScheduler

from data_tools import verifiable
from data_tools.artifact import digest_of, read_table
from data_tools.errors import UserError
from data_tools.schema import PREFERENCE
from genrm_lightning.objectives.base import Objective
from genrm_lightning.prefix import PrefixBatch, Tree, collate
from genrm_lightning.rendering import Renderer

_POOL = 16  # batches' worth of shuffled rows that are sorted by length together: little padding, random batches


def batch_plan(lengths: list[int], batch_size: int, seed: int, epoch: int, shuffle: bool = True) -> list[list[int]]:
    """Which rows go together: every row once an epoch, rows of like length in one batch.

    Args:
        lengths: tokens of each row.
        shuffle: False keeps the rows' order (validation and prediction).
    """
    rows = np.arange(len(lengths))
    if shuffle:
        draw = np.random.Generator(np.random.Philox(key=[seed, epoch]))
        rows = draw.permutation(rows)
        size = batch_size * _POOL
        pools = [rows[i : i + size] for i in range(0, len(rows), size)]
        rows = np.concatenate([pool[np.argsort([lengths[i] for i in pool], kind="stable")] for pool in pools])
    plan = [rows[i : i + batch_size].tolist() for i in range(0, len(rows), batch_size)]
    return [plan[i] for i in draw.permutation(len(plan))] if shuffle else plan


class TreeLoader:
    """Batches of trees by :func:`batch_plan`; ``state_dict`` holds epoch and batch, so a resumed fit goes on in place.

    The plan is made of whole optimizer steps of batch_size × accumulate × ranks rows; the last of an epoch may have
    fewer. A step's rows are dealt out in pieces of ``batch_size``, ``accumulate`` to every process. Each piece weighs
    so much that the mean over processes and microbatches, which Lightning takes, is the mean over the step's rows:
    1 × accumulate 8, 8 × 1 and 2 processes × 4 take the same steps, uneven ones too. Where pieces are too few, a row
    of weight 0 fills up.

    Args:
        batch_size: rows a microbatch and process.
        accumulate: microbatches an optimizer step (trainer.accumulate_grad_batches).
        rank, ranks: of this process.
    """

    def __init__(
        self,
        trees: list[Tree],
        renderer: Renderer,
        batch_size: int,
        seed: int,
        shuffle: bool,
        accumulate: int = 1,
        rank: int = 0,
        ranks: int = 1,
    ) -> None:
        self.trees = trees
        self.renderer = renderer
        self.batch_size = batch_size
        self.seed = seed
        self.shuffle = shuffle
        self.accumulate = accumulate
        self.rank, self.ranks = rank, ranks
        self.epoch = 0
        self.next_batch = 0
        self.resumed = False  # whether the next iteration goes on at next_batch
        # Lightning tells a loader's sampler the epoch; to a fit that resumes at an epoch's end it says nothing else.
        self.sampler = self.batch_sampler = self

    def __len__(self) -> int:
        return -(-len(self.trees) // self.step_rows) * self.accumulate

    @property
    def step_rows(self) -> int:
        """Rows of a whole optimizer step."""
        return self.batch_size * self.accumulate * self.ranks

    def set_epoch(self, epoch: int) -> None:
        if epoch != self.epoch:
            self.epoch, self.next_batch, self.resumed = epoch, 0, False

    def __iter__(self) -> Iterator[PrefixBatch]:
        if (
            self.next_batch and not self.resumed
        ):  # the iterator before was left early (limit_train_batches, sanity check)
            self.epoch, self.next_batch = self.epoch + 1, 0
        self.resumed = False
        steps = batch_plan([len(t) for t in self.trees], self.step_rows, self.seed, self.epoch, self.shuffle)
        mine = [piece for step in steps for piece in self._pieces(step)]
        letters = tuple(self.renderer.letter_ids.values())
        for number in range(self.next_batch, len(mine)):
            # Where to go on is said before the batch is given: Lightning never asks an iterator for more than the
            # epoch's last batch, and takes states while it holds a batch.
            last = number + 1 == len(mine)
            self.epoch, self.next_batch = (self.epoch + 1, 0) if last else (self.epoch, number + 1)
            rows, weight = mine[number]
            batch = collate([self.trees[i] for i in rows], self.renderer.pad_id, letters)
            batch.weight = weight
            yield batch

    def _pieces(self, step: list[int]) -> list[tuple[list[int], float]]:
        """This process' microbatches of a step: (rows, weight) each."""
        shares = self.accumulate * self.ranks
        pieces = [step[i : i + self.batch_size] for i in range(0, len(step), self.batch_size)]
        weighed = [(piece, len(piece) * shares / len(step)) for piece in pieces]
        weighed += [(step[:1], 0.0)] * (shares - len(pieces))
        return weighed[self.rank :: self.ranks]

    def state_dict(self) -> dict[str, Any]:
        return {"epoch": self.epoch, "batch": self.next_batch, **self._plan}

    @cached_property
    def _plan(self) -> dict[str, Any]:
        """What the batch plan is a function of, beside the epoch."""
        return {
            "rows": len(self.trees),
            "batch_size": self.batch_size,
            "accumulate": self.accumulate,
            "seed": self.seed,
            "ranks": self.ranks,
            "pairs": digest_of([(tree.pair_id, len(tree)) for tree in self.trees]),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where :meth:`state_dict` was taken.

        Raises:
            UserError: the plan would be another one: some rows would come twice and others never; names what differs.
        """
        names = {
            "rows": ("data.train", " rows"),
            "batch_size": ("data.batch_size", ""),
            "accumulate": ("trainer.accumulate_grad_batches", ""),
            "seed": ("data.seed", ""),
            "ranks": ("trainer.devices", " processes"),
        }
        for name, (key, unit) in names.items():
            if state.get(name) != self._plan[name]:
                raise UserError(
                    f"{key}: the checkpoint was made with {state.get(name)}{unit}, now it is "
                    f"{self._plan[name]}{unit}; resume with the config it was made with"
                )
        if state.get("pairs") != self._plan["pairs"]:
            raise UserError(
                "data.train: the checkpoint was made on other pairs, on these in another order, or on texts of other "
                "lengths; resume with the file it was made with"
            )
        self.epoch, self.next_batch, self.resumed = state["epoch"], state["batch"], True


class _Trees(L.LightningDataModule):
    """Base: rows of a part -> trees -> loader."""

    def __init__(self, batch_size: int, seed: int, max_tokens: int) -> None:
        super().__init__()
        if batch_size < 1:
            raise UserError(f"data.batch_size: {batch_size} is not above 0")
        if max_tokens < 1:
            raise UserError(f"data.max_tokens: {max_tokens} is not above 0")
        if seed < 0:
            raise UserError(f"data.seed: {seed} is below 0")
        self.batch_size = batch_size
        self.seed = seed
        self.max_tokens = max_tokens
        self.trees: dict[str, list[Tree]] = {}
        self._train: TreeLoader | None = None
        self._resume: dict[str, Any] | None = None

    def rows(self, part: str, objective: Objective) -> tuple[pl.DataFrame, str] | None:
        """The part's rows and where they come from, None where the part is absent."""
        raise NotImplementedError

    def setup(self, stage: str) -> None:
        objective = self.trainer.lightning_module
        parts = {"fit": ("train", "validation"), "validate": ("validation",), "test": ("test",), "predict": ("test",)}
        for part in parts[stage]:
            found = self.rows(part, objective)
            if found is None:
                if part == "train" or stage != "fit":
                    raise UserError(f"data.{part}: no file given")
                continue
            frame, where = found
            if not len(frame):
                raise UserError(f"{where}: no rows for {part}; name another file or split")
            trees = list(objective.trees(frame, objective.renderer))
            self._refuse_long(trees, where, objective.context)
            self.trees[part] = trees

    def _refuse_long(self, trees: list[Tree], where: str, context: int | None) -> None:
        def reach(tree: Tree) -> int:
            return len(tree.prefix) + max(len(branch.ids) for branch in tree.branches)

        remedy = "or drop long pairs with: python -m data_tools clean --max-chars"
        longest = max(trees, key=len)
        if len(longest) > self.max_tokens:
            raise UserError(
                f"{where}: pair '{longest.pair_id}' has {len(longest)} tokens, data.max_tokens is {self.max_tokens}; "
                f"raise it, {remedy}"
            )
        longest = max(trees, key=reach)
        if context is not None and reach(longest) > context:
            raise UserError(
                f"{where}: pair '{longest.pair_id}' reaches {reach(longest)} tokens, the model's context is {context}; "
                f"take another backbone, {remedy}"
            )

    def _loader(self, part: str, shuffle: bool = False, accumulate: int = 1) -> TreeLoader:
        rank, ranks = self.trainer.global_rank, self.trainer.world_size
        renderer = self.trainer.lightning_module.renderer
        return TreeLoader(self.trees[part], renderer, self.batch_size, self.seed, shuffle, accumulate, rank, ranks)

    def train_dataloader(self) -> TreeLoader:
        accumulate = self.trainer.accumulate_grad_batches
        schedulers = [c for c in self.trainer.callbacks if isinstance(c, GradientAccumulationScheduler)]
        if any(c.scheduling != {0: accumulate} for c in schedulers):  # Lightning has one of its own, of that kind
            raise UserError(
                "trainer.callbacks: GradientAccumulationScheduler changes the length of a step, which the batch plan "
                "fixes; set trainer.accumulate_grad_batches instead"
            )
        self._train = self._loader("train", shuffle=True, accumulate=accumulate)
        if self._resume is not None:
            self._train.load_state_dict(self._resume)
            self._resume = None
        return self._train

    # Lightning keeps a stateful loader's state too, and does not load it where the optimizer's schedule asked for the
    # number of steps: the loader was made then, before the loops are restored. The data module's is loaded first.
    def state_dict(self) -> dict[str, Any]:
        return {} if self._train is None else self._train.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if self._train is None:
            self._resume = state or None
        else:  # strategies that restore after their set-up
            self._train.load_state_dict(state)

    def val_dataloader(self) -> TreeLoader | list:
        return self._loader("validation") if "validation" in self.trees else []

    def test_dataloader(self) -> TreeLoader:
        return self._loader("test")

    def predict_dataloader(self) -> TreeLoader:
        return self._loader("test")


class Tables(_Trees):
    """Parquet tables: PREFERENCE for Bradley-Terry and GenRM, EXAMPLE for the rationale objectives.

    Args:
        train, validation, test: files that ``python -m data_tools`` wrote; validation may be left out.
        batch_size: rows (trees) a step and device.
        seed: of the batch plan.
        max_tokens: longest tree; a longer one is an error that names its pair.
    """

    def __init__(
        self,
        train: str | None = None,
        validation: str | None = None,
        test: str | None = None,
        batch_size: int = 8,
        seed: int = 0,
        max_tokens: int = 4096,
    ) -> None:
        super().__init__(batch_size, seed, max_tokens)
        self.files = {"train": train, "validation": validation, "test": test}

    def rows(self, part: str, objective: Objective) -> tuple[pl.DataFrame, str] | None:
        file = self.files[part]
        if file is None:
            return None
        if not Path(file).is_file():
            made = "ingest" if objective.table == PREFERENCE else "star"
            raise UserError(f"data.{part}: {file}: no such file; make it with: python -m data_tools {made}")
        return read_table(file, objective.table), file


class EmbeddedPairs(_Trees):
    """The embedded preference pairs (data_tools.verifiable), made in memory: nothing to prepare.

    Args:
        rows: training pairs.
        data_seed: of the pairs.
        test_rows: held-out pairs of the trained kinds.
        levels: of difficulty, 1 (easy) to 3; null takes all.
        batch_size, seed, max_tokens: as in :class:`Tables`.
    """

    def __init__(
        self,
        rows: int = 1000,
        data_seed: int = 0,
        test_rows: int = 200,
        levels: list[int] | None = None,
        batch_size: int = 8,
        seed: int = 0,
        max_tokens: int = 4096,
    ) -> None:
        super().__init__(batch_size, seed, max_tokens)
        self.build = (rows, data_seed, test_rows, levels or verifiable.LEVELS)

    def rows(self, part: str, objective: Objective) -> tuple[pl.DataFrame, str] | None:
        if objective.table != PREFERENCE:
            raise UserError(
                f"data: {type(objective).__name__} trains on sampled rationales, the embedded data are pairs; "
                "run: make star-iter, then use configs/data/examples.yaml"
            )
        return verifiable.build(*self.build)[part], "embedded data"
