"""``fit``, ``validate``, ``test`` and ``predict``: LightningCLI with one-line errors and judges saved at the end."""

from __future__ import annotations

import contextlib
import io
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning as L
import yaml
from jsonargparse import Namespace
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch.callbacks import LearningRateMonitor, ModelCheckpoint, ProgressBar
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from data_tools.artifact import full_disk_told, put_back
from data_tools.errors import UserError
from genrm_lightning.backbone import PRECISION
from genrm_lightning.callbacks import (
    CHECKPOINTS,
    LAST,
    CheckpointFiles,
    ConfigFile,
    FitProgress,
    LastCheckpoint,
    Predictions,
    Spent,
)
from genrm_lightning.dashboards import hparams
from genrm_lightning.dashboards.callback import Dashboard
from genrm_lightning.dashboards.logger import FitLogger
from genrm_lightning.dashboards.one_curve import OneCurve
from genrm_lightning.finite import last_checkpoint
from genrm_lightning.locking import absent, only_one, remove_empty
from genrm_lightning.objectives import Objective
from genrm_lightning.parsing import (
    INTERRUPTED,
    SUBCOMMANDS,
    TERMINATED,
    OneLineErrors,
    Terminated,
    mistakes_told,
    one_line,
)
from genrm_lightning.quiet import no_loading_bars, quiet
from genrm_lightning.sharded import is_sharded
from genrm_lightning.strategy import FSDP2Strategy, check_names


class Interrupted(Exception):
    """Ctrl-C or SIGTERM in a trainer's loop: how to go on, and the exit status."""


class Parser(OneLineErrors, LightningArgumentParser):
    pass


