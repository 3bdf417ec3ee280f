"""Whether pairs are ranked rightly."""

from __future__ import annotations

from torch import Tensor

from genrm_lightning.metrics.base import RowMean, check_numbers


def preference_hits(margins: Tensor) -> Tensor:
    """Whether each pair is ranked rightly: margin > 0. A margin of 0 prefers nothing and is wrong.

    Args:
        margins: (N,) floating: score of the preferred response minus score of the other one.

    Returns:
        (N,) bool.
    """
    return margins > 0


class PairwiseAccuracy(RowMean):
    """Share of pairs (or of presentations) with margin > 0 (:func:`preference_hits`).

    >>> import torch
    >>> metric = PairwiseAccuracy()
    >>> metric.update(torch.tensor([1.5, -0.5, 0.0, 2.0]))
    >>> metric.compute().item()
    0.5
    """

    higher_is_better = True

    def update(self, margins: Tensor) -> None:
        """margins: (N,) floating; ValueError for another shape or dtype, or NaN."""
        check_numbers(margins, "margins")
        self._add(preference_hits(margins))
