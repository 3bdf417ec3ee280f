"""The callback that writes a fit's dashboard to TensorBoard."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback, LearningRateMonitor
from lightning.pytorch.loggers import TensorBoardLogger

from data_tools.errors import UserError
from genrm_lightning.dashboards.board import Board
from genrm_lightning.dashboards.held_out import Collector, together
from genrm_lightning.dashboards.hparams import Value
from genrm_lightning.dashboards.pace import Pace, counter, peak_flops
from genrm_lightning.dashboards.samples import example_texts
from genrm_lightning.sharded import is_sharded


class Dashboard(Callback):
    """What a judge's page shows beside the losses that the objective logs; ``--dashboard false`` leaves it out.

    - while it trains: ``pace/`` (tokens, rows and seconds of a step, share of the time in the step, useful FLOP/s and
      their share of what the device can do, memory), ``train/gradient_norm`` before clipping;
    - at validation: ``judge/`` (:func:`~genrm_lightning.dashboards.held_out.numbers`), accuracy by ``category/``,
      histograms of ``margins/``, a precision-recall curve, and pictures of reliability, precision and categories;
    - once: training examples to read where they hold rationales, the layout of the Custom Scalars tab, and the
      settings for the HParams tab.

    It writes to the fit's own TensorBoard runs and to no file of its own; without such a run it does nothing. Only the
    first process writes, the others hand over their validation rows. Pace and memory are those of the first, its rows
    and tokens times the number of processes.

    Args:
        seconds: between two points of ``pace/``, at least.
        samples: training examples to show.
        hparams: whether the run is a line of the HParams tab; a part of a run that is one should not be.
        before: categories of other runs' layouts that TensorBoard is to show above this one's.

    Raises:
        UserError: a number below 0; names it.
    """

    def __init__(
        self, seconds: float = 1.0, samples: int = 4, hparams: bool = True, before: list[str] | None = None
    ) -> None:
        for name, value in (("seconds", seconds), ("samples", samples)):
            if value < 0:
                raise UserError(f"Dashboard.{name}: {value} is below 0")
        self.seconds = seconds
        self.samples = samples
        self.hparams = hparams
        self.before = before or []
        self.settings: Mapping[str, Value] = {}  # for the HParams tab; who reads the config sets them
        self.pace: Pace | None = None
        self.board: Board | None = None  # of the first process
        self.rows: Collector | None = None  # of a validation pass

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        loggers = [logger for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]
        if not loggers:
            return
        self.resumed = trainer.global_step > 0
        self.begun = self.logged = False
        count = peak = None
        if trainer.is_global_zero:
            self.board = Board(loggers, self.before, trainer.global_step)
            count = counter(pl_module, _trees(trainer))
            peak = peak_flops(trainer.strategy.root_device, str(trainer.precision))
        self.pace = Pace(trainer.world_size, count, peak)

    def on_train_batch_start(self, *_: Any) -> None:
        if self.pace:
            self.pace.enter()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self.pace is None:
            return
        stepped = not trainer.fit_loop.epoch_loop._should_accumulate()
        self.pace.leave(batch, stepped)
        if not stepped:
            return
        # Once, and not on_train_start: by now OneCurve has said where the curve begins.
        if self.board and not self.begun:
            self._begin(trainer, pl_module)
        if not trainer._logger_connector.should_update_logs:
            return
        self.logged = True
        found = _norm(trainer, pl_module)  # all processes take part in it
        if self.board is None:
            return
        if self.pace.seconds >= self.seconds:
            found |= self._pace(trainer)
        self.board.scalars(found, _step(trainer))
        if not self.board.laid_out:
            self._lay_out(trainer)

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        # Not of a sanity check, which comes before the fit has begun.
        if self.pace and trainer.state.fn == "fit" and not trainer.sanity_checking:
            self.pace.pause()
            self.rows = Collector(pl_module.scores)

    def on_validation_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, *_: Any
    ) -> None:
        if self.rows is not None and isinstance(outputs, Mapping):
            self.rows.add(batch, outputs)

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self.rows is None:
            return
        parts: list[Any] = [self.rows.taken()]
        if trainer.world_size > 1:
            own, parts = parts[0], [None] * trainer.world_size
            torch.distributed.all_gather_object(parts, own)
        rows = together(parts)
        if self.board and len(rows):
            categories = getattr(trainer.datamodule, "categories", {})
            self.board.held_out(rows, categories, _step(trainer))

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self.rows is not None:
            self.rows = None
            self.pace.go_on()
            if self.board:
                self._lay_out(trainer)

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self.board is None:
            return
        if "pace/busy" not in self.board.written and self.pace.steps:  # a short fit
            self.board.scalars(self._pace(trainer), max(0, _step(trainer) - 1))
        self.board.draw()
        self._lay_out(trainer)
        if self.hparams and self.settings and not trainer.interrupted:
            self.board.succeeded()

    def _pace(self, trainer: L.Trainer) -> dict[str, float]:
        found = self.pace.read(trainer.strategy.root_device)
        return {f"pace/{name}": value for name, value in found.items()}

    def _begin(self, trainer: L.Trainer, module: Any) -> None:
        self.begun = True
        texts = example_texts(_trees(trainer), module.renderer, self.samples)
        self.board.examples(texts, self.resumed)
        if self.hparams and self.settings:
            part = "val" if trainer.enable_validation and sum(trainer.num_val_batches) else "train"
            self.board.settings(self.settings, [f"{part}/accuracy", f"{part}/loss", "pace/tokens_per_second"])

    def _lay_out(self, trainer: L.Trainer) -> None:
        rates = [name for c in trainer.callbacks if isinstance(c, LearningRateMonitor) for name in c.lrs]
        found = [*trainer.callback_metrics, *rates]
        # Before the first step that is logged, Lightning knows names of training without a curve.
        self.board.lay_out(found if self.logged else [name for name in found if name.startswith("val/")])


def _step(trainer: L.Trainer) -> int:
    """Where Lightning puts what is logged now."""
    return trainer.fit_loop.epoch_loop._batches_that_stepped


def _trees(trainer: L.Trainer) -> list[Any]:
    return getattr(trainer.datamodule, "trees", {}).get("train", [])


def _norm(trainer: L.Trainer, module: Any) -> dict[str, float]:
    norm = module.watch.norm
    if norm is None:  # fp16's are scaled
        return {}
    if is_sharded(module.policy):
        squares = torch.tensor(norm**2, device=trainer.strategy.root_device)
        norm = float(trainer.strategy.reduce(squares, reduce_op="sum")) ** 0.5
    return {"train/gradient_norm": norm}
