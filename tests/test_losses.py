"""Every loss against values worked out by hand, and against the formula in float64 NumPy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from genrm_lightning import losses

LN2 = math.log(2)


def t(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float32)


def approx(tensor: torch.Tensor, *values: float) -> None:
    assert tensor.tolist() == pytest.approx(values, abs=1e-6)


def log_sigmoid(x: np.ndarray) -> np.ndarray:
    return -np.logaddexp(0, -x)


def test_bradley_terry_of_equal_rewards_is_ln_2():
    approx(losses.bradley_terry(t(0.3, -2), t(0.3, -2)), LN2, LN2)


def test_bradley_terry_by_hand():
    # σ(ln 3) = 3/4, σ(−ln 3) = 1/4
    approx(losses.bradley_terry(t(math.log(3), 0), t(0, math.log(3))), math.log(4 / 3), math.log(4))


def test_margin_is_taken_off_the_difference():
    approx(losses.bradley_terry(t(1 + math.log(3)), t(0), margin=t(1)), math.log(4 / 3))


def test_bradley_terry_label_smoothing_mixes_both_labels():
    approx(losses.bradley_terry(t(math.log(3)), t(0), label_smoothing=0.1), 0.9 * math.log(4 / 3) + 0.1 * math.log(4))
    approx(losses.bradley_terry(t(math.log(3)), t(0), label_smoothing=0.5), 0.5 * math.log(16 / 3))


def test_bradley_terry_survives_extreme_rewards():
    approx(losses.bradley_terry(t(-500), t(500)), 1000)
    approx(losses.bradley_terry(t(500), t(-500)), 0)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("beta", [0.1, 1.0])
def test_dpo_starts_at_ln_2(beta, smoothing):
    logps = t(-30.0), t(-45.0)
    values, chosen, rejected = losses.dpo(*logps, *logps, beta=beta, label_smoothing=smoothing)
    approx(values, LN2)
    approx(chosen, 0)
    approx(rejected, 0)


def test_dpo_by_hand():
    # Log-ratios +1 and −1, β = ln 3 / 2: β·h = ln 3.
    beta = math.log(3) / 2
    values, chosen, rejected = losses.dpo(t(-9), t(-21), t(-10), t(-20), beta=beta)
    approx(values, math.log(4 / 3))
    approx(chosen, beta)
    approx(rejected, -beta)
    smoothed, *_ = losses.dpo(t(-9), t(-21), t(-10), t(-20), beta=beta, label_smoothing=0.1)
    approx(smoothed, 0.9 * math.log(4 / 3) + 0.1 * math.log(4))


def test_ipo_by_hand():
    # h = 2, target 1/(2β) = 1.25 at β = 0.4: (2 − 1.25)² = 0.5625; at the start the loss is 1.25².
    values, *_ = losses.dpo(t(-9), t(-21), t(-10), t(-20), beta=0.4, variant="ipo")
    approx(values, 0.5625)
    start, *_ = losses.dpo(t(-9), t(-21), t(-9), t(-21), beta=0.4, variant="ipo")
    approx(start, 1.5625)


def test_rewards_of_dpo_carry_no_gradient():
    chosen = t(-9.0).requires_grad_()
    values, reward, _ = losses.dpo(chosen, t(-21), t(-10), t(-20), beta=0.5)
    assert not reward.requires_grad
    values.sum().backward()
    approx(chosen.grad, -0.5 / (1 + math.e))  # −β·σ(−β·h), β·h = 1


def test_an_unknown_variant_is_refused():
    with pytest.raises(ValueError, match="'sigmoid' or 'ipo', not 'hinge'"):
        losses.dpo(t(0), t(0), t(0), t(0), beta=1, variant="hinge")


def test_mean_nll_by_hand():
    approx(losses.mean_nll(t(-6, -1), t(3, 4)), 2, 0.25)


def test_verdict_nll_by_hand():
    right, wrong = t(math.log(0.8)), t(math.log(0.1))
    approx(losses.verdict_nll(right, wrong), -math.log(0.8))
    approx(losses.verdict_nll(right, wrong, label_smoothing=0.25), -0.75 * math.log(0.8) - 0.25 * math.log(0.1))


def test_losses_equal_the_formulas_in_float64():
    draw = np.random.default_rng(0)
    a, b, c, d = draw.normal(size=(4, 64)) * 20
    ta, tb, tc, td = (torch.tensor(x, dtype=torch.float32) for x in (a, b, c, d))
    expected = -0.9 * log_sigmoid(a - b - c) - 0.1 * log_sigmoid(-(a - b - c))
    np.testing.assert_allclose(losses.bradley_terry(ta, tb, tc, 0.1).numpy(), expected, rtol=1e-5, atol=1e-5)
    h = (a - c) - (b - d)
    expected = -0.8 * log_sigmoid(0.3 * h) - 0.2 * log_sigmoid(-0.3 * h)
    np.testing.assert_allclose(losses.dpo(ta, tb, tc, td, 0.3, "sigmoid", 0.2)[0], expected, rtol=1e-5, atol=1e-5)
    expected = (h - 1 / 0.6) ** 2
    np.testing.assert_allclose(losses.dpo(ta, tb, tc, td, 0.3, "ipo")[0].numpy(), expected, rtol=1e-5, atol=1e-3)


def test_choice_nll_by_hand():
    # p(right) = 0.6, p(wrong) = 0.2: among the two 0.75; equal ones: ln 2, whatever mass lies elsewhere.
    right, wrong = torch.tensor([0.6, 0.1]).log(), torch.tensor([0.2, 0.1]).log()
    torch.testing.assert_close(losses.choice_nll(right, wrong), torch.tensor([-math.log(0.75), math.log(2)]))
