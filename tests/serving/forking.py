"""Forks servers: a process that has imported all that is heavy, and starts a server for each line that it reads.

A line is JSON: {"argv": [...], "log": FILE, "env": {...}} is answered with the server's process id, {"wait": ID} with
its exit status. The variable ULIMIT says how many files the server may have open. When its input ends, whatever still
runs is killed.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx2

ROOT = Path(__file__).parents[2]
TOKEN = "a-token-of-the-tests"
KINDS = {"reward": "BradleyTerry", "direct": "GenRM", "cot": "STaRSFT"}  # of the judges, by their objectives
COT_FLAGS = ("--sampling.n_samples", 2, "--sampling.rationale_tokens", 8)


class Server:
    """A server's process as its client sees it."""

    def __init__(self, forks: Forks, pid: int, log: Path) -> None:
        self.forks, self.pid, self.log = forks, pid, log
        self._url: str | None = None

    @property
    def url(self) -> str:
        """Its address, once it listens; it answers when its judge is loaded."""
        limit = time.monotonic() + 60
        while self._url is None:
            said = self.log.read_text()
            assert time.monotonic() < limit and not said.startswith("error: "), said
            if "served at " in said and "token" in said:
                self._url = said.partition("served at ")[2].split()[0]
            else:
                time.sleep(0.02)
        return self._url

    def client(self, token: str | None = TOKEN) -> httpx2.Client:
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        return httpx2.Client(base_url=self.url, headers=headers, timeout=60, verify=False)

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def exit_status(self) -> int:
        return self.forks.ask({"wait": self.pid})


class Forks:
    """The process that forks, from here."""

    def __init__(self, folder: Path) -> None:
        self.folder, self._n = folder, 0
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}
        command = [sys.executable, "-m", "tests.serving.forking"]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment, cwd=ROOT)

    def serve(self, judge: Path | None, *flags: Any, **env: str) -> Server:
        """None: the judge that the flags name."""
        self._n += 1
        log = self.folder / f"server-{self._n}.log"
        named = () if judge is None else ("--judge", judge)
        argv = ["serve", *named, "--dtype", "float32", "--port", "0", "--name", "judge", *flags]
        env = {"GENRM_TOKEN": TOKEN, **env}
        return Server(self, self.ask({"argv": list(map(str, argv)), "log": str(log), "env": env}), log)

    def ask(self, line: dict[str, Any]) -> int:
        print(json.dumps(line), file=self.process.stdin, flush=True)
        return int(self.process.stdout.readline())

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()


def main() -> None:
    import genrm_lightning.judges.reading
    import genrm_lightning.judges.sampled
    import genrm_lightning.samplers.local
    import genrm_lightning.serving.server  # noqa: F401
    from genrm_lightning import commands  # noqa: F401

    running = set()
    for line in sys.stdin:
        job = json.loads(line)
        if "wait" in job:
            running.discard(job["wait"])
            print(os.waitstatus_to_exitcode(os.waitpid(job["wait"], 0)[1]), flush=True)
            continue
        Path(job["log"]).touch()
        pid = os.fork()
        if not pid:
            _run(job)
        running.add(pid)
        print(pid, flush=True)
    for pid in running:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    os._exit(0)  # at once: what it has imported takes seconds to let go of


def _run(job: dict[str, Any]) -> None:
    from genrm_lightning.__main__ import main as command

    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ |= job["env"]
    if files := os.environ.get("ULIMIT"):
        resource.setrlimit(resource.RLIMIT_NOFILE, (int(files), resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    output = os.open(job["log"], os.O_WRONLY | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)
    status = 1
    try:
        status = command(job["argv"])
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    main()
