"""Two processes that take turns: each trains for a round and then sleeps on its pipe while the other one does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TextIO

from benchmarks import machine
from data_tools.errors import UserError

SIDES = ("ours", "trl")


@dataclass
class Job:
    """What a worker trains.

    Attributes:
        side: of SIDES.
        kind: bt, genrm, sft or dpo.
        table: parquet of the rows.
        backbone: name or folder.
        train: full or lora (rank 16, every linear layer).
        batch_size: rows an optimizer step.
        steps: optimizer steps a round.
        rounds: timed ones; one more comes before them, to warm up.
        threads: of torch.
        folder: for whatever the trainer writes.
        trl: settings of TRL's config, over ours.
    """

    side: str
    kind: str
    table: str
    backbone: str
    train: str
    batch_size: int
    steps: int
    rounds: int
    threads: int
    folder: str
    trl: dict[str, Any] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """Optimizer steps, the warm-up's too."""
        return self.steps * (self.rounds + 1)


class Turns:
    """The worker's end: training calls :meth:`begin` before its first step and :meth:`step` after each."""

    def __init__(self, job: Job, commands: TextIO, replies: TextIO) -> None:
        self.job, self.commands, self.replies = job, commands, replies
        self.done = 0
        self.forgets = False

    def begin(self) -> None:
        self._say({"ready": True})
        self._wait()

    def step(self, facts: Callable[[], dict[str, Any]]) -> None:
        """Count an optimizer step; at a round's end say how long it took, and sleep until the next one.

        Args:
            facts: what to say of the training besides, after the last round.
        """
        self.done += 1
        if self.done % self.job.steps:
            return
        seconds = time.perf_counter() - self.start
        if self.done < self.job.total:
            self._say({"seconds": seconds})
            self._wait()
        else:
            memory = {"peak": machine.peak(), "peak_is_of_the_rounds": self.forgets}
            self._say({"seconds": seconds, **memory, **facts()})

    def _wait(self) -> None:
        if self.done == self.job.steps:  # warm: optimizer state is there, and every length has been seen
            self.forgets = machine.reset_peak()
        if not self.commands.readline():  # the other end is gone
            raise SystemExit(1)
        self.start = time.perf_counter()

    def _say(self, reply: dict[str, Any]) -> None:
        self.replies.write(json.dumps(reply) + "\n")
        self.replies.flush()


class Worker:
    """The parent's end: starts a worker; a context manager that ends it."""

    def __init__(self, job: Job) -> None:
        self.job = job
        folder = Path(job.folder)
        folder.mkdir(parents=True, exist_ok=True)
        self.log = folder / "log.txt"
        (folder / "job.json").write_text(json.dumps(asdict(job)))
        environment = {**os.environ, "OMP_NUM_THREADS": str(job.threads), "HF_HUB_OFFLINE": "1"}
        with open(self.log, "w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.worker", str(folder / "job.json")],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, env=environment,
                cwd=Path(__file__).parents[1],
            )  # fmt: skip

    def __enter__(self) -> Worker:
        return self

    def hear(self) -> dict[str, Any]:
        """The worker's next reply. Raises UserError where it has died."""
        line = self.process.stdout.readline()
        if not line:
            said = [line for line in self.log.read_text().splitlines() if line.strip()]
            raise UserError(
                f"{self.job.side}: the process ended with {self.process.wait()} ({said[-1] if said else ''})"
            )
        return json.loads(line)

    def go(self) -> dict[str, Any]:
        """Let it train for a round. Raises UserError where it has died."""
        with suppress(BrokenPipeError):  # there is no reply then, and a reason in the log
            self.process.stdin.write("go\n")
            self.process.stdin.flush()
        return self.hear()

    def __exit__(self, *error: object) -> None:
        with suppress(BrokenPipeError):
            self.process.stdin.close()
        if error[0] is not None:
            self.process.kill()
        self.process.wait()
        self.process.stdout.close()
