"""What a LightningCLI run needs around the objective.

Progress, checkpoints that are whole or absent, what it took, its config, predictions.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any
from zipfile import is_zipfile

import lightning as L
import polars as pl
import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch.callbacks import BasePredictionWriter, Callback, ModelCheckpoint, ProgressBar
from lightning.pytorch.cli import SaveConfigCallback
from lightning.pytorch.utilities.types import STEP_OUTPUT
from torch import Tensor

from data_tools.artifact import atomic_path, full_disk_told, replace_folder, sweep, temporary_name, write_json
from data_tools.errors import UserError
from genrm_lightning.checkpoints import UNREADABLE, read_rest, read_whole, unreadable
from genrm_lightning.progress import Progress

PREDICTIONS = "predictions.parquet"
CHECKPOINTS = "checkpoints"
LAST = "last.ckpt"
SPENT = "spent.json"
# What every checkpoint that Lightning writes holds.
_PARTS = ("state_dict", "loops", "global_step", "pytorch-lightning_version")


class FitProgress(ProgressBar):
    """Optimizer steps of a fit, batches of the rest, with rate, time left and what the objective puts on the bar.

    Args:
        label: shown before the bar; null says what is run.
    """

    def __init__(self, label: str | None = None) -> None:
        super().__init__()
        self.label = label
        self.progress: Progress | None = None
        self.wanted = True

    def disable(self) -> None:  # Lightning calls it on all processes but one
        self.wanted = False

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        steps = trainer.estimated_stepping_batches
        self.steps = trainer.global_step
        self._open("fit", int(steps) if steps != float("inf") else None, "steps", self.steps)

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        if self.progress and trainer.global_step > self.steps:
            self.progress.advance(trainer.global_step - self.steps, note=self._note(trainer, pl_module))
            self.steps = trainer.global_step

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._close(done=not trainer.interrupted)

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.state.fn == "validate":
            self._open("validate", sum(trainer.num_val_batches), "batches")

    def on_validation_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        if trainer.state.fn == "validate":
            self._batch()

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.state.fn == "validate":
            self._close(done=True)

    def on_test_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._open("test", sum(trainer.num_test_batches), "batches")

    def on_test_batch_end(self, *_: Any) -> None:
        self._batch()

    def on_test_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._close(done=True)

    def on_predict_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._open("predict", sum(trainer.num_predict_batches), "batches")

    def on_predict_batch_end(self, *_: Any) -> None:
        self._batch()

    def on_predict_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._close(done=True)

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        self._close()

    def _open(self, what: str, total: int | None, unit: str, done: int = 0) -> None:
        self.progress = Progress(self.label or what, total, unit, done).__enter__() if self.wanted else None

    def _batch(self) -> None:
        if self.progress:
            self.progress.advance(1)

    def _close(self, done: bool = False) -> None:
        if self.progress:
            self.progress.__exit__(*((None,) if done else (KeyboardInterrupt,)))
            self.progress = None

    def _note(self, trainer: L.Trainer, pl_module: L.LightningModule) -> str:
        shown = self.get_metrics(trainer, pl_module).items()
        numbers = {name: float(value) for name, value in shown if isinstance(value, int | float | Tensor)}
        return ", ".join(f"{name.removeprefix('train/')} {value:.3f}" for name, value in numbers.items())


class LastCheckpoint(ModelCheckpoint):
    """``last.ckpt``, from which a killed fit goes on: written by the clock, so that it costs the same at any speed.

    Args:
        minutes: between two checkpoints; one that is due in the middle of an accumulation window waits for its step,
            since the gradients so far are not in a checkpoint.
        dirpath: null: ``<trainer.default_root_dir>/checkpoints``.
    """

    def __init__(self, minutes: float = 1.0, dirpath: str | None = None) -> None:
        if not 0 < minutes < 1e6:
            raise UserError(f"LastCheckpoint.minutes: {minutes} is not in (0, 1000000)")
        super().__init__(
            dirpath=dirpath,
            save_last=True,
            save_top_k=0,
            train_time_interval=timedelta(minutes=minutes),
            # Else a second fit in the same folder would write last-v1.ckpt beside the first one's.
            enable_version_counter=False,
        )

    def on_train_batch_end(self, trainer: L.Trainer, *arguments: Any) -> None:
        if not trainer.fit_loop.epoch_loop._should_accumulate():
            super().on_train_batch_end(trainer, *arguments)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        # Lightning saves here only where the clock never struck: the file would be up to a minute behind the judge.
        if self._last_global_step_saved != trainer.global_step:
            self._save_last_checkpoint(trainer, self._monitor_candidates(trainer))


def _save(checkpoint: dict[str, Any], path: Path) -> None:
    # Into a file of Python's: with its own, torch does not tell what the system said (a full disk).
    with open(path, "wb") as file:
        torch.save(checkpoint, file)


class CheckpointFiles(TorchCheckpointIO):
    """Checkpoints that are whole or absent, whatever kills the fit, and that run no code when they are read."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        path = Path(path)
        sweep(path.parent)
        if path.is_dir():  # shards of a fit that several processes began
            temporary = path.with_name(temporary_name(path.stem, path.suffix))
            with full_disk_told(path.parent):
                _save(checkpoint, temporary)
                replace_folder(temporary, path)
            return
        with atomic_path(path) as temporary:
            _save(checkpoint, temporary)

    def load_checkpoint(
        self,
        path: str | Path,
        map_location: Any = lambda storage, loc: storage,
        weights_only: bool | None = None,
        whole: bool = True,
    ) -> dict[str, Any]:
        """
        Args:
            whole: read every tensor, those of a folder of shards put together. Else only what is said of them is read;
                the tensors of a file then lie on the disk until they are looked at.
        """
        try:
            if Path(path).is_dir():
                checkpoint = (read_whole if whole else read_rest)(Path(path))
            elif not whole and is_zipfile(path):  # as torch's files have been since 1.6
                checkpoint = torch.load(path, map_location, weights_only=True, mmap=True)
            else:
                checkpoint = super().load_checkpoint(path, map_location, weights_only=True)
        except FileNotFoundError as error:
            missing = f" ({Path(error.filename).name} in it)" if Path(path).is_dir() else ""
            raise UserError(f"ckpt_path: {path}: no such file{missing}") from None
        except UNREADABLE as error:
            raise unreadable(path, error) from None
        missing = [key for key in _PARTS if key not in checkpoint] if isinstance(checkpoint, dict) else _PARTS
        if missing:
            raise UserError(
                f"ckpt_path: {path}: not a checkpoint of a fit (it holds no '{missing[0]}'); "
                f"name a file of <trainer.default_root_dir>/{CHECKPOINTS}"
            )
        return checkpoint


