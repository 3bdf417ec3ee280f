"""What a judge makes of the place a response is shown at: each pair is judged in both orders.

Margins of both orders are (N, 2): the score of the preferred response minus that of the other one, first where the
preferred one is shown first (as A), second where it is shown second.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from data_tools.order import hash64
from genrm_lightning.metrics.base import AllRows, RowMean, check_numbers


def consistent(margins: Tensor) -> Tensor:
    """Whether each pair's two orders choose the same response, right or wrong; a margin of 0 (or NaN) chooses none.

    Args:
        margins: (N, 2) floating, of both orders.

    Returns:
        (N,) float32, 0 or 1.
    """
    return ((margins > 0).all(1) | (margins < 0).all(1)).float()


def leaning(margins: Tensor) -> Tensor:
    """By how much each pair's two orders choose A more often than half of the time; a margin of 0 is half an A.

    Args:
        margins: (N, 2) floating, of both orders.

    Returns:
        (N,) float32 in [-0.5, 0.5]: -0.5 chooses B both times, 0 the same response both times, 0.5 A both times.
    """
    signs = margins.sign().float()
    return (signs[:, 0] - signs[:, 1]) / 4


class PositionConsistency(RowMean):
    """Share of pairs whose two orders choose the same response, right or wrong (:func:`consistent`).

    >>> metric = PositionConsistency()
    >>> metric.update(torch.tensor([[1.0, 2.0], [-1.0, -2.0], [1.0, -2.0], [0.0, 1.0]]))
    >>> metric.compute().item()
    0.5
    """

    higher_is_better = True

    def update(self, margins: Tensor) -> None:
        """margins: (N, 2) floating, of both orders; ValueError for another shape or dtype, or NaN."""
        check_numbers(margins, "margins", 2)
        self._add(consistent(margins))


class PositionBias(RowMean):
    """Share of presentations that choose A, minus one half (:func:`leaning`): above 0 for a judge that prefers A.

    Each response stands once as A, so a judge without position bias has 0, whatever its accuracy.

    >>> metric = PositionBias()
    >>> metric.update(torch.tensor([[1.0, 2.0], [-1.0, -2.0], [1.0, -2.0], [0.0, 1.0]]))
    >>> metric.compute().item()
    0.0625
    """

    def update(self, margins: Tensor) -> None:
        """margins: (N, 2) floating, of both orders; ValueError for another shape or dtype, or NaN."""
        check_numbers(margins, "margins", 2)
        self._add(leaning(margins))


class BothOrders(AllRows):
    """A mean over pairs whose two orders arrive apart: in any batch, and of any process. State: all presentations.

    A pair of which one order alone came (``limit_val_batches``) is left out.

    Args:
        function: of (N, 2) margins of both orders, such as :func:`consistent`: (N,).

    >>> metric = BothOrders(consistent)
    >>> metric.update(torch.tensor([1.0, 2.0]), torch.tensor([0, 0]), ["one pair", "another"])
    >>> metric.update(torch.tensor([-3.0, 4.0]), torch.tensor([1, 1]), ["another", "one pair"])
    >>> metric.compute().item()
    0.5
    """

    keys: list[Tensor]
    margins: list[Tensor]

    def __init__(self, function: Callable[[Tensor], Tensor], **kwargs: Any) -> None:
        super().__init__({"keys": torch.int64, "margins": torch.float32}, **kwargs)
        self.function = function

    def update(self, margins: Tensor, second: Tensor, pair_ids: Sequence[str]) -> None:
        """Take presentations.

        Args:
            margins: (N,) floating, as in the module's first lines.
            second: (N,) integer: 0 where the preferred response is shown first (as A), 1 where it is shown second.
            pair_ids: N of them.

        Raises:
            ValueError: another shape or dtype, or NaN.
        """
        check_numbers(margins, "margins")
        if not margins.shape == second.shape == (len(pair_ids),):
            raise ValueError(
                f"expected a margin, an order and an id of each presentation, got {len(margins)}, {len(second)} and "
                f"{len(pair_ids)}"
            )
        # Ids are of any length: 63 bits of their hash, and the order as the last bit. Two orders are neighbours.
        pairs = torch.tensor([hash64("pair", pair) >> 1 for pair in pair_ids], dtype=torch.int64, device=margins.device)
        self._append(keys=pairs & ~1 | (second != 0), margins=margins)

    def compute(self) -> Tensor:
        keys, order = self._rows("keys").sort()
        margins = self._rows("margins")[order]
        first = (keys[:-1] ^ 1 == keys[1:]) & (keys[:-1] & 1 == 0)
        return self.function(torch.stack([margins[:-1][first], margins[1:][first]], 1)).mean()
