"""Runs one STaR run again and again, killed at another point each time: ``driver.py CONFIG LOG POINT...``.

It is a process of its own because it forks: everything is imported once, every attempt is a fork that dies by
SIGKILL and leaves what a killed run leaves. A POINT is a file of the run (a pattern): the attempt dies right before
that file gets its name. The point ``fit`` dies as soon as the fit's first checkpoint is there; an empty one never.
"""

from __future__ import annotations

import fnmatch
import json
import os
import signal
import sys
import time
import traceback
from pathlib import Path

import yaml


def main(config: str, log: str, *points: str) -> None:
    import genrm_lightning.evaluation.dashboard
    import genrm_lightning.samplers.local
    import genrm_lightning.scoring  # noqa: F401
    from genrm_lightning import cli  # noqa: F401

    run = Path(yaml.safe_load(Path(config).read_text())["run"])
    told = []
    for point in points:
        child = os.fork()
        if not child:
            _attempt(config, log, run, point)
        told.append({"point": point, **_await(child, run, point)})
    print(json.dumps(told))


def _attempt(config: str, log: str, run: Path, point: str) -> None:
    from genrm_lightning.__main__ import main as command

    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)
    really = os.replace

    def replace(source: str, target: str) -> None:
        if fnmatch.fnmatch(os.path.relpath(target, run), point):
            os.kill(os.getpid(), signal.SIGKILL)
        really(source, target)

    os.replace = replace
    status = 1
    try:
        status = command(["star", "--config", config])
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _await(child: int, run: Path, point: str) -> dict[str, object]:
    facts: dict[str, object] = {}
    if point == "fit":
        checkpoint = next(run.glob("iteration-*/fit"), run / "iteration-1/fit") / "checkpoints" / "last.ckpt"
        while not checkpoint.exists():
            if os.waitpid(child, os.WNOHANG)[0]:
                return {"status": "ended before its fit began"}
            time.sleep(0.002)
        fits = Path(f"/proc/{child}/task/{child}/children").read_text().split()
        os.kill(child, signal.SIGKILL)
        facts["fits"] = len(fits)
        until = time.monotonic() + 10
        while any(_lives(pid) for pid in fits) and time.monotonic() < until:
            time.sleep(0.01)
        facts["orphans"] = sum(map(_lives, fits))
    status = os.waitpid(child, 0)[1]
    facts["status"] = -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
    facts["left"] = [str(path.relative_to(run)) for path in run.rglob("*") if path.is_file()]
    return facts


def _lives(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


if __name__ == "__main__":
    main(*sys.argv[1:])
