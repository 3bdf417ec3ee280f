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


def verdict_hits(p_a: Tensor, right_is_a: Tensor) -> Tensor:
    """Whether p(A) lies on the right side of 0.5. Exactly 0.5 chooses nothing and is wrong either way.

    Args:
        p_a: (N,) floating, in [0, 1]: probability of A among {A, B}.
        right_is_a: (N,) bool.

    Returns:
        (N,) bool.

    Raises:
        ValueError: wrong shape or dtype, or p_a outside [0, 1] or NaN.
    """
    _check_probabilities(p_a, "p_a")
    _check_labels(right_is_a, p_a)
    return torch.where(right_is_a, p_a > 0.5, p_a < 0.5)


def same_choice(p_a: Tensor, p_a_swapped: Tensor) -> Tensor:
    """Whether a pair's two orders choose the same response: A in one order and B in the other.

    A p(A) of exactly 0.5 in either order chooses nothing, so the pair is not consistent.

    Args:
        p_a, p_a_swapped: (N,) floating, in [0, 1]: row i of both is the same pair, its responses exchanged.

    Returns:
        (N,) bool.

    Raises:
        ValueError: wrong shape or dtype, or a value outside [0, 1] or NaN.
    """
    _check_probabilities(p_a, "p_a")
    _check_probabilities(p_a_swapped, "p_a_swapped")
    if p_a.shape != p_a_swapped.shape:
        raise ValueError(
            f"expected both orders of the same pairs, got shapes {tuple(p_a.shape)} and {tuple(p_a_swapped.shape)}"
        )
    return ((p_a > 0.5) & (p_a_swapped < 0.5)) | ((p_a < 0.5) & (p_a_swapped > 0.5))


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


class VerdictAccuracy(_Share):
    """Share of presentations whose p(A) is on the right side of 0.5 (:func:`verdict_hits`).

    >>> metric = VerdictAccuracy()
    >>> metric.update(torch.tensor([0.9, 0.9, 0.2, 0.5]), torch.tensor([True, False, False, True]))
    >>> metric.compute().item()
    0.5
    """

    def update(self, p_a: Tensor, right_is_a: Tensor) -> None:
        self._add(verdict_hits(p_a, right_is_a))


class PositionConsistency(_Share):
    """Share of pairs whose two orders choose the same response (:func:`same_choice`).

    Both orders of a pair must come in one update: with sums as the only state, halves of pairs cannot wait.

    >>> metric = PositionConsistency()
    >>> metric.update(torch.tensor([0.9, 0.9]), torch.tensor([0.2, 0.8]))
    >>> metric.compute().item()
    0.5
    """

    def update(self, p_a: Tensor, p_a_swapped: Tensor) -> None:
        self._add(same_choice(p_a, p_a_swapped))


class MeanPerToken(Metric):
    """All rows' sums over all rows' tokens: the mean per token, whatever the lengths and batches.

    Sums are held in double precision: with float32 (as in ``MeanMetric``) a long epoch's later batches lose digits.
    Values are nats per token where log-probabilities come in.

    >>> metric = MeanPerToken()
    >>> metric.update(torch.tensor([-2.0, -1.0]), torch.tensor([1, 5]))
    >>> metric.compute().item()
    -0.5
    """

    is_differentiable = False
    full_state_update = False

    sum: Tensor
    tokens: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("sum", torch.tensor(0.0, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("tokens", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, sums: Tensor, n_tokens: Tensor) -> None:
        """Add rows.

        Args:
            sums: (N,) floating: a row's value summed over its tokens, finite.
            n_tokens: (N,) integer, each >= 0: the tokens it was summed over.

        Raises:
            ValueError: wrong shape or dtype, a sum that is not finite, or a negative count.
        """
        _check_vector(sums, "sums")
        if n_tokens.shape != sums.shape or n_tokens.is_floating_point() or n_tokens.dtype == torch.bool:
            raise ValueError(
                f"expected n_tokens as an integer tensor of shape {tuple(sums.shape)}, "
                f"got {n_tokens.dtype} of {tuple(n_tokens.shape)}"
            )
        if not sums.isfinite().all():
            raise ValueError(f"expected finite sums, got {int((~sums.isfinite()).sum())} others of {len(sums)}")
        if (n_tokens < 0).any():
            raise ValueError(f"expected counts of tokens, got {int(n_tokens.min())}")
        self.sum += sums.double().sum()
        self.tokens += n_tokens.sum()

    def compute(self) -> Tensor:
        return (self.sum / self.tokens).float()


class CalibrationError(Metric):
    """Expected calibration error of verdicts: how far confidence and accuracy lie apart, 0 is best.

    Confidence is max(p_a, 1 - p_a), accuracy that of the letter it chooses. ``sum over bins of n_b/N |acc_b - conf_b|``
    with bins of equal width over [0.5, 1] (Guo et al. 2017, arXiv 1706.04599). torchmetrics'
    ``BinaryCalibrationError`` keeps every row for it; sums per bin give the same number. At p_a = 0.5 the verdict is
    wrong, as everywhere here.
    """

    is_differentiable = False
    higher_is_better = False
    full_state_update = False

    confidence: Tensor  # (n_bins,) summed
    hits: Tensor  # (n_bins,)
    total: Tensor  # (n_bins,)

    def __init__(self, n_bins: int = 10) -> None:
        super().__init__()
        if n_bins < 1:
            raise ValueError(f"expected at least 1 bin, got {n_bins}")
        self.n_bins = n_bins
        self.add_state("confidence", torch.zeros(n_bins, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("hits", torch.zeros(n_bins, dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("total", torch.zeros(n_bins, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, p_a: Tensor, right_is_a: Tensor) -> None:
        """Add rows; arguments and errors are those of :func:`verdict_hits`."""
        hits = verdict_hits(p_a, right_is_a)
        confidence = torch.maximum(p_a, 1 - p_a).double()
        bins = ((confidence - 0.5) * 2 * self.n_bins).long().clamp(max=self.n_bins - 1)
        self.confidence.index_add_(0, bins, confidence)
        self.hits.index_add_(0, bins, hits.long())
        self.total.index_add_(0, bins, torch.ones_like(bins))

    def compute(self) -> Tensor:
        return ((self.hits - self.confidence).abs().sum() / self.total.sum()).float()


def _check_vector(values: Tensor, name: str) -> None:
    if values.ndim != 1 or not values.is_floating_point():
        found = f"{values.dtype} of {tuple(values.shape)}"
        raise ValueError(f"expected {name} as a floating tensor of shape (N,), got {found}")


def _check_probabilities(values: Tensor, name: str) -> None:
    _check_vector(values, name)
    # Written so that NaN fails too.
    if not ((values >= 0) & (values <= 1)).all():
        raise ValueError(f"expected {name} in [0, 1], got {float(values.min())} to {float(values.max())}")


def _check_labels(right_is_a: Tensor, like: Tensor) -> None:
    if right_is_a.dtype != torch.bool or right_is_a.shape != like.shape:
        raise ValueError(
            f"expected right_is_a as a bool tensor of shape {tuple(like.shape)}, "
            f"got {right_is_a.dtype} of {tuple(right_is_a.shape)}"
        )