class GenRMCLI(LightningCLI):
    """LightningCLI whose fit ends by writing the judge to ``<trainer.default_root_dir>/judge``."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument(
            "--dashboard",
            type=bool,
            default=True,
            help="whether fit shows more on TensorBoard than its losses: pace, held-out pairs, examples, settings",
        )
        parser.set_defaults(
            {
                "model": {"class_path": "genrm_lightning.objectives.GenRM"},
                "data": {"class_path": "genrm_lightning.data.EmbeddedPairs"},
                "trainer.default_root_dir": "runs/fit",
                "trainer.max_epochs": 1,
                "trainer.gradient_clip_val": 1.0,
                "trainer.precision": PRECISION,
                "trainer.log_every_n_steps": 1,
                "trainer.enable_model_summary": False,
                # Our loader shards the batch plan itself; Lightning's sampler would shuffle it.
                "trainer.use_distributed_sampler": False,
            }
        )

    def instantiate_trainer(self, **kwargs: Any) -> L.Trainer:
        """The config's trainer, with what the config leaves out; callbacks of a kind that it names stay as they are."""
        given = self._get(self.config_init, "trainer")
        root = Path(given.default_root_dir)
        callbacks = (
            given.callbacks if isinstance(given.callbacks, list) else [given.callbacks] if given.callbacks else []
        )
        fitting = self.subcommand == "fit"
        if given.logger in (None, True):
            # validate and test print their numbers; only a fit has curves.
            kwargs["logger"] = fitting and FitLogger(root)
        wanted = []
        if given.enable_progress_bar is not False:
            wanted.append((ProgressBar, FitProgress))
        if fitting:
            wanted.append((Spent, Spent))
            if not any(isinstance(callback, OneCurve) for callback in callbacks):
                callbacks = [OneCurve(), *callbacks]
            if kwargs.get("logger", given.logger):
                wanted.append((LearningRateMonitor, lambda: LearningRateMonitor("step")))
                if self._get(self.config, "dashboard"):
                    wanted.append((Dashboard, Dashboard))
            if given.enable_checkpointing is not False:
                wanted.append((ModelCheckpoint, LastCheckpoint))
        if self.subcommand == "predict":
            wanted.append((Predictions, Predictions))
        callbacks += [make() for kind, make in wanted if not any(isinstance(c, kind) for c in callbacks)]
        for callback in callbacks:
            if isinstance(callback, ModelCheckpoint) and callback.dirpath is None:
                callback.dirpath = str((root / CHECKPOINTS).resolve())
            if isinstance(callback, Dashboard):
                callback.settings = hparams.of_fit(self.config[self.subcommand].as_dict())
        if isinstance(given.strategy, FSDP2Strategy):
            given.strategy.check_precision(given.precision)
        try:
            trainer = super().instantiate_trainer(callbacks=callbacks, **kwargs)
        except ValueError as error:  # of a strategy's name, say
            raise UserError(f"trainer: {one_line(str(error))}") from None
        with contextlib.suppress(NotImplementedError):  # sharded strategies have files of their own
            if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:
                trainer.strategy.checkpoint_io = CheckpointFiles()
        return trainer

    def _parse_ckpt_path(self) -> None:
        """A checkpoint holds no settings (Lightning would read it whole to look for some); here it must only exist.

        ``last`` is left to Lightning in a fit, which begins anew where there is none; the other commands would run
        the untrained model then, so they look for it here.
        """
        given = self.config[self.config.subcommand]
        path = given.get("ckpt_path")
        if path and self.config.subcommand == "fit":
            put_back(Path(given.trainer.default_root_dir) / CHECKPOINTS / LAST if path == "last" else path)
        if path == "last" and self.config.subcommand != "fit":
            last = Path(given.trainer.default_root_dir) / CHECKPOINTS / LAST
            if not last.exists():
                raise UserError(f"--ckpt_path: last: {last}: no such file; name a checkpoint, or leave the flag out")
            given.ckpt_path = str(last)
        elif path and path != "last" and not Path(path).exists():
            raise UserError(f"--ckpt_path: {path}: no such file; name a checkpoint, or say: --ckpt_path last")

    def _run_subcommand(self, subcommand: str) -> None:
        try:
            super()._run_subcommand(subcommand)
        except SystemExit as left:  # Lightning takes Ctrl-C for itself, and leaves with status 1
            if not self.trainer.interrupted:
                raise
            terminated = isinstance(left.__context__, Terminated)
            last = last_checkpoint(self.trainer)
            more = f"; go on with the same command and --ckpt_path {last}" if subcommand == "fit" and last else ""
            said, status = ("terminated", TERMINATED) if terminated else ("interrupted", INTERRUPTED)
            raise Interrupted(f"{said}{more}", status) from None

    def fit(self, **kwargs: Any) -> None:
        """``trainer.fit``; a mistake found before the first step leaves no folder behind."""
        root = Path(self.trainer.default_root_dir)
        made = absent(root)
        # The other processes of this fit write nothing of their own there.
        alone = (
            only_one(root, "--trainer.default_root_dir") if self.trainer.is_global_zero else contextlib.nullcontext()
        )
        with alone:
            try:
                kwargs["ckpt_path"] = self._go_on(kwargs.get("ckpt_path"))
                with full_disk_told(root):  # whoever writes there: checkpoints, curves
                    self.trainer.fit(**kwargs)
            except UserError:
                if made and not self.trainer.global_step:
                    shutil.rmtree(root, ignore_errors=True)
                    remove_empty(made[1:])
                raise

    def _go_on(self, given: str | None) -> str | None:
        """The path of the checkpoint that a fit goes on from; the default logger goes on with its run.

        Lightning looks for the checkpoint only later, and reads it when the logger has begun to write.

        Raises:
            UserError: it cannot be read.
        """
        found = self.trainer._checkpoint_connector._select_ckpt_path(
            TrainerFn.FITTING, given, model_provided=True, model_connected=True
        )
        ours = [logger for logger in self.trainer.loggers if isinstance(logger, FitLogger)]
        if found and ours and self._reads_checkpoints():
            checkpoint = CheckpointFiles().load_checkpoint(found, whole=False)
            for logger in ours:
                logger.go_on(checkpoint)
        return found

    def _reads_checkpoints(self) -> bool:
        """Whether checkpoints are files or folders of ours, and not of another sharded strategy."""
        strategy = self.trainer.strategy
        if isinstance(strategy, FSDP2Strategy):
            return True
        try:
            return isinstance(strategy.checkpoint_io, CheckpointFiles)
        except NotImplementedError:
            return False

    def after_fit(self) -> None:
        if self.trainer.interrupted:
            return
        folder = Path(self.trainer.default_root_dir) / "judge"
        if self.trainer.is_global_zero or is_sharded(self.model.policy):
            self.model.save(folder)
        if self.trainer.is_global_zero:
            print(f"judge saved: {folder}")


