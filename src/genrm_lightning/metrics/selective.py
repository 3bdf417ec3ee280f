"""What it is worth to leave out the pairs that a judge is unsure of."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from genrm_lightning.evaluation.abstention import risk_coverage
from genrm_lightning.metrics.base import AllRows, check_numbers


class RiskCoverage(NamedTuple):
    """The curve: ``risk`` (N,), the mean error of the pairs that are answered, at ``coverage`` (N,) 1/N, 2/N, ..., 1;
    and the area under it, ``aurc`` (), the risk in the mean over all coverages. float64."""

    aurc: Tensor
    coverage: Tensor
    risk: Tensor


class SelectiveRisk(AllRows):
    """Risk by coverage, and the area under the curve (AURC); lower is better. State: all rows.

    As :mod:`genrm_lightning.evaluation.abstention` has it (Geifman and El-Yaniv, arXiv 1705.08500): the surest pairs
    come first, those of equal uncertainty count with their mean error. Without rows ``aurc`` is NaN and the curve empty
    (of one row torchmetrics makes scalars of the curve's vectors).

    >>> metric = SelectiveRisk()
    >>> metric.update(errors=torch.tensor([0.0, 1.0]), uncertainty=torch.tensor([0.1, 0.6]))
    >>> metric.update(errors=torch.tensor([1.0, 0.0]), uncertainty=torch.tensor([0.9, 0.2]))
    >>> metric.compute().risk.tolist()
    [0.0, 0.0, 0.3333333333333333, 0.5]
    """

    higher_is_better = False

    errors: list[Tensor]
    uncertainty: list[Tensor]

    def __init__(self, **kwargs: Any) -> None:
        super().__init__({"errors": torch.float64, "uncertainty": torch.float64}, **kwargs)

    def update(self, errors: Tensor, uncertainty: Tensor) -> None:
        """Take pairs.

        Args:
            errors: (N,) floating: 1 - score, so 0 of a pair that is judged rightly, 1 of a wrong one, 1/2 of a tie.
            uncertainty: (N,) floating, of any scale: an entropy, or 1 - max(p, 1 - p).

        Raises:
            ValueError: another shape or dtype, two lengths, or NaN.
        """
        check_numbers(errors, "errors")
        check_numbers(uncertainty, "uncertainty")
        if len(errors) != len(uncertainty):
            raise ValueError(f"expected an uncertainty for each error, got {len(uncertainty)} for {len(errors)}")
        self._append(errors=errors, uncertainty=uncertainty)

    def compute(self) -> RiskCoverage:
        errors, uncertainty = self._rows("errors").cpu(), self._rows("uncertainty").cpu()
        n = len(errors)
        risk = torch.from_numpy(risk_coverage(errors.numpy(), uncertainty.numpy())) if n else errors
        return RiskCoverage(risk.mean(), torch.arange(1, n + 1, dtype=torch.float64) / n, risk)
