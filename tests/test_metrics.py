"""Metrics against hand-worked values, torchmetrics and a single pass over all rows."""

from __future__ import annotations

import math

import pytest
import torch
from torchmetrics.aggregation import MeanMetric
from torchmetrics.classification import BinaryAccuracy, BinaryCalibrationError

from genrm_lightning.metrics import (
    CalibrationError,
    MeanPerToken,
    PositionConsistency,
    PreferenceAccuracy,
    VerdictAccuracy,
    preference_hits,
    same_choice,
    verdict_hits,
)

N = 101
GENERATOR = torch.Generator().manual_seed(0)
P_A = torch.rand(N, generator=GENERATOR)
P_A_SWAPPED = torch.rand(N, generator=GENERATOR)
RIGHT_IS_A = torch.rand(N, generator=GENERATOR) < P_A
LOGPS = -torch.rand(N, generator=GENERATOR) * 30
N_TOKENS = torch.randint(1, 40, (N,), generator=GENERATOR)

CASES = [
    (PreferenceAccuracy, (LOGPS + 15,)),
    (VerdictAccuracy, (P_A, RIGHT_IS_A)),
    (PositionConsistency, (P_A, P_A_SWAPPED)),
    (MeanPerToken, (LOGPS, N_TOKENS)),
    (CalibrationError, (P_A, RIGHT_IS_A)),
]


def value(metric, *inputs) -> float:
    metric.update(*inputs)
    return metric.compute().item()


def test_hand_worked():
    assert preference_hits(torch.tensor([0.1, 0.0, -0.1, math.inf])).tolist() == [True, False, False, True]
    p_a, right_is_a = torch.tensor([0.9, 0.9, 0.2, 0.2, 0.5, 0.5]), torch.tensor([True, False] * 3)
    assert verdict_hits(p_a, right_is_a).tolist() == [True, False, False, True, False, False]
    swapped = torch.tensor([0.1, 0.9, 0.3, 0.7, 0.1, 0.5])
    assert same_choice(p_a, swapped).tolist() == [True, False, False, True, False, False]
    assert value(VerdictAccuracy(), p_a, right_is_a) == pytest.approx(2 / 6)
    assert value(PositionConsistency(), p_a, swapped) == pytest.approx(2 / 6)
    # 6 nats over 4 tokens; the mean of the rows' means would be 1.5 + 0.5.
    assert value(MeanPerToken(), torch.tensor([-5.0, -1.0]), torch.tensor([2, 2])) == -1.5
    assert value(MeanPerToken(), torch.tensor([-5.0, -1.0]), torch.tensor([1, 3])) == -1.5
    # Confidences .9 .9 .6 .6 with hits 1 0 1 1: bins [.9 .9]: |1 - 1.8|, [.6 .6]: |2 - 1.2|, over 4 rows.
    p_a, right_is_a = torch.tensor([0.9, 0.1, 0.6, 0.4]), torch.tensor([True, True, True, False])
    assert value(CalibrationError(n_bins=5), p_a, right_is_a) == pytest.approx((0.8 + 0.8) / 4)
    assert value(CalibrationError(n_bins=1), p_a, right_is_a) == pytest.approx(0, abs=1e-7)


def test_against_torchmetrics():
    assert value(VerdictAccuracy(), P_A, RIGHT_IS_A) == pytest.approx(value(BinaryAccuracy(), P_A, RIGHT_IS_A))
    margins = LOGPS + 15
    assert value(PreferenceAccuracy(), margins) == pytest.approx(
        value(BinaryAccuracy(), (margins > 0).float(), torch.ones(N, dtype=torch.int))
    )
    assert value(MeanPerToken(), LOGPS, N_TOKENS) == pytest.approx(
        value(MeanMetric(), LOGPS / N_TOKENS, N_TOKENS.float()), rel=1e-5
    )
    confidence, hits = torch.maximum(P_A, 1 - P_A), verdict_hits(P_A, RIGHT_IS_A)
    # 20 bins over [0, 1] are 10 over [0.5, 1], where confidences lie.
    assert value(CalibrationError(10), P_A, RIGHT_IS_A) == pytest.approx(
        value(BinaryCalibrationError(n_bins=20, norm="l1"), confidence, hits.int()), rel=1e-5
    )


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


def test_sums_keep_their_digits():
    """A float32 sum of -1 forgets everything above 2**24 of them: the mean would not be -1 any more."""
    metric = MeanPerToken()
    metric.update(torch.tensor([-(2.0**24)]), torch.tensor([2**24]))
    for _ in range(4):
        metric.update(torch.tensor([-1.0]), torch.tensor([1]))
    assert metric.sum.item() == -(2.0**24) - 4
    metric.half()  # a module cast to bf16 or fp16 must not cast its metrics
    assert metric.sum.dtype == torch.float64


def test_half_precision_inputs():
    assert value(VerdictAccuracy(), P_A.bfloat16(), RIGHT_IS_A) <= 1
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
    (VerdictAccuracy, (T([0.1, 1.1]), T([True, True])), r"p_a in \[0, 1\]"),
    (VerdictAccuracy, (T([math.nan]), T([True])), r"p_a in \[0, 1\]"),
    (VerdictAccuracy, (T([0.1]), T([1])), "right_is_a as a bool tensor"),
    (VerdictAccuracy, (T([0.1, 0.2]), T([True])), r"shape \(2,\), got torch.bool of \(1,\)"),
    (PositionConsistency, (T([0.1, 0.2]), T([0.1])), "both orders of the same pairs"),
    (PositionConsistency, (T([0.1]), T([math.nan])), r"p_a_swapped in \[0, 1\]"),
    (MeanPerToken, (T([-1.0]), T([1.0])), "n_tokens as an integer tensor"),
    (MeanPerToken, (T([-1.0, -2.0]), T([1])), r"of shape \(2,\)"),
    (MeanPerToken, (T([-math.inf]), T([1])), "finite sums, got 1 others of 1"),
    (MeanPerToken, (T([-1.0]), T([-1])), "counts of tokens, got -1"),
    (CalibrationError, (T([0.1]), T([1])), "right_is_a as a bool tensor"),
]


@pytest.mark.parametrize(("kind", "inputs", "message"), REFUSED)
def test_refuses_and_counts_nothing(kind, inputs, message):
    metric = kind()
    with pytest.raises(ValueError, match=message):
        metric.update(*inputs)
    assert all(not state.any() for state in metric.metric_state.values())


def test_refuses_no_bins():
    with pytest.raises(ValueError, match="at least 1 bin"):
        CalibrationError(0)
