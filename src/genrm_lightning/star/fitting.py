"""The fit of a STaR iteration: a LightningCLI config, run by ``python -m genrm_lightning fit`` in its own process."""

from __future__ import annotations

import ctypes
import gc
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import yaml

from data_tools.artifact import put_back, read_json, sweep, write_text
from data_tools.errors import UserError
from genrm_lightning.judge_folder import judge_info
from genrm_lightning.parsing import INTERRUPTED, TERMINATED, Terminated
from genrm_lightning.star.settings import StarSettings
from genrm_lightning.star.variants import VARIANTS

CONFIG = "fit.yaml"
WARM_START = "warm-start"
DASHBOARD = "genrm_lightning.dashboards.callback.Dashboard"
_TEACHERS = ("teacher: reference", "teacher: current")


def fit_config(
    settings: StarSettings, examples: Path, start: str, folder: Path, logdir: Path, name: str, first_step: int = 0
) -> dict[str, Any]:
    """The ``fit`` section of the settings, completed with what the run decides.

    Args:
        name: iteration-i, or WARM_START for the ``warm_start.fit`` section.
        first_step: steps of the run's fits before this one, behind which it lies on TensorBoard.
    """
    from genrm_lightning.evaluation.dashboard import FIRST

    section = "warm_start.fit" if name == WARM_START else "fit"
    config = deepcopy(settings.warm_start.fit if name == WARM_START else settings.fit)
    model = _section(config, "model", section)
    arguments = _section(model, "init_args", section)
    data = _section(config, "data", section)
    of_data = _section(data, "init_args", section)
    trainer = _section(config, "trainer", section)
    variant = "star-sft" if name == WARM_START else settings.variant
    for holder, where, key, value in (
        (model, "model", "class_path", VARIANTS[variant].fit),
        (arguments, "model.init_args", "judge_prompt", settings.judge_prompt),
        (_section(arguments, "backbone", section), "model.init_args.backbone", "name", start),
        (data, "data", "class_path", "genrm_lightning.data.Tables"),
        (of_data, "data.init_args", "train", str(examples)),
        (of_data, "data.init_args", "too_long", settings.too_long),
        (trainer, "trainer", "default_root_dir", str(folder)),
    ):
        if key in holder:
            raise UserError(f"{section}.{where}.{key}: the run decides it; leave it out of the star config")
        holder[key] = value
    of_data.setdefault("seed", settings.seed)
    if "logger" not in trainer:
        trainer["logger"] = {
            "class_path": "genrm_lightning.dashboards.logger.ContinuedLogger",
            "init_args": {"save_dir": str(logdir), "version": name, "first_step": first_step},
        }
    given = _list(trainer.get("callbacks") or [])
    # The whole run is a line of the HParams tab, not each of its fits, and its own charts come first.
    part = {"class_path": DASHBOARD, "init_args": {"hparams": False, "before": list(FIRST)}}
    trainer["callbacks"] = [
        *given,
        *([part] if takes_dashboard(config) else []),
        {
            "class_path": "genrm_lightning.callbacks.FitProgress",
            "init_args": {"label": f"{name.replace('-', ' ')}: fit"},
        },
    ]
    config.setdefault("seed_everything", settings.seed)
    return config


def takes_dashboard(config: dict[str, Any]) -> bool:
    """Whether a fit's config wants a dashboard and names none."""
    trainer = config.get("trainer") or {}
    callbacks = trainer.get("callbacks") or []
    named = [one.get("class_path") if isinstance(one, dict) else one for one in _list(callbacks)]
    return config.get("dashboard", True) and trainer.get("logger", True) not in (False, None) and DASHBOARD not in named


def _list(given: Any) -> list[Any]:
    return given if isinstance(given, list) else [given]


def _section(config: dict[str, Any], name: str, where: str) -> dict[str, Any]:
    """The mapping of that name, made where it is absent or null.

    Raises:
        UserError: it is something else.
    """
    if config.get(name) is None:
        config[name] = {}
    if not isinstance(config[name], dict):
        raise UserError(f"the star config's '{where}' section: '{name}' is {config[name]!r}; it must be a mapping")
    return config[name]


