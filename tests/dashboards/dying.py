"""Callbacks: one kills its fit for good, as a machine that is switched off would; one tells what it trains on."""

import os
import signal
from pathlib import Path

import lightning as L


class Dies(L.Callback):
    """SIGKILL in the backward pass of the step behind ``steps`` others; ``written``: with all that is logged there."""

    def __init__(self, steps: int, written: bool) -> None:
        self.steps, self.written = steps, written

    def on_before_backward(self, trainer: L.Trainer, *_: object) -> None:
        if trainer.global_step == self.steps:
            if self.written:
                trainer.logger.experiment.flush()
            os.kill(os.getpid(), signal.SIGKILL)


class Tells(L.Callback):
    """Adds to ``<trainer.default_root_dir>/batches.txt`` the step of each batch and its pairs, one for each tree."""

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: L.LightningModule, batch, *_: object) -> None:
        with open(Path(trainer.default_root_dir) / "batches.txt", "a") as file:
            print(trainer.global_step, *sorted(batch.pair_ids), file=file)


def told(root: Path) -> list[list[str]]:
    """The pairs of each step; a step that is taken again is to be the same one."""
    steps: dict[int, list[str]] = {}
    for line in (root / "batches.txt").read_text().splitlines():
        step, *pairs = line.split()
        assert steps.setdefault(int(step), pairs) == pairs, step
    assert [*steps] == [*range(len(steps))]
    return [*steps.values()]
