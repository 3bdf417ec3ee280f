"""Raw numbers of both sides -> ratios and a table."""

from __future__ import annotations

from statistics import median
from typing import Any

from rich.box import SIMPLE
from rich.table import Table

from benchmarks.turns import SIDES

_GIB = 2**30


def summary(case: dict[str, Any]) -> dict[str, Any]:
    """What a case's raw numbers say.

    - rows_per_s: of each side, the median over the rounds.
    - speed: rows/s of ours over TRL's, round by round, as both had the machine one after the other: median, least,
      most.
    - above: bytes at the peak beyond what the process had before the model was loaded, and beyond weights, gradients
      and optimizer state; memory: ours over TRL's.
    - floor_s: seconds a row that our matrix products take at the measured rate; of_floor: the share of our time.
    """
    ours, trl = case["ours"], case["trl"]
    rows = case["batch_size"] * case["steps"]
    ratios = [b / a for a, b in zip(ours["seconds"], trl["seconds"], strict=True)]
    rates = {side: rows / median(case[side]["seconds"]) for side in SIDES}
    above = {side: _above(case[side]) for side in SIDES}
    floor = ours["flops_per_row"] / case["matmul_flops"]
    return {
        "rows_per_s": rates,
        "speed": {"median": median(ratios), "least": min(ratios), "most": max(ratios)},
        "above": above,
        "memory": above["ours"] / above["trl"],
        "peak": ours["peak"] / trl["peak"],
        "floor_s": floor,
        "of_floor": floor * rates["ours"],
    }


def _above(side: dict[str, Any]) -> int:
    return side["peak"] - side["baseline"] - side["weights"] - side["gradients"] - side["optimizer"]


def table(cases: list[dict[str, Any]], machine: dict[str, Any]) -> Table:
    """All cases, a line each."""
    shown = Table(
        title=f"{machine['cpu']}, {machine['threads']} threads, torch {machine['torch']}, TRL {machine['trl']}",
        caption="ours / TRL; a row: a pair, or a judge prompt with its completions; above: beyond the process without "
        "a model, weights, gradients and optimizer state; floor: share of our time that the matrix products take at "
        "the measured rate",
        box=SIMPLE,
    )
    shown.add_column("case", no_wrap=True)
    for name in ("batch", "rows/s", "speed", "peak GiB", "above GiB", "memory", "floor"):
        shown.add_column(name, justify="right", no_wrap=True)
    for case in cases:
        found = case["summary"]
        speed = found["speed"]
        shown.add_row(
            f"{case['name']} {case['train']}",
            str(case["batch_size"]),
            " / ".join(f"{found['rows_per_s'][side]:.2f}" for side in SIDES),
            f"{speed['median']:.2f}x ({speed['least']:.2f}–{speed['most']:.2f})",
            " / ".join(f"{case[side]['peak'] / _GIB:.1f}" for side in SIDES),
            " / ".join(f"{found['above'][side] / _GIB:.2f}" for side in SIDES),
            f"{found['memory']:.2f}x",
            f"{found['of_floor']:.0%}",
        )
    return shown
