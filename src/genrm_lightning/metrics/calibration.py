"""Whether a judge's probabilities mean what they say: expected calibration error and Brier score."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics import Metric

from genrm_lightning.metrics.base import ONE, RowMean, check_probabilities, fixed


def brier(p_right: Tensor) -> Tensor:
    """Brier score of each row, (1 - p)^2, where the event is that the preferred response is preferred.

    Args:
        p_right: (N,) floating in [0, 1]: probability given to the preferred response.

    Returns:
        (N,) in [0, 1]; 0.25 where the judge does not know.
    """
    return (1 - p_right) ** 2


class Brier(RowMean):
    """Mean Brier score (G. W. Brier, Monthly Weather Review 78, 1950): mean of (1 - p_right)^2; lower is better.

    It is half of Brier's sum over both outcomes, as usual for two of them (scikit-learn's ``brier_score_loss``).

    >>> metric = Brier()
    >>> metric.update(torch.tensor([1.0, 0.5, 0.0, 0.5]))
    >>> metric.compute().item()
    0.375
    """

    higher_is_better = False

    def update(self, p_right: Tensor) -> None:
        """p_right: (N,) floating; ValueError for another shape or dtype, NaN, or outside [0, 1]."""
        check_probabilities(p_right, "p_right")
        self._add(brier(p_right.float() if p_right.dtype in (torch.float16, torch.bfloat16) else p_right))


class CalibrationBins(NamedTuple):
    """Rows by their confidence, int64 (bins,) each: how many, halves of them that are right, and their confidence's
    sum, in multiples of 2^-32."""

    rows: Tensor
    right: Tensor
    confidence: Tensor

    def error(self) -> Tensor:
        """Expected calibration error: sum over bins of |right - confidence| over all rows; NaN without rows."""
        return (self.right * (ONE // 2) - self.confidence).abs().sum() / self.rows.sum() / ONE


def calibration_bins(p_right: Tensor, bins: int = 10) -> CalibrationBins:
    """Sort rows by the confidence of their verdict, max(p, 1 - p), into bins of equal width in [0.5, 1].

    A bin holds its lower edge, and the last one its upper edge, too. A verdict is right where p > 0.5; at p = 0.5 it is
    half right, with a confidence of 0.5: who does not know, and says so, is calibrated.

    Args:
        p_right: (N,) floating in [0, 1]: probability given to the preferred response.
    """
    p = p_right if p_right.dtype == torch.float64 else p_right.float()
    confidence = torch.maximum(p, 1 - p)
    edges = torch.arange(bins + 1, 2 * bins, dtype=p.dtype, device=p.device) / (2 * bins)  # those within
    own = F.one_hot(torch.bucketize(confidence, edges, right=True), bins)  # (N, bins)
    halves = (p > 0.5).long() + (p >= 0.5).long()
    sums = (own * values[:, None] for values in (halves, fixed(confidence)))
    return CalibrationBins(own.sum(0), *(values.sum(0) for values in sums))


class CalibrationError(Metric):
    """Expected calibration error (ECE; Guo et al., arXiv 1706.04599 eq. 3) of verdicts between two; lower is better.

    The mean over rows of how far the share right of a row's bin lies from the bin's mean confidence
    (:func:`calibration_bins`: ten bins of equal width in [0.5, 1]). It is biased upwards where bins hold few rows.

    Args:
        bins: how many.

    >>> metric = CalibrationError()
    >>> metric.update(torch.tensor([0.75, 0.75, 0.75, 0.25]))  # sure of 0.75, and right that often
    >>> metric.compute().item()
    0.0
    >>> metric.update(torch.tensor([0.0, 0.0, 0.0, 0.0]))  # sure, and wrong
    >>> metric.compute().item()
    0.5
    """

    is_differentiable = False
    higher_is_better = False
    full_state_update = False

    rows: Tensor
    right: Tensor
    confidence: Tensor

    def __init__(self, bins: int = 10, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if bins < 1:
            raise ValueError(f"expected bins from 1 up, got {bins}")
        self.bins = bins
        for name in CalibrationBins._fields:
            self.add_state(name, torch.zeros(bins, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, p_right: Tensor) -> None:
        """p_right: (N,) floating; ValueError for another shape or dtype, NaN, or outside [0, 1]."""
        check_probabilities(p_right, "p_right")
        for name, value in calibration_bins(p_right, self.bins)._asdict().items():
            setattr(self, name, getattr(self, name) + value)

    def compute(self) -> Tensor:
        return CalibrationBins(self.rows, self.right, self.confidence).error()
