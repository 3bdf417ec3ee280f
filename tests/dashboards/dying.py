"""A callback that kills its fit for good, as a machine that is switched off would."""

import os
import signal

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