class _Parsed(Exception):
    """Carries a config, and the objective and data module it makes, out of a CLI that only reads it."""


class _ReadOnlyCLI(GenRMCLI):
    def _set_seed(self) -> None:  # reading a config draws nothing
        pass

    def before_instantiate_classes(self) -> None:
        # The objective and the data module say what is out of range; neither loads anything yet.
        given = self.config[self.config.subcommand]
        check_names(given.trainer)
        wanted = Namespace({key: given[key] for key in ("model", "data")})
        raise _Parsed(self.config, self._parser(self.config.subcommand).instantiate_classes(wanted))


def parse(subcommand: str, config: dict[str, Any], where: str) -> Any:
    """Read a config as ``subcommand`` would, without loading anything.

    Raises:
        UserError: names ``where`` and the key that is wrong.
    """
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        yaml.safe_dump(config, file)
        file.flush()
        return parse_files(subcommand, [file.name], where)


def parse_files(subcommand: str, files: Sequence[str], where: str) -> Any:
    """Like :func:`parse` for ``--config`` files, the later over the earlier ones.

    Raises:
        UserError: names ``where`` and the file or key that is wrong.
    """
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            _run(_ReadOnlyCLI, [subcommand, *(word for file in files for word in ("--config", str(file)))])
    except _Parsed as parsed:
        return parsed.args[0]
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
    except SystemExit:
        raise UserError(f"{where}: {said.getvalue().strip().removeprefix('error: ')}") from None


def read_fit(argv: Sequence[str]) -> tuple[Namespace, Objective, L.LightningDataModule]:
    """What ``fit`` with these flags would read: its config, objective and data module; no weights are loaded.

    Raises:
        UserError, SystemExit: a mistake in a config or flag, told as ``fit`` tells it.
    """
    try:
        _run(_ReadOnlyCLI, ["fit", *argv])
    except _Parsed as parsed:
        config, built = parsed.args
        return config.fit, built.model, built.data
    raise AssertionError("a CLI that only reads has run")


def main(argv: list[str]) -> int:
    """Run one of SUBCOMMANDS; 0 when done, 130 after Ctrl-C, 143 after SIGTERM."""
    no_loading_bars()
    try:
        _run(GenRMCLI, argv)
    except MisconfigurationException as error:
        raise UserError(one_line(str(error))) from None
    except Interrupted as interrupted:
        said, status = interrupted.args
        print(said, file=sys.stderr)
        return status
    return 0


def _run(kind: type[GenRMCLI], argv: list[str]) -> None:
    quiet()
    with mistakes_told():
        kind(
            Objective,
            L.LightningDataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            save_config_callback=ConfigFile,
            parser_class=Parser,
            # An abbreviated flag is a misspelt one: --trainer.max_epoch would be taken for max_epochs.
            parser_kwargs={"allow_abbrev": False, **{name: {"allow_abbrev": False} for name in SUBCOMMANDS}},
            seed_everything_default=0,
            # Optimizer and schedule belong to the objective; Lightning would add flags for every one that torch has.
            auto_configure_optimizers=False,
            args=argv,
        )
