"""``fit``, ``validate``, ``test`` and ``predict``: LightningCLI with one-line errors and judges saved at the end."""

from __future__ import annotations

import contextlib
import io
import sys
import tempfile
from pathlib import Path
from typing import Any, NoReturn

import lightning as L
import yaml
from lightning.pytorch.callbacks import LearningRateMonitor, ModelCheckpoint, RichProgressBar
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback

from data_tools.errors import UserError
from genrm_lightning.objectives import Objective

SUBCOMMANDS = ("fit", "validate", "test", "predict")


class OneLineErrors:
    """A mistake in a config or flag is one line that names the key, and exit status 2."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        lines = [line.strip(" -") for line in message.splitlines() if line.strip(" -")]
        # jsonargparse puts the reason last and what it wraps first.
        print("error: " + "; ".join(dict.fromkeys(lines)), file=sys.stderr)
        sys.exit(2)


class Parser(OneLineErrors, LightningArgumentParser):
    pass


class GenRMCLI(LightningCLI):
    """LightningCLI whose fit ends by writing the judge to ``<trainer.default_root_dir>/judge``."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.set_defaults(
            {
                "model": {"class_path": "genrm_lightning.objectives.GenRM"},
                "data": {"class_path": "genrm_lightning.data.EmbeddedPairs"},
                "trainer.default_root_dir": "runs/fit",
                "trainer.max_epochs": 1,
                "trainer.gradient_clip_val": 1.0,
                "trainer.log_every_n_steps": 1,
                # Our loader shards the batch plan itself; Lightning's sampler would shuffle it.
                "trainer.use_distributed_sampler": False,
            }
        )

    def instantiate_trainer(self, **kwargs: Any) -> L.Trainer:
        root = self._get(self.config_init, "trainer").get("default_root_dir")
        defaults = [RichProgressBar(refresh_rate=1), LearningRateMonitor("step")]
        given = {type(c) for c in self._get(self.config_init, "trainer").get("callbacks") or []}
        if ModelCheckpoint not in given:
            # "last.ckpt" is what a killed fit resumes from.
            defaults.append(ModelCheckpoint(dirpath=Path(root) / "checkpoints", save_last=True, save_top_k=0, every_n_train_steps=50))
        extra = [c for c in defaults if type(c) not in given]
        trainer = super().instantiate_trainer(**kwargs)
        trainer.callbacks.extend(extra)
        trainer.callbacks = trainer._callback_connector._reorder_callbacks(trainer.callbacks)
        return trainer

    def after_fit(self) -> None:
        if self.trainer.is_global_zero and not self.trainer.interrupted:
            folder = Path(self.trainer.default_root_dir) / "judge"
            self.model.save(folder)
            print(f"judge saved: {folder}")


class _Parsed(Exception):
    """Carries a config out of a CLI that only reads it."""


class _ReadOnlyCLI(GenRMCLI):
    def before_instantiate_classes(self) -> None:
        raise _Parsed(self.config)


def parse(subcommand: str, config: dict[str, Any], where: str) -> Any:
    """Read a config as ``subcommand`` would, without loading anything.

    Raises:
        UserError: names ``where`` and the key that is wrong.
    """
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        yaml.safe_dump(config, file)
        file.flush()
        said = io.StringIO()
        try:
            with contextlib.redirect_stderr(said):
                _run(_ReadOnlyCLI, [subcommand, "--config", file.name])
        except _Parsed as parsed:
            return parsed.args[0]
        except SystemExit:
            raise UserError(f"{where}: {said.getvalue().strip().removeprefix('error: ')}") from None


def main(argv: list[str]) -> int:
    """Run one of SUBCOMMANDS."""
    _run(GenRMCLI, argv)
    return 0


def _run(kind: type[GenRMCLI], argv: list[str]) -> None:
    kind(
        Objective,
        L.LightningDataModule,
        subclass_mode_model=True,
        subclass_mode_data=True,
        save_config_callback=SaveConfigCallback,
        save_config_kwargs={"overwrite": True},
        parser_class=Parser,
        seed_everything_default=0,
        args=argv,
    )
