"""Which TensorBoard run a fit writes to: one of its own, or the one it goes on with."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import TensorBoardLogger

from data_tools.errors import UserError

FOLDER = "tensorboard"  # of a fit's runs, in <trainer.default_root_dir>
RUN = "tensorboard_run"  # of a checkpoint: the name of its run's first event file


class FitLogger(TensorBoardLogger):
    """The default of ``fit``: a run ``<root>/tensorboard/version_N``, the next free N.

    A fit that goes on from a checkpoint goes on with the run that the checkpoint is from, so that it is one curve and
    one line of the HParams tab: :meth:`go_on`. A run is known by its first event file, whose name holds time, host and
    process: folders may be renamed, moved or copied with their fit, and the N of another fit is never taken for it.

    Args:
        root: ``trainer.default_root_dir``.
    """

    def __init__(self, root: str | Path) -> None:
        super().__init__(str(root), name=FOLDER)

    def go_on(self, checkpoint: Mapping[str, Any]) -> None:
        """Write to the checkpoint's run where it lies in the root, else to a new one; before anything is logged.

        Raises:
            UserError: the run's folder cannot be written.
        """
        wanted = checkpoint.get(RUN)
        runs = [folder for folder in Path(self.root_dir).glob("*") if wanted in map(_name, event_files(folder))]
        if runs:  # the copy of a run has its files, too
            self._version = min(runs, key=_number).name
            # TensorBoard would find out in a thread of its own, which prints a traceback.
            if not os.access(self.log_dir, os.W_OK | os.X_OK):
                raise UserError(
                    f"{self.log_dir}: this folder cannot be written, and the fit would go on with its curves there; "
                    "make it writable, or go on in another folder with --trainer.default_root_dir"
                )

    @property
    def run(self) -> str:
        """What :meth:`go_on` knows the run by."""
        return event_files(self.log_dir)[0].name


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


def event_files(folder: str | Path) -> list[Path]:
    """A run's event files in the order in which TensorBoard reads them."""
    return sorted(Path(folder).glob("*tfevents*"))


def _name(path: Path) -> str:
    return path.name


def _number(folder: Path) -> tuple[int, str]:
    """version_9 before version_10."""
    return len(folder.name), folder.name
