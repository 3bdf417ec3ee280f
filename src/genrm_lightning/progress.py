"""Rich progress of a long step: done, rate, time left; one plain line at the end where there is no terminal."""

from __future__ import annotations

import time

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress


class Progress:
    """A context manager around one bar, on stderr.

    Args:
        label: what is being done.
        total: how many units there are; None where nobody knows.
        unit: their name, in the plural.
        done: how many of them an earlier call had done; they do not count for the rate.
        aloud: False says nothing at all.
    """

    def __init__(self, label: str, total: int | None, unit: str, done: int = 0, aloud: bool = True) -> None:
        self.label, self.total, self.unit = label, total, unit
        self.before, self.done, self.tokens = done, 0, 0
        self.console = Console(stderr=True, quiet=not aloud)
        self.bar = RichProgress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"),
            TimeElapsedColumn(), TimeRemainingColumn(), TextColumn("{task.fields[note]}"),
            console=self.console, transient=True, disable=not self.console.is_terminal,
        )  # fmt: skip

    def __enter__(self) -> Progress:
        self.start = time.perf_counter()
        self.bar.start()
        self.task = self.bar.add_task(self.label, total=self.total, completed=self.before, rate="", note="")
        return self

    def advance(self, units: int, tokens: int = 0, note: str = "") -> None:
        """Count finished units, and tokens where they mean something.

        Args:
            note: shown behind the bar, such as the loss.
        """
        self.done += units
        self.tokens += tokens
        self.bar.update(self.task, advance=units, rate=self._rate(), note=note)

    def __exit__(self, *error: object) -> None:
        self.bar.stop()
        if error[0] is None:
            seconds = time.perf_counter() - self.start
            line = f"{self.label}: {self.done} {self.unit} in {seconds:.0f} s, {self._rate()}"
            self.console.print(line, highlight=False, markup=False, soft_wrap=True)

    def _rate(self) -> str:
        seconds = max(time.perf_counter() - self.start, 1e-9)
        rate = f"{self.done / seconds:.1f} {self.unit}/s"
        return f"{rate}, {self.tokens / seconds:.0f} tokens/s" if self.tokens else rate
