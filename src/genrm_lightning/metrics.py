"""Metrics of a fit or a validation pass: a pure function of tensors, and a thin torchmetrics class that adds up.

Every state is a sum or a count reduced by summation, so uneven batches, split updates and several processes give the
number that one pass over all rows would give, never a mean of means. A metric that saw no rows is NaN.

What a plain weighted mean does, torchmetrics' own ``MeanMetric(nan_strategy="error")`` does; it is not repeated here.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics import Metric


def preference_hits(margins: Tensor) -> Tensor:
    """Whether each pair is ranked rightly: margin > 0. A margin of 0 prefers nothing and is wrong.

    Args:
        margins: (N,) floating: score of the chosen response minus score of the rejected one.

    Returns:
        (N,) bool.

    Raises:
        ValueError: not a floating vector, or NaN in it.
    """
    _check_vector(margins, "margins")
    if margins.isnan().any():
        raise ValueError(f"expected margins without NaN, got {int(margins.isnan().sum())} NaN of {margins.numel()}")
    return margins > 0


class _Share(Metric):
    """The share of rows that a subclass's ``update`` calls true; state: two counts."""

    is_differentiable = False
    higher_is_better = True
    full_state_update = False

    hits: Tensor
    total: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("hits", torch.tensor(0), dist_reduce_fx="sum")
        self.add_state("total", torch.tensor(0), dist_reduce_fx="sum")

    def _add(self, hits: Tensor) -> None:
        self.hits += hits.sum()
        self.total += hits.numel()

    def compute(self) -> Tensor:
        return self.hits / self.total


class PreferenceAccuracy(_Share):
    """Share of pairs with margin > 0 (:func:`preference_hits`).

    >>> metric = PreferenceAccuracy()
    >>> metric.update(torch.tensor([1.5, -0.5, 0.0, 2.0]))
    >>> metric.compute().item()
    0.5
    """

    def update(self, margins: Tensor) -> None:
        self._add(preference_hits(margins))


def _check_vector(values: Tensor, name: str) -> None:
    if values.ndim != 1 or not values.is_floating_point():
        found = f"{values.dtype} of {tuple(values.shape)}"
        raise ValueError(f"expected {name} as a floating tensor of shape (N,), got {found}")