def write_config(settings: StarSettings, folder: Path, examples: Path, start: str, logdir: Path, name: str) -> Path:
    """Write the fit's config into its folder and return its path."""
    path = folder / CONFIG
    config = fit_config(settings, examples, start, folder, logdir, name, _steps_before(folder, name))
    write_text(path, yaml.safe_dump(config, sort_keys=False))
    return path


def _steps_before(folder: Path, name: str) -> int:
    """Optimizer steps of the run's fits before the one of that name; of older runs, which do not say so, none."""
    from genrm_lightning.callbacks import SPENT

    root, number = folder.parents[1], 0 if name == WARM_START else int(name.rpartition("-")[2])
    before = [WARM_START, *(f"iteration-{i}" for i in range(1, number))] if number else []
    spent = [root / one / folder.name / SPENT for one in before]
    return sum(read_json(path)["steps"] for path in spent if path.exists())


def check_config(settings: StarSettings) -> None:
    """Read the fit's config as the fit will, before anything is sampled: a misspelt key must not cost hours.

    Raises:
        UserError: names the key.
    """
    from genrm_lightning.backbone import resolve
    from genrm_lightning.cli import parse

    nowhere = Path("unused")
    for name, section in (("iteration-1", "fit"), (WARM_START, "warm_start.fit")):
        if name != WARM_START or settings.warm_start is not None:
            config = fit_config(settings, nowhere, settings.backbone, nowhere, nowhere, name)
            read = parse("fit", config, f"the star config's '{section}' section").fit
            arguments = read.model.init_args
            start = arguments.get("reference") == "live" or arguments.get("teacher") == "reference"
            adapters = arguments.backbone.lora or judge_info(resolve(settings.backbone)).get("adapter")
            if start and not adapters:
                pair = ("reference: live", "reference: stored") if "reference" in arguments else _TEACHERS
                raise UserError(
                    f"{section}.model.init_args.{pair[0]} needs adapters, which are switched off to compute it; set "
                    f"backbone.lora, or take {pair[1]}"
                )


def run_fit(config: Path, folder: Path) -> None:
    """Run the fit; a killed one goes on from its last checkpoint. Ends with ``folder/judge`` and no checkpoints.

    Raises:
        UserError: the fit failed.
        SystemExit: it failed and has said why in one line.
    """
    checkpoints = folder / "checkpoints"
    if not (folder / "judge").is_dir():  # written in one piece at the end of a fit
        command = [sys.executable, "-m", "genrm_lightning", "fit", "--config", str(config)]
        put_back(checkpoints / "last.ckpt")
        if (checkpoints / "last.ckpt").exists():
            command += ["--ckpt_path", str(checkpoints / "last.ckpt")]
        _let_go_of_gpu()
        # Its stdout goes to our stderr: our stdout holds the table alone. It inherits the run folder's lock.
        done = subprocess.run(command, stdout=2, close_fds=False, preexec_fn=_die_with(os.getpid()), check=False)
        if done.returncode and not checkpoints.exists():  # nothing to go on from: other settings may be tried
            for file in folder.glob("*.yaml"):
                file.unlink()
        if done.returncode in (-signal.SIGINT, INTERRUPTED):
            raise KeyboardInterrupt
        if done.returncode in (-signal.SIGTERM, TERMINATED):
            raise Terminated
        if done.returncode == 2:
            raise SystemExit(2)
        if done.returncode:
            raise UserError(
                f"the fit of {config} ended with status {done.returncode}; mend it and run the same command, "
                "it goes on from there"
            )
    shutil.rmtree(checkpoints, ignore_errors=True)
    sweep(folder)


def _let_go_of_gpu() -> None:
    """What a sampler had of the GPU's memory stays with this process' allocator, and the fit wants it."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        gc.collect()
        torch.cuda.empty_cache()


def _die_with(parent: int) -> Callable[[], None]:
    """A killed run must not leave a fit behind that writes into its folder (Linux; elsewhere the run's lock holds)."""

    def ask() -> None:
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # 1 = PR_SET_PDEATHSIG
            if os.getppid() != parent:  # it died before we could ask
                os._exit(1)

    return ask
