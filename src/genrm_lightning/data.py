"""Tables -> PrefixBatches: the data modules, and a loader that resumes in mid-epoch on the same batches.

A data module reads a table of the schema its objective names and lets the objective turn rows into trees; it needs
no weights. What is too long for the model follows a policy (:mod:`~genrm_lightning.budget`); which rows make a batch
is :mod:`~genrm_lightning.batching`'s.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import lightning as L
import polars as pl
from lightning.pytorch.callbacks import GradientAccumulationScheduler

from data_tools import verifiable
from data_tools.artifact import digest_of, read_table
from data_tools.errors import UserError
from data_tools.schema import PREFERENCE
from genrm_lightning.batching import batch_plan, batches_in_order, token_pieces, token_plan, token_steps
from genrm_lightning.budget import MAX_TOKENS, REMEDY, Limits, TooLong, check_too_long, fit_rows
from genrm_lightning.objectives.base import Objective
from genrm_lightning.prefix import PrefixBatch, Tree, collate
from genrm_lightning.rendering import Renderer

_BATCH_SIZE = 8  # rows a microbatch where neither rows nor tokens are given


class TreeLoader:
    """Batches of trees by a plan of whole optimizer steps; ``state_dict`` holds epoch and batch, so a resumed fit goes
    on in place.

    A step has batch_size × accumulate × ranks rows, or about batch_tokens × accumulate × ranks tokens
    (:func:`~genrm_lightning.batching.token_plan`); which rows it takes depends on that product alone. They are dealt
    out in pieces, ``accumulate`` to every process. Each piece weighs so much that the mean over processes and
    microbatches, which Lightning takes, is the mean over the step's rows: 1 × accumulate 8, 8 × 1 and 2 processes × 4
    take the same steps, uneven ones too. Where pieces are too few, a row of weight 0 fills up, the step's shortest.

    Under a token budget a step's rows are sorted by length and cut where the pieces' tokens balance; a piece may pass
    ``batch_tokens`` by less than the longest tree. Unshuffled rows keep their order and no batch passes it, padding
    counted.

    Args:
        batch_size: rows a microbatch and process; None where ``batch_tokens`` says how many.
        accumulate: microbatches an optimizer step (trainer.accumulate_grad_batches).
        rank, ranks: of this process.
        batch_tokens: tokens a microbatch and process, a tree's :func:`len` each; no tree may be longer.
    """

    def __init__(
        self,
        trees: list[Tree],
        renderer: Renderer,
        batch_size: int | None,
        seed: int,
        shuffle: bool,
        accumulate: int = 1,
        rank: int = 0,
        ranks: int = 1,
        batch_tokens: int | None = None,
    ) -> None:
        self.trees = trees
        self.lengths = [len(tree) for tree in trees]
        self.renderer = renderer
        self.batch_size = batch_size
        self.batch_tokens = batch_tokens
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
        if self.batch_tokens is None:
            steps = -(-len(self.trees) // self.step_size)
        elif self.shuffle:
            steps = token_steps(self.lengths, self.step_size)
        else:
            steps = len(self._steps())
        return steps * self.accumulate

    @property
    def shares(self) -> int:
        """Pieces that an optimizer step is dealt out in."""
        return self.accumulate * self.ranks

    @property
    def step_size(self) -> int:
        """Rows of a whole optimizer step, or its tokens where ``batch_tokens`` is set."""
        return (self.batch_tokens or self.batch_size) * self.shares

    def set_epoch(self, epoch: int) -> None:
        if epoch != self.epoch:
            self.epoch, self.next_batch, self.resumed = epoch, 0, False

    def __iter__(self) -> Iterator[PrefixBatch]:
        if (
            self.next_batch and not self.resumed
        ):  # the iterator before was left early (limit_train_batches, sanity check)
            self.epoch, self.next_batch = self.epoch + 1, 0
        self.resumed = False
        mine = [piece for step in self._steps() for piece in self._weighed(step)]
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

    def _steps(self) -> list[list[list[int]]]:
        """The epoch's steps, each as its pieces: rows."""
        if self.batch_tokens is None:
            size = self.batch_size
            steps = batch_plan(self.lengths, self.step_size, self.seed, self.epoch, self.shuffle)
            return [[step[i : i + size] for i in range(0, len(step), size)] for step in steps]
        if self.shuffle:
            steps = token_plan(self.lengths, self.step_size, self.seed, self.epoch)
            return [token_pieces(step, self.lengths, self.shares) for step in steps]
        batches = batches_in_order(self.lengths, self.batch_tokens)
        return [batches[i : i + self.shares] for i in range(0, len(batches), self.shares)]

    def _weighed(self, step: list[list[int]]) -> list[tuple[list[int], float]]:
        """This process' microbatches of a step: (rows, weight) each."""
        rows = [row for piece in step for row in piece]
        weighed = [(piece, len(piece) * self.shares / len(rows)) for piece in step]
        shortest = min(rows, key=lambda row: self.lengths[row])
        weighed += [([shortest], 0.0)] * (self.shares - len(step))
        return weighed[self.rank :: self.ranks]

    def state_dict(self) -> dict[str, Any]:
        return {"epoch": self.epoch, "batch": self.next_batch, **self._plan}

    @cached_property
    def _plan(self) -> dict[str, Any]:
        """What the batch plan is a function of, beside the epoch."""
        return {
            "rows": len(self.trees),
            "batch_size": self.batch_size,
            "batch_tokens": self.batch_tokens,
            "accumulate": self.accumulate,
            "seed": self.seed,
            "ranks": self.ranks,
            "pairs": digest_of([*zip((tree.pair_id for tree in self.trees), self.lengths, strict=True)]),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where :meth:`state_dict` was taken.

        The same steps may be dealt out otherwise (batch_size or batch_tokens, accumulate, ranks) where one has just
        ended.

        Raises:
            UserError: the plan would be another one: some rows would come twice and others never; names what differs.
        """
        shares = ("batch_size", "batch_tokens", "accumulate", "ranks")
        sizes = [math.prod(plan.get(name) or 1 for name in shares) for plan in (state, self._plan)]
        same_unit = (state.get("batch_tokens") is None) == (self.batch_tokens is None)
        accumulate = state.get("accumulate") or 1  # older checkpoints do not say 1
        middle = state["batch"] % accumulate
        same_steps = sizes[0] == sizes[1] and same_unit and not middle
        names = {
            "rows": ("data.train", " rows"),
            "batch_size": ("data.batch_size", ""),
            "batch_tokens": ("data.batch_tokens", ""),
            "accumulate": ("trainer.accumulate_grad_batches", ""),
            "seed": ("data.seed", ""),
            "ranks": ("trainer.devices", " processes"),
        }
        for name, (key, unit) in names.items():
            if state.get(name) != self._plan[name] and not (name in shares and same_steps):
                then, now = ("null" if plan.get(name) is None else plan[name] for plan in (state, self._plan))
                others = ", or one whose steps are as large" if name in shares and not middle else ""
                raise UserError(
                    f"{key}: the checkpoint was made with {then}{unit}, now it is {now}{unit}; resume with the config "
                    f"it was made with{others}"
                )
        if state.get("pairs") != self._plan["pairs"]:
            raise UserError(
                "data.train: the checkpoint was made on other pairs, on these in another order, or on texts of other "
                "lengths; resume with the file it was made with"
            )
        batch = state["batch"] if middle else state["batch"] // accumulate * self.accumulate
        self.epoch, self.next_batch, self.resumed = state["epoch"], batch, True


class _Trees(L.LightningDataModule):
    """Base: rows of a part -> trees -> loader."""

    def __init__(
        self, batch_size: int | None, seed: int, max_tokens: int, batch_tokens: int | None, too_long: TooLong
    ) -> None:
        super().__init__()
        if batch_size is not None and batch_tokens is not None:
            raise UserError("data.batch_tokens: data.batch_size is set as well; set one of the two to null")
        for name, value in (("batch_size", batch_size), ("batch_tokens", batch_tokens), ("max_tokens", max_tokens)):
            if value is not None and value < 1:
                raise UserError(f"data.{name}: {value} is not above 0")
        if seed < 0:
            raise UserError(f"data.seed: {seed} is below 0")
        check_too_long(too_long)
        self.batch_size = _BATCH_SIZE if batch_size is None and batch_tokens is None else batch_size
        self.batch_tokens = batch_tokens
        self.seed = seed
        self.max_tokens = max_tokens
        self.too_long = too_long
        self.trees: dict[str, list[Tree]] = {}
        self.categories: dict[str, str] = {}  # of the validation pairs that have one, by pair id
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
            self.trees[part] = self._fitting(frame, where, objective)
            if part == "validation" and "category" in frame.columns:
                named = frame.select("pair_id", "category").drop_nulls()
                self.categories = dict(zip(named["pair_id"], named["category"], strict=True))

    def _fitting(self, frame: pl.DataFrame, where: str, objective: Objective) -> list[Tree]:
        """The trees of the rows that fit, shortened or dropped as ``too_long`` says."""
        limits = Limits(self.max_tokens, objective.context)
        trees = list(objective.trees(frame, objective.renderer))
        long = {tree.pair_id for tree in trees if limits.excess(tree) > 0}
        if long and self.too_long == "error":
            self._refuse_long(trees, where, objective.context)
        elif long:
            # Of either order: both are shortened alike.
            stored = next((t.pair_id for t in trees if t.pair_id in long and t.extras.get("ref_logp")), None)
            if stored is not None and self.too_long == "shorten":
                raise UserError(
                    f"{where}: the prompt of pair '{stored}' is too long ({limits}), and its ref_logp is of the whole "
                    "prompt; write it anew with: python -m genrm_lightning score --fit and the files of this fit"
                )

            def excess(rows: pl.DataFrame) -> int:
                return max(map(limits.excess, objective.trees(rows, objective.renderer)))

            fitted = fit_rows(frame, excess, objective.renderer, self.too_long, long)
            fitted.say(where, limits, aloud=self.trainer.is_global_zero)
            trees = list(objective.trees(fitted.rows, objective.renderer))
        longest = max(trees, key=len)
        if self.batch_tokens is not None and len(longest) > self.batch_tokens:
            raise UserError(
                f"data.batch_tokens: {self.batch_tokens} is less than the {len(longest)} tokens of pair "
                f"'{longest.pair_id}' ({where}); raise it, or lower data.max_tokens"
            )
        return trees

    def _refuse_long(self, trees: list[Tree], where: str, context: int | None) -> None:
        def reach(tree: Tree) -> int:
            return len(tree.prefix) + max(len(branch.ids) for branch in tree.branches)

        longest = max(trees, key=len)
        if len(longest) > self.max_tokens:
            raise UserError(
                f"{where}: pair '{longest.pair_id}' has {len(longest)} tokens, data.max_tokens is {self.max_tokens}; "
                f"raise it, or {REMEDY}"
            )
        longest = max(trees, key=reach)
        raise UserError(
            f"{where}: pair '{longest.pair_id}' reaches {reach(longest)} tokens, the model's context is {context}; "
            f"take another backbone, or {REMEDY}"
        )

    def _loader(self, part: str, shuffle: bool = False, accumulate: int = 1) -> TreeLoader:
        rank, ranks = self.trainer.global_rank, self.trainer.world_size
        renderer = self.trainer.lightning_module.renderer
        return TreeLoader(
            self.trees[part], renderer, self.batch_size, self.seed, shuffle, accumulate, rank, ranks, self.batch_tokens
        )

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
        batch_size: rows (trees) a microbatch and device; 8 where ``batch_tokens`` is null too.
        seed: of the batch plan.
        max_tokens: longest tree.
        batch_tokens: tokens a microbatch and device, instead of ``batch_size``: prompt once, and its branches
            (:class:`TreeLoader`).
        too_long: what becomes of a row whose tree is longer than ``max_tokens`` or reaches over the model's context:
            shorten its conversation, oldest text first (and drop the row where that does not do), drop it, or take it
            for an error that names its pair. What was shortened or dropped is counted and said.
    """

    def __init__(
        self,
        train: str | None = None,
        validation: str | None = None,
        test: str | None = None,
        batch_size: int | None = None,
        seed: int = 0,
        max_tokens: int = MAX_TOKENS,
        batch_tokens: int | None = None,
        too_long: TooLong = "shorten",
    ) -> None:
        super().__init__(batch_size, seed, max_tokens, batch_tokens, too_long)
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
        batch_size, seed, max_tokens, batch_tokens, too_long: as in :class:`Tables`.
    """

    def __init__(
        self,
        rows: int = 1000,
        data_seed: int = 0,
        test_rows: int = 200,
        levels: list[int] | None = None,
        batch_size: int | None = None,
        seed: int = 0,
        max_tokens: int = MAX_TOKENS,
        batch_tokens: int | None = None,
        too_long: TooLong = "shorten",
    ) -> None:
        super().__init__(batch_size, seed, max_tokens, batch_tokens, too_long)
        self.build = (rows, data_seed, test_rows, levels or verifiable.LEVELS)

    def rows(self, part: str, objective: Objective) -> tuple[pl.DataFrame, str] | None:
        if objective.table != PREFERENCE:
            raise UserError(
                f"data: {type(objective).__name__} trains on sampled rationales, the embedded data are pairs; "
                "run: make star-iter, then use configs/data/examples.yaml"
            )
        return verifiable.build(*self.build)[part], "embedded data"
