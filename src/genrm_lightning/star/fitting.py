"""The fit of a STaR iteration: a LightningCLI config, run by ``python -m genrm_lightning fit`` in its own process."""

from __future__ import annotations

import ctypes
import shutil
import signal
import subprocess
import sys
from copy import deepcopy
from pathlib import Path
from typing import Any

import yaml

from data_tools.artifact import write_text
from data_tools.errors import UserError
from genrm_lightning.star.settings import VARIANTS, StarSettings

CONFIG = "fit.yaml"


def fit_config(settings: StarSettings, examples: Path, start: str, folder: Path, logdir: Path, name: str) -> dict[str, Any]:
    """The ``fit`` section of the settings, completed with what the run decides."""
    config = deepcopy(settings.fit)
    model = config.setdefault("model", {})
    model["class_path"] = VARIANTS[settings.variant][1]
    arguments = model.setdefault("init_args", {})
    arguments["judge_prompt"] = settings.judge_prompt
    arguments["backbone"] = {**(arguments.get("backbone") or {}), "name": start}
    data = config.setdefault("data", {})
    data["class_path"] = "genrm_lightning.data.Tables"
    data["init_args"] = {**(data.get("init_args") or {}), "train": str(examples)}
    trainer = config.setdefault("trainer", {})
    trainer["default_root_dir"] = str(folder)
    trainer["logger"] = {
        "class_path": "lightning.pytorch.loggers.TensorBoardLogger",
        "init_args": {"save_dir": str(logdir), "name": "", "version": name},
    }
    config["seed_everything"] = settings.seed
    return config


def write_config(settings: StarSettings, folder: Path, examples: Path, start: str, logdir: Path, name: str) -> Path:
    """Write the fit's config into its folder and return its path."""
    path = folder / CONFIG
    write_text(path, yaml.safe_dump(fit_config(settings, examples, start, folder, logdir, name), sort_keys=False))
    return path


def check_config(settings: StarSettings) -> None:
    """Read the fit's config as the fit will, before anything is sampled: a misspelt key must not cost hours.

    Raises:
        UserError: names the key.
    """
    from genrm_lightning.cli import parse

    nowhere = Path("unused")
    parse("fit", fit_config(settings, nowhere, settings.backbone, nowhere, nowhere, "check"), "the star config's 'fit' section")


def run_fit(config: Path, folder: Path) -> None:
    """Run the fit; a killed one goes on from its last checkpoint. Ends with ``folder/judge`` and no checkpoints.

    Raises:
        UserError: the fit failed (its own message stands above).
    """
    command = [sys.executable, "-m", "genrm_lightning", "fit", "--config", str(config)]
    checkpoints = folder / "checkpoints"
    if (checkpoints / "last.ckpt").is_file():
        command += ["--ckpt_path", str(checkpoints / "last.ckpt")]
    ended = subprocess.run(command, preexec_fn=_die_with_parent, check=False).returncode
    if ended == -signal.SIGINT:
        raise KeyboardInterrupt
    if ended:
        raise UserError(f"the fit of {config} ended with status {ended}; mend it and run the same command, it goes on from there")
    shutil.rmtree(checkpoints, ignore_errors=True)


def _die_with_parent() -> None:
    """A killed run must not leave a fit behind that writes into its folder (Linux; elsewhere the run's lock holds)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # 1 = PR_SET_PDEATHSIG
