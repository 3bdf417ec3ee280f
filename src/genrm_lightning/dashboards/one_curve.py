"""A killed and resumed fit is one curve: what an earlier life logged and the fit will log again is forgotten."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning as L
from google.protobuf.message import DecodeError
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import TensorBoardLogger
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from torch.utils.tensorboard import FileWriter

from genrm_lightning.dashboards.logger import RUN, FitLogger, event_files, first_step


class OneCurve(Callback):
    """No training step twice and none missing, however often a fit is killed and goes on.

    A fit that begins, or goes on, at a step tells TensorBoard to forget what an earlier one logged from there on, and
    logs its first step there. A checkpoint lets the logger write what it holds back, and the checkpoint's own step as
    soon as it is logged, which Lightning does after it.

    One validation may be missing: where a fit dies between a checkpoint and the end of the validation behind the same
    step, Lightning takes that validation for done.

    It should be the first of the callbacks: others log in the hooks that put the steps right.
    """

    def __init__(self) -> None:
        self.due = False  # whether the checkpoint's own step is to be written

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        for logger, writer in self._writers(trainer):
            # What SummaryWriter(purge_step=...) writes; the step is not known yet when the logger is made.
            begun, step = SessionLog(status=SessionLog.START), trainer.global_step + first_step(logger)
            writer.add_event(Event(step=step, file_version="brain.Event:2"))
            writer.add_event(Event(step=step, session_log=begun))

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        self._flush(trainer)
        self.due = True
        for logger, _ in self._writers(trainer):
            if isinstance(logger, FitLogger):
                checkpoint[RUN] = logger.run

    def on_train_batch_start(self, trainer: L.Trainer, *_: Any) -> None:
        self._flush_due(trainer)
        _count_anew(trainer, ahead=0)

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._flush_due(trainer)
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            # It is logged at the step that it comes behind.
            _count_anew(trainer, ahead=int(not trainer.fit_loop.epoch_loop._should_accumulate()))

    def _flush_due(self, trainer: L.Trainer) -> None:
        if self.due:
            self.due = False
            self._flush(trainer)

    def _flush(self, trainer: L.Trainer) -> None:
        for _, writer in self._writers(trainer):
            writer.flush()

    @staticmethod
    def _writers(trainer: L.Trainer) -> list[tuple[TensorBoardLogger, FileWriter]]:
        ours = [logger for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]
        return [(logger, logger.experiment._get_file_writer()) for logger in ours if trainer.is_global_zero]


def _count_anew(trainer: L.Trainer, ahead: int) -> None:
    """Have Lightning log at the optimizer's step less ``ahead``, as it does in a fit that was never resumed.

    It counts the steps that it logs at apart from the optimizer's, and a checkpoint may lie between the two counts. A
    resumed fit makes up for that, but not one that has found nothing left to do and has written its checkpoint again.
    """
    if trainer.lightning_module.automatic_optimization:  # else a batch may take several steps, or none
        trainer.fit_loop.epoch_loop._batches_that_stepped = trainer.global_step - ahead


def curves_before(folder: str | Path, step: int) -> set[str]:
    """Tags of the scalars of which a run shows a point before ``step``, whichever of a fit's lives has logged it."""
    first: dict[str, int] = {}  # of each tag: the step of its first point
    for file in event_files(folder):
        for event in _events(file):
            if event.session_log.status == SessionLog.START:
                first = {tag: began for tag, began in first.items() if began < event.step}
            for value in event.summary.value:
                if value.HasField("simple_value"):
                    first.setdefault(value.tag, event.step)
    return {tag for tag, began in first.items() if began < step}


def _events(file: Path) -> Iterator[Event]:
    """Up to where a kill tore a record. Checksums are not looked at: TensorBoard's reader takes them in pure Python."""
    size = file.stat().st_size
    with open(file, "rb") as records:
        while len(head := records.read(12)) == 12:  # length, its checksum; then the record and its own
            (length,) = struct.unpack("<Q", head[:8])
            if length > size - records.tell():
                return
            try:
                yield Event.FromString(records.read(length))
            except DecodeError:
                return
            records.seek(4, 1)
