"""A selection step by step, and the count of what each kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import polars as pl

from data_tools.selection.frames import Judgments

Function = Callable[[pl.LazyFrame], pl.LazyFrame]
Reads = Literal["", "texts", "pairs"]


@dataclass
class Steps:
    """Applies filters and counts.

    Attributes:
        counts: {"step", "of" (samples, couples, examples), "given", "kept"} of each step, in their order.
    """

    judgments: Judgments
    counts: list[dict[str, Any]] = field(default_factory=list)

    def keep(self, frame: pl.DataFrame, of: str, name: str, function: Function, reads: Reads = "") -> pl.DataFrame:
        """The rows that ``function`` keeps, in their order.

        Args:
            reads: rationales (texts), these and the conversation and responses they are about (pairs), or no text.
        """
        if reads:
            read = self.judgments.texts(frame.lazy())
            read = self.judgments.with_pairs(read) if reads == "pairs" else read
            rows = function(read).select("row").collect(engine="streaming")
            kept = frame.join(rows, on="row", how="semi", maintain_order="left")
        else:
            kept = function(frame.lazy()).collect()
        self.note(of, name, frame.height, kept.height)
        return kept

    def note(self, of: str, name: str, given: int, kept: int) -> None:
        self.counts.append({"step": name, "of": of, "given": given, "kept": kept})

    def dropped(self) -> dict[str, int]:
        """By name; a name that was given several times counts together."""
        lost: dict[str, int] = {}
        for step in self.counts:
            if step["kept"] <= step["given"]:
                lost[step["step"]] = lost.get(step["step"], 0) + step["given"] - step["kept"]
        return lost