class Spent(Callback):
    """What a fit took, in ``<trainer.default_root_dir>/spent.json``: optimizer steps, trees and their tokens.

    Counted along the way and kept in checkpoints, so that a killed and resumed fit counts nothing twice. Of several
    processes the first one's trees and tokens, times their number: the pieces of a step are near equal.
    """

    def __init__(self) -> None:
        self.trees = 0
        self.tokens = torch.zeros((), dtype=torch.long)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, *_: Any
    ) -> None:
        if batch.weight:  # else it only filled up
            self.trees += len(batch.pair_ids)
            self.tokens = self.tokens + (batch.segments >= 0).sum()  # on its device: nobody waits for the number

    # Not on_train_end, which a fit does not reach that goes on from a checkpoint of its last step.
    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.is_global_zero and not trainer.interrupted:
            of_all = {name: value * trainer.world_size for name, value in self.state_dict().items()}
            write_json(Path(trainer.default_root_dir) / SPENT, {"steps": trainer.global_step, **of_all})

    def state_dict(self) -> dict[str, int]:
        return {"trees": self.trees, "tokens": int(self.tokens)}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        self.trees, self.tokens = state_dict["trees"], torch.tensor(state_dict["tokens"])


class ConfigFile(SaveConfigCallback):
    """The whole config of a fit, defaults included, in ``<trainer.default_root_dir>/config.yaml``."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{**kwargs, "save_to_log_dir": False})

    def save_config(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        if stage == "fit":
            with atomic_path(Path(trainer.default_root_dir) / "config.yaml") as temporary:
                self.parser.save(self.config, temporary, overwrite=True, multifile=False)


class Predictions(BasePredictionWriter):
    """``predict`` writes ``<trainer.default_root_dir>/predictions.parquet``: a row a tree, in the order of the table.

    Columns: ``pair_id``; ``tree``, which numbers the rows of one pair (GenRM: 0 its own order, 1 swapped); the values
    that the objective computes. Each further process writes ``predictions-RANK.parquet``.
    """

    def __init__(self) -> None:
        super().__init__(write_interval="epoch")

    def write_on_epoch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, predictions: list[STEP_OUTPUT], batch_indices: Any
    ) -> None:
        frames = [
            pl.DataFrame({name: v.tolist() if isinstance(v, Tensor) else v for name, v in batch.items()})
            for batch in predictions
            if batch  # an empty one only filled up
        ]
        if not frames:  # more processes than rows: another one has written them
            return
        frame = pl.concat(frames)
        frame = frame.select("pair_id", pl.int_range(pl.len()).over("pair_id").alias("tree"), pl.exclude("pair_id"))
        rank = trainer.global_rank
        path = Path(trainer.default_root_dir) / (f"predictions-{rank}.parquet" if rank else PREDICTIONS)
        with atomic_path(path) as temporary:
            frame.write_parquet(temporary)
        print(f"{frame.height} predictions: {path}")
