"""Each metric with rows for it; what the tests of states do with them, in one process and in two."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from genrm_lightning.metrics import (
    BothOrders,
    Brier,
    CalibrationError,
    InvalidRate,
    PairwiseAccuracy,
    PositionBias,
    PositionConsistency,
    SelectiveRisk,
    VoteCurve,
    consistent,
    leaning,
)

N = 101
_random = torch.Generator().manual_seed(0)
MARGINS = torch.randn(N, 2, generator=_random)
MARGINS[::9, 0] = 0.0
P_RIGHT = torch.rand(N, generator=_random)
P_RIGHT[::10] = 0.5
VOTES = torch.randint(-1, 2, (N, 2, 6), generator=_random)
_ORDER = torch.randperm(2 * N, generator=_random)
# Both orders of each pair, in any order.
APART = (
    MARGINS.T.flatten()[_ORDER],
    torch.arange(2).repeat_interleave(N)[_ORDER],
    [f"pair {i % N}" for i in _ORDER.tolist()],
)

Inputs = Sequence[Tensor | list[str]]
CASES: dict[str, tuple[Callable[[], Metric], Inputs]] = {
    "accuracy": (PairwiseAccuracy, (MARGINS[:, 0],)),
    "consistency": (PositionConsistency, (MARGINS,)),
    "bias": (PositionBias, (MARGINS,)),
    "consistency, apart": (lambda: BothOrders(consistent), APART),
    "bias, apart": (lambda: BothOrders(leaning), APART),
    "ece": (CalibrationError, (P_RIGHT,)),
    "brier": (Brier, (P_RIGHT,)),
    "invalid": (InvalidRate, (VOTES[:, 0],)),
    "curve": (lambda: VoteCurve(6), (VOTES,)),
    "curve, order": (lambda: VoteCurve(6, "order"), (VOTES,)),
    "risk": (SelectiveRisk, ((P_RIGHT <= 0.5).float(), 1 - torch.maximum(P_RIGHT, 1 - P_RIGHT))),
}


def rows(inputs: Inputs, start: int, end: int | None) -> list[Any]:
    return [given[start:end] for given in inputs]


def numbers(value: Any) -> list[float]:
    """What ``compute`` returned, as a flat list."""
    parts = value if isinstance(value, tuple) else (value,)
    return [number for part in parts for number in part.flatten().tolist()]


def value(metric: Metric, *inputs: Any) -> list[float]:
    metric.update(*inputs)
    return numbers(metric.compute())
