"""TensorBoard's logger for fits that continue one another."""

from __future__ import annotations

from typing import Any

from lightning.pytorch.loggers import TensorBoardLogger

from data_tools.errors import UserError


class ContinuedLogger(TensorBoardLogger):
    """Steps counted from ``first_step``: the iterations of a STaR run, a run each, lie behind one another on one axis.

    Args:
        save_dir, version: the run's folder is ``save_dir/version``.
        first_step: steps of the fits before.

    Raises:
        UserError: ``first_step`` below 0.
    """

    def __init__(self, save_dir: str, version: str, first_step: int = 0) -> None:
        if first_step < 0:
            raise UserError(f"first_step: {first_step} is below 0")
        super().__init__(save_dir, name="", version=version)
        self.first_step = first_step

    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        super().log_metrics(metrics, None if step is None else step + self.first_step)


def first_step(logger: Any) -> int:
    """The step at which a logger's fit begins: 0 but for a :class:`ContinuedLogger`."""
    return logger.first_step if isinstance(logger, ContinuedLogger) else 0
