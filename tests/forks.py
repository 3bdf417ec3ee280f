"""Runs commands of ``genrm_lightning`` side by side: ``forks.py JOBS``, a JSON list; prints what became of each.

It is a process of its own because it forks: everything heavy is imported once, each job is a fork in a process group
of its own. A job has ``argv``, and may have

    log     file for stdout and stderr
    env     variables
    start   a pattern of files: the job begins when one is there
    after   true: the job begins when those before it have ended
    kill    [signal, pattern, seconds]: to the job's group, so long after such a file is there; or several patterns
    room    [folder, size]: before the job the disk of the folder, made for it, gets this size ("300k"); needs a name
            space of one's own (unshare -rm)
    copy    [folder, folder]: when the job has ended
    fit     "here": the fits of a run without the seconds of a new process each
    mark    a pattern: right before a file that it matches gets its name, the job stops itself (SIGSTOP)
    trace   file to which go, line by line with the seconds since the start: "named PATH", for each file that got its
            name, and "draws PATH", for each shard that was begun
"""

from __future__ import annotations

import contextlib
import fnmatch
import glob
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from data_tools.artifact import sweep


def main(file: str) -> None:
    import genrm_lightning.evaluation.dashboard
    import genrm_lightning.samplers.local
    import genrm_lightning.scoring
    import genrm_lightning.star.joining  # noqa: F401
    from genrm_lightning import cli  # noqa: F401

    jobs = json.loads(Path(file).read_text())
    for job in jobs:
        job["began"] = job["pid"] = None
    while any("status" not in job for job in jobs):
        for job in jobs:
            if job["pid"] is None and _may_start(job, jobs):
                if "room" in job:
                    folder, size = job["room"]
                    options = f"remount,size={size}" if os.path.ismount(folder) else f"size={size}"
                    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", folder], check=True)
                job["began"] = time.monotonic()
                job["pid"] = os.fork()
                if not job["pid"]:
                    _run(job)
            elif job["pid"] and "status" not in job:
                _look(job)
        time.sleep(0.005)
    print(json.dumps([{"status": job["status"], "seconds": job["seconds"]} for job in jobs]))


def _may_start(job: dict[str, Any], jobs: list[dict[str, Any]]) -> bool:
    before = jobs[: next(i for i, other in enumerate(jobs) if other is job)]
    if job.get("after") and any("status" not in other for other in before):
        return False
    return "start" not in job or bool(glob.glob(job["start"]))


def _look(job: dict[str, Any]) -> None:
    done, status = os.waitpid(job["pid"], os.WNOHANG)
    if done:
        job["status"] = -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
        job["seconds"] = time.monotonic() - job["began"]
        if "copy" in job:
            shutil.copytree(*job["copy"])
        return
    if "kill" in job:
        number, pattern, seconds = job["kill"]
        patterns = pattern if isinstance(pattern, list) else [pattern]
        if "seen" not in job and any(map(glob.glob, patterns)):
            job["seen"] = time.monotonic()
        if "seen" in job and time.monotonic() - job["seen"] >= seconds:
            with contextlib.suppress(ProcessLookupError):  # it is not the head of a group yet, or has just ended
                os.killpg(job["pid"], number)
                del job["kill"]


def _run(job: dict[str, Any]) -> None:
    from genrm_lightning.__main__ import main as command
    from genrm_lightning.shards import Shards
    from genrm_lightning.star import fitting

    signal.signal(signal.SIGINT, signal.default_int_handler)  # a background shell ignores it, and so would its forks

    os.setsid()
    os.environ |= job.get("env", {})
    output = os.open(job.get("log", os.devnull), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    os.dup2(output, 1)
    os.dup2(output, 2)
    really, draws = os.replace, Shards._draw

    def tell(what: str, path: str) -> None:
        if "trace" in job:
            with open(job["trace"], "a") as file:
                file.write(f"{time.monotonic() - job['began']:.3f} {what} {path}\n")

    def replace(source: str, target: str) -> None:
        if "mark" in job and fnmatch.fnmatch(target, job["mark"]):
            os.kill(os.getpid(), signal.SIGSTOP)
        really(source, target)
        tell("named", target)

    def draw(shards: Shards, number: int, *more: Any) -> None:
        tell("draws", str(shards.path(number)))
        draws(shards, number, *more)

    os.replace, Shards._draw = replace, draw
    if job.get("fit") == "here":
        fitting.run_fit = _fit_here
    status = 1
    try:
        status = command(job["argv"])
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _fit_here(config: Path, folder: Path) -> None:
    from genrm_lightning import cli

    last = folder / "checkpoints/last.ckpt"
    if not (folder / "judge").is_dir():
        with contextlib.redirect_stdout(sys.stderr):
            assert not cli.main(
                ["fit", "--config", str(config), *(["--ckpt_path", str(last)] if last.exists() else [])]
            )
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    sweep(folder)


if __name__ == "__main__":
    main(sys.argv[1])
