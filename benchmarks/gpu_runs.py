"""Which runs ``benchmarks.gpu`` tries: each in a process of its own, and with less memory where it did not fit."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from benchmarks.gpu_parts import Part, Run, shape_of, trees
from benchmarks.gpu_sides import run
from genrm_lightning.cost import memory


def first_try(part: Part, side: str, device: str, room: int | None) -> Run:
    """The most rows a microbatch whose estimated memory fits into ``room`` bytes (None: all of a step's)."""
    micro = part.rows
    if room is not None:
        with tempfile.TemporaryDirectory() as folder:
            shape = shape_of(part, folder)
        rows = trees(part, part.rows)
        if side == "ours":
            longest = max(map(len, rows))
        else:
            longest = max(len(t.branches) * (len(t.prefix) + max(len(b.ids) for b in t.branches)) for t in rows)
        while micro > 1:
            mask = micro * longest**2 if side == "ours" else 0
            looked = 0 if part.kind == "bt" else 2 * micro * part.branch
            if sum(memory(shape, micro * longest, looked, mask=mask).values()) <= room:
                break
            micro //= 2
    return Run(part, side, device, micro)


def next_try(task: Run) -> Run | None:
    """What to do where a run's memory was not enough; None where nothing is left to try."""
    if task.checkpointing:
        return replace(task, micro=task.micro // 2) if task.micro > 1 else None
    return replace(task, micro=task.micro // 2) if task.micro > 1 else replace(task, checkpointing=True)


def measured(task: Run, attempt: Callable[[Run], dict[str, Any]]) -> dict[str, Any]:
    """The numbers of a run, with less memory a microbatch as long as it takes; or what went wrong."""
    while True:
        found = attempt(task)
        if "OutOfMemory" not in found.get("error", ""):
            return found
        following = next_try(task)
        if following is None:
            return found
        task = following


def here(task: Run) -> dict[str, Any]:
    """A run in this process; an exception is its result."""
    try:
        with tempfile.TemporaryDirectory(prefix="gpu-benchmark-") as folder:
            return run(task, folder)
    except Exception as error:
        said = str(error).strip().splitlines()
        return {"error": f"{type(error).__name__}: {said[0] if said else ''}", "micro": task.micro}
    finally:
        gc.collect()


def in_a_process(task: Run, seconds: float) -> dict[str, Any]:
    """A run in a process of its own, which is ended after ``seconds``."""
    if seconds < 5:
        return {"error": "left out: no time left", "micro": task.micro}
    command = [sys.executable, "-m", "benchmarks.gpu", "--run", json.dumps(asdict(task))]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=seconds, cwd=Path(__file__).parents[1], check=False
        )
    except subprocess.TimeoutExpired:
        return {"error": f"took more than {seconds:.0f} s", "micro": task.micro}
    try:
        return json.loads(done.stdout.splitlines()[-1])
    except (IndexError, json.JSONDecodeError):
        said = [line for line in done.stderr.splitlines() if line.strip()]
        return {"error": f"ended with {done.returncode}: {said[-1] if said else ''}", "micro": task.micro}
