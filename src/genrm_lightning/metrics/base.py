"""The two kinds of state: sums that are the same in every order of adding, and rows that are kept; checks of inputs."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

# Fractions are added as whole multiples of 2^-32. Sums of floats depend on how the rows were batched, and float64, in
# which one would hardly see it, does not exist on every device. Room for 2^31 rows.
ONE = 2**32


def fixed(values: Tensor) -> Tensor:
    """Numbers in [-1, 1] (floating or bool) as int64 multiples of 1 / :data:`ONE`."""
    values = values if values.dtype == torch.float64 else values.float()
    return (values * ONE).round().long()


class RowMean(Metric):
    """Base: the mean over rows of what a pure function makes of each. State: an exact sum and a count.

    Args:
        shape: of one row's value.
    """

    is_differentiable = False
    full_state_update = False

    total: Tensor
    count: Tensor

    def __init__(self, *shape: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("total", torch.zeros(shape, dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("count", torch.tensor(0), dist_reduce_fx="sum")

    def _add(self, values: Tensor) -> None:
        """values: (N, *shape), each in [-1, 1]."""
        self.total += fixed(values).sum(0).to(self.total.device)
        self.count += len(values)

    def compute(self) -> Tensor:
        return self.total / self.count / ONE


class AllRows(Metric):
    """Base of metrics that need every row at once. States: vectors that grow, laid behind one another by processes.

    Args:
        vectors: name -> dtype of each state.
    """

    is_differentiable = False
    full_state_update = False

    def __init__(self, vectors: dict[str, torch.dtype], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._vectors = vectors
        for name in vectors:
            self.add_state(name, [], dist_reduce_fx="cat")

    def _append(self, **values: Tensor) -> None:
        for name, value in values.items():
            getattr(self, name).append(value.detach().to(self._vectors[name]))

    def _rows(self, name: str) -> Tensor:
        """The state as one vector, empty where nothing came."""
        found = getattr(self, name)
        return dim_zero_cat(found) if len(found) else self._none(name)

    def _none(self, name: str) -> Tensor:
        return torch.zeros(0, dtype=self._vectors[name], device=self.device)

    def _sync_dist(self, *args: Any, **kwargs: Any) -> None:
        # torchmetrics lets a process without rows send float32 whatever the others send, which gloo reads as theirs.
        for name in self._vectors:
            if not len(getattr(self, name)):
                setattr(self, name, [self._none(name)])
        super()._sync_dist(*args, **kwargs)


def check_numbers(values: Tensor, name: str, *columns: int) -> None:
    """Raises ValueError for anything but a floating tensor of shape (N, *columns) without NaN."""
    if not values.is_floating_point() or values.shape != (*values.shape[:1], *columns) or not values.ndim:
        shape = f"({', '.join(['N', *map(str, columns)])}{'' if columns else ','})"
        found = f"{values.dtype} of {tuple(values.shape)}"
        raise ValueError(f"expected {name} as a floating tensor of shape {shape}, got {found}")
    if values.isnan().any():
        raise ValueError(f"expected {name} without NaN, got {int(values.isnan().sum())} NaN of {values.numel()}")


def check_probabilities(values: Tensor, name: str) -> None:
    """Raises ValueError for anything but a floating tensor of shape (N,) in [0, 1]."""
    check_numbers(values, name)
    if ((values < 0) | (values > 1)).any():
        raise ValueError(f"expected {name} in [0, 1], got {float(values.min()):g} to {float(values.max()):g}")


def check_votes(values: Tensor, name: str, shape: str, *sizes: int | None) -> None:
    """Raises ValueError for anything but an integer tensor of -1, 0 and 1.

    Args:
        shape: what is expected, in words.
        sizes: of each dimension, None where any will do.
    """
    fits = values.ndim == len(sizes) and all(n in (None, m) for n, m in zip(sizes, values.shape, strict=True))
    fits = fits and values.shape[-1] > 0
    if values.is_floating_point() or values.is_complex() or values.dtype == torch.bool or not fits:
        raise ValueError(
            f"expected {name} as an integer tensor of shape {shape}, got {values.dtype} of {tuple(values.shape)}"
        )
    if ((values < -1) | (values > 1)).any():
        raise ValueError(f"expected {name} of -1, 0 and 1, got {int(values.min())} to {int(values.max())}")
