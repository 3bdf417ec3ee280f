"""What several samples of one judgment say: how often no verdict, and how often the majority is right."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from genrm_lightning.evaluation.voting import Scope, doubling, majority_scores
from genrm_lightning.metrics.base import RowMean, check_votes


def invalid_share(verdicts: Tensor) -> Tensor:
    """Share of each presentation's samples whose text names no verdict.

    Args:
        verdicts: (N, K) integer: 0 for INVALID, 1 and -1 for the two letters.

    Returns:
        (N,) float32.
    """
    return (verdicts == 0).float().mean(1)


class InvalidRate(RowMean):
    """Share of samples whose text names no verdict (:func:`invalid_share`): every presentation weighs alike.

    Presentations may have different numbers of samples, in updates of their own.

    >>> metric = InvalidRate()
    >>> metric.update(torch.tensor([[1, 0, -1, 1], [1, 1, 1, 1]]))
    >>> metric.compute().item()
    0.125
    """

    higher_is_better = False

    def update(self, verdicts: Tensor) -> None:
        """verdicts: (N, K) integer of -1, 0 and 1; ValueError for anything else."""
        check_votes(verdicts, "verdicts", "(N, K)", None, None)
        self._add(invalid_share(verdicts))


def majority_curve(votes: Tensor, scope: Scope = "pair") -> Tensor:
    """Expected score of each pair's majority at k = 1, 2, 4, ... and K, over all subsets of k samples an order.

    As :func:`genrm_lightning.evaluation.voting.majority_scores` has it, whose work it is: a tie scores one half, no
    vote at all 0.

    Args:
        votes: (N, 2, K) integer, of the samples of both orders: 1 for the right response, -1 for the wrong one, 0 for
            none.
        scope: pair: one verdict from the samples of both orders together; order: the mean of a verdict an order.

    Returns:
        (N, len(doubling(1, K))) float64 on the CPU.
    """
    given = votes.cpu().numpy()
    steps = doubling(1, given.shape[2])
    return torch.from_numpy(np.stack([majority_scores(given, k, scope) for k in steps], 1))


class VoteCurve(RowMean):
    """maj@K (self-consistency, arXiv 2203.11171): accuracy of the majority of k samples an order, by k.

    Exact expectations over subsets of the samples that are stored (:func:`majority_curve`); ``compute`` gives one
    accuracy for each of ``steps``.

    Args:
        k_max: K, the samples an order that every pair has.
        scope: as in :func:`majority_curve`.

    Attributes:
        steps: 1, 2, 4, ..., K.

    >>> metric = VoteCurve(4)
    >>> metric.update(torch.tensor([[[1, 1, 1, -1], [1, 1, -1, 1]], [[1, 1, 1, 1], [1, 1, 1, 1]]]))
    >>> metric.steps
    [1, 2, 4]
    >>> metric.compute().tolist()
    [0.875, 0.9375, 1.0]
    """

    higher_is_better = True

    def __init__(self, k_max: int, scope: Scope = "pair", **kwargs: Any) -> None:
        if k_max < 1:
            raise ValueError(f"expected k_max from 1 up, got {k_max}")
        self.steps = doubling(1, k_max)
        super().__init__(len(self.steps), **kwargs)
        self.k_max = k_max
        self.scope = scope

    def update(self, votes: Tensor) -> None:
        """votes: (N, 2, k_max) integer of -1, 0 and 1, as in :func:`majority_curve`; ValueError for anything else."""
        check_votes(votes, "votes", f"(N, 2, {self.k_max})", None, 2, self.k_max)
        self._add(majority_curve(votes, self.scope))
