"""How fast a fit goes and what it uses of its device: measured over windows of steps, nothing is waited for."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from data_tools.errors import UserError
from genrm_lightning.cost import Work, flops
from genrm_lightning.objectives import Objective
from genrm_lightning.prefix import PrefixBatch, Tree
from genrm_lightning.shape import Shape

# Dense bf16 products at most, TFLOP/s, from the makers' data sheets; a part of the device's name, the longer first.
_PEAKS = {
    "H100 PCIe": 756, "H100 NVL": 835, "RTX 4090": 165,
    "B200": 2250, "H200": 989, "H100": 989, "A100": 312, "L40S": 362, "L4": 121,
}  # fmt: skip
_GIB = 2**30
_TAUGHT_OF = 1000  # training trees whose taught tokens are counted


def peak_flops(device: torch.device, precision: str) -> float | None:
    """FLOP/s that a device of this name can do at most in 16-bit products, None where that is not known."""
    if device.type != "cuda" or "16" not in precision:
        return None
    words = torch.cuda.get_device_name(device)
    return next((1e12 * peak for name, peak in _PEAKS.items() if set(name.split()) <= set(words.split())), None)


def batch_work(batch: PrefixBatch) -> Tensor:
    """(tokens, attended pairs, looked-at states) of a batch as :class:`~genrm_lightning.cost.Work` counts them: (3,).

    On the batch's device, so that nobody waits for the numbers. A token at position i attends to i + 1 tokens: its
    prefix, and its own branch up to itself.
    """
    inside = batch.segments >= 0
    # A letter is looked at as a token of its branch and twice as a query; a state counts once.
    states = torch.zeros_like(inside).view(-1)
    states[batch.rows * inside.shape[1] + batch.cols] = True
    return torch.stack([inside.sum(), ((batch.position_ids + 1) * inside).sum(), states.sum()])


class FlopCounter:
    """Useful FLOPs of a training step on so much work: linear in it, so counted once for each kind of work.

    A live reference's or teacher's forward pass is not in it, as it is not in ``plan``'s useful FLOPs.
    """

    def __init__(self, objective: Objective, trees: list[Tree]) -> None:
        """
        Raises:
            UserError: the model's layers are not made of plain matrices.
        """
        shape = Shape.of(objective.policy)
        some = trees[:_TAUGHT_OF]
        self.taught = sum(map(objective.taught, some)) / max(1, len(some))  # a row
        kinds = ("tokens", "attended", "looked", "branches", "taught")
        self.each = {kind: flops(shape, replace(Work(), **{kind: 1})).useful for kind in kinds}

    def __call__(self, work: list[int], branches: int, rows: int) -> float:
        """Args: work: as :func:`batch_work` gives it."""
        amounts = dict(zip(("tokens", "attended", "looked"), work, strict=True))
        amounts |= {"branches": branches, "taught": self.taught * rows}
        return sum(self.each[kind] * amount for kind, amount in amounts.items())


def counter(objective: Objective, trees: list[Tree]) -> FlopCounter | None:
    """None for a model that cannot be counted, or whose parts have other names."""
    try:
        return FlopCounter(objective, trees)
    except (UserError, AttributeError):
        return None


class Pace:
    """A clock that runs while a fit trains: validation in between is not its time, writing checkpoints is.

    Args:
        ranks: processes; this one's rows and tokens times their number are the fit's.
        count: of FLOPs; None leaves them out.
        peak: FLOP/s of a device at most; None leaves utilisation out.
        clock: seconds.
    """

    def __init__(
        self, ranks: int, count: FlopCounter | None, peak: float | None, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self.ranks, self.count, self.peak, self.clock = ranks, count, peak, clock
        self.began = self.entered = self.left_out = 0.0
        self.clear()

    def clear(self) -> None:
        """Begin a window."""
        self.began, self.left_out, self.inside = self.clock(), 0.0, 0.0
        self.rows = self.branches = self.steps = 0
        self.work: Tensor | None = None

    def enter(self) -> None:
        """A batch begins."""
        self.entered = self.clock()

    def leave(self, batch: PrefixBatch, stepped: bool) -> None:
        """It is done; ``stepped``: the optimizer's step with it."""
        self.inside += self.clock() - self.entered
        self.steps += stepped
        if batch.weight:
            self.rows += len(batch.pair_ids)
            self.branches += batch.n_branches
            work = batch_work(batch)
            self.work = work if self.work is None else self.work + work

    def pause(self) -> None:
        self.paused = self.clock()

    def go_on(self) -> None:
        self.left_out += self.clock() - self.paused

    @property
    def seconds(self) -> float:
        return self.clock() - self.began - self.left_out

    def read(self, device: torch.device) -> dict[str, float]:
        """Numbers of the window by name; begins the next one."""
        seconds, work = self.seconds, None if self.work is None else self.work.tolist()
        found = {"busy": min(1.0, self.inside / seconds), "memory_gib": memory_used(device) / _GIB}
        if self.steps:
            found["seconds_per_step"] = seconds / self.steps
        if work is not None:
            found["tokens_per_second"] = work[0] * self.ranks / seconds
            found["rows_per_second"] = self.rows * self.ranks / seconds
            if self.count is not None:
                done = self.count(work, self.branches, self.rows) / seconds
                found["tflops"] = done / 1e12
                if self.peak:
                    found["mfu"] = done / self.peak
        self.clear()
        return found


def memory_used(device: torch.device) -> int:
    """Bytes at the highest so far: of the device's allocator, or of the process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024
