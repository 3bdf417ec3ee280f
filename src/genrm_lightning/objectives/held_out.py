"""Metrics of validation and test alone, by the names they are logged under: a step of training has too few rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

from torch import Tensor
from torchmetrics import Metric

from genrm_lightning.metrics import BothOrders, Brier, CalibrationError, consistent, leaning
from genrm_lightning.prefix import PrefixBatch

Inputs = tuple[Tensor | Sequence[str], ...]


class HeldOut(NamedTuple):
    """A metric, and what of a batch and of the values that ``loss`` returned for it goes to its ``update``.

    Each of the inputs has one entry a row of the batch.
    """

    metric: Callable[[], Metric]
    inputs: Callable[[PrefixBatch, dict[str, Tensor]], Inputs]


def _p_right(batch: PrefixBatch, values: dict[str, Tensor]) -> Inputs:
    return (values["accuracy"].float().sigmoid(),)


def _orders(batch: PrefixBatch, values: dict[str, Tensor]) -> Inputs:
    return values["accuracy"], batch.right, batch.pair_ids


# Of objectives whose value called accuracy is a logit of the preferred response.
CALIBRATION = {"ece": HeldOut(CalibrationError, _p_right), "brier": HeldOut(Brier, _p_right)}
# Of those whose rows show a pair in one order each, the preferred response where ``right`` says.
ORDERS = {
    "position_consistency": HeldOut(partial(BothOrders, consistent), _orders),
    "position_bias": HeldOut(partial(BothOrders, leaning), _orders),
}
