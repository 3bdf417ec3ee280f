"""A STaR run that takes seconds: the tiny Llama, a few embedded pairs, rationales of six tokens."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl
import yaml

ROOT = Path(__file__).parents[1]


def star_config(run: Path, backbone: Path, **changes: Any) -> dict[str, Any]:
    """The config as a dict; ``changes`` replace top-level keys."""
    config = {
        "run": str(run),
        "iterations": 1,
        "parts": 2,
        "variant": "star-dpo",
        "backbone": str(backbone),
        "dtype": "float32",
        "judge_prompt": "brief",
        "data": {"embedded": {"rows": 16, "test_rows": 6}},
        "sampling": {"n_samples": 4, "rationale_tokens": 6},
        "evaluation": {"n_samples": 1, "rationale_tokens": 6},
        "shard_size": 4,
        "fit": star_fit(),
    }
    return config | changes


def star_fit(**trainer: Any) -> dict[str, Any]:
    """A fit section that every variant takes."""
    return {
        "model": {"init_args": {"backbone": {"lora": None}, "optimizer": {"learning_rate": 1e-2}}},
        "data": {"init_args": {"batch_size": 2}},
        "trainer": {"accelerator": "cpu", "devices": 1, "precision": "32-true", "max_epochs": 1, **trainer},
    }


def write_yaml(path: Path, config: Mapping[str, Any]) -> Path:
    path.write_text(yaml.safe_dump(dict(config)))
    return path


def python(*argv: Any, **more: Any) -> subprocess.CompletedProcess[str]:
    """``python -m genrm_lightning argv`` in a process of its own."""
    command = [sys.executable, "-m", "genrm_lightning", *map(str, argv)]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}", "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False, **more)


def tables(run: Path) -> dict[str, pl.DataFrame]:
    """Every parquet table of a run by its path within it."""
    return {str(path.relative_to(run)): pl.read_parquet(path) for path in sorted(run.rglob("*.parquet"))}


def leftovers(run: Path) -> list[str]:
    """What only an unfinished stage may hold."""
    marks = (".tmp", "shard-", "started.json", ".ckpt")
    return [str(path.relative_to(run)) for path in run.rglob("*") if any(mark in path.name for mark in marks)]


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """tag -> (step, value) of a TensorBoard run, as TensorBoard shows it."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder)).Reload()
    return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def side_by_side(folder: Path, *jobs: dict[str, Any], within: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    """Run the jobs of tests/forks.py; what became of each, with what it ``said``.

    Args:
        within: a command that the driver is an argument of.
    """
    jobs = [{"log": str(folder / f"job-{i}.log"), **job} for i, job in enumerate(jobs)]
    for job in jobs:
        Path(job["log"]).unlink(missing_ok=True)
        job["argv"] = list(map(str, job["argv"]))
    (folder / "jobs.json").write_text(json.dumps(jobs))
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}", "OMP_NUM_THREADS": "1"}
    command = [*within, sys.executable, str(ROOT / "tests/forks.py"), str(folder / "jobs.json")]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    said = [Path(job["log"]).read_text() if Path(job["log"]).exists() else "" for job in jobs]
    assert done.returncode == 0, (done.stderr, *said)
    told = json.loads(done.stdout.splitlines()[-1])
    return [{**fact, "said": text} for fact, text in zip(told, said, strict=True)]
