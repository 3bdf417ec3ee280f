"""Metrics against hand-worked values, torchmetrics and a single pass over all rows."""

from __future__ import annotations

import math

import pytest
import torch
from torchmetrics.classification import BinaryAccuracy

from genrm_lightning.metrics import PreferenceAccuracy, preference_hits

N = 101
MARGINS = torch.randn(N, generator=torch.Generator().manual_seed(0))
CASES = [(PreferenceAccuracy, (MARGINS,))]


def value(metric, *inputs) -> float:
    metric.update(*inputs)
    return metric.compute().item()


def test_hand_worked():
    assert preference_hits(torch.tensor([0.1, 0.0, -0.1, math.inf])).tolist() == [True, False, False, True]
    assert value(PreferenceAccuracy(), torch.tensor([0.1, 0.0, -0.1, math.inf])) == 0.5


def test_against_torchmetrics():
    expected = value(BinaryAccuracy(), (MARGINS > 0).float(), torch.ones(N, dtype=torch.int))
    assert 0.3 < expected < 0.7
    assert value(PreferenceAccuracy(), MARGINS) == pytest.approx(expected)


@pytest.mark.parametrize(("kind", "inputs"), CASES)
def test_uneven_updates_are_one_update(kind, inputs):
    whole, split = kind(), kind()
    whole.update(*inputs)
    for rows in (slice(0, 1), slice(1, 64), slice(64, 64), slice(64, N)):
        split.update(*(t[rows] for t in inputs))
    assert split.compute().item() == pytest.approx(whole.compute().item(), rel=1e-12)


@pytest.mark.parametrize(("kind", "inputs"), CASES)
def test_states_of_two_processes_add_up(kind, inputs):
    """What torchmetrics does between processes: each state is gathered and reduced by its own function."""
    whole, first, second = kind(), kind(), kind()
    whole.update(*inputs)
    first.update(*(t[:7] for t in inputs))
    second.update(*(t[7:] for t in inputs))
    assert all(reduction.__name__ == "dim_zero_sum" for reduction in first._reductions.values())
    first.merge_state(second)
    assert first.compute().item() == pytest.approx(whole.compute().item(), rel=1e-12)


@pytest.mark.parametrize(("kind", "inputs"), CASES)
def test_reset_and_forward(kind, inputs):
    """``self.log(metric)`` calls forward: it returns the batch's value and still adds the batch up."""
    metric, fresh = kind(), kind()
    metric.update(*inputs)
    metric.reset()
    expected = value(fresh, *(t[:5] for t in inputs))
    assert metric(*(t[:5] for t in inputs)).item() == pytest.approx(expected, rel=1e-6)
    metric(*(t[5:] for t in inputs))
    whole = kind()
    assert metric.compute().item() == pytest.approx(value(whole, *inputs), rel=1e-6)


def test_half_precision_inputs():
    assert value(PreferenceAccuracy(), torch.tensor([1e-7, -1.0], dtype=torch.bfloat16)) == 0.5


def test_without_rows_it_is_nan():
    for kind, _ in CASES:
        with pytest.warns(UserWarning, match="before the ``update``"):
            assert math.isnan(kind().compute().item())


T = torch.tensor
REFUSED = [
    (PreferenceAccuracy, (T([0.1, math.nan]),), "margins without NaN, got 1 NaN of 2"),
    (PreferenceAccuracy, (T([[0.1]]),), r"floating tensor of shape \(N,\), got torch.float32 of \(1, 1\)"),
    (PreferenceAccuracy, (T([1, 2]),), "margins as a floating tensor.*torch.int64"),
]


@pytest.mark.parametrize(("kind", "inputs", "message"), REFUSED)
def test_refuses_and_counts_nothing(kind, inputs, message):
    metric = kind()
    with pytest.raises(ValueError, match=message):
        metric.update(*inputs)
    assert all(not state.any() for state in metric.metric_state.values())
