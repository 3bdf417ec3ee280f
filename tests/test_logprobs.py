"""Log-probabilities behind the vocabulary head: those of the plain log-softmax, gradients included."""

from __future__ import annotations

import pytest
import torch

from genrm_lightning import logprobs
from genrm_lightning.logprobs import token_logps

N, H, V = 11, 16, 50


def drawn(trained_head: bool, dtype: torch.dtype = torch.float32):
    draw = torch.Generator().manual_seed(3)
    states = torch.randn(N, H, generator=draw).to(dtype).requires_grad_()
    head = torch.randn(V, H, generator=draw).to(dtype).requires_grad_(trained_head)
    return states, head, torch.randint(V, (N,), generator=draw), torch.randn(N, generator=draw)


def plain(states, head, targets):
    return (states.float() @ head.float().T).log_softmax(-1).gather(-1, targets[:, None]).squeeze(-1)


@pytest.mark.parametrize("piece", [4, 512])
@pytest.mark.parametrize("trained_head", [False, True])
def test_values_and_gradients(monkeypatch, trained_head, piece):
    monkeypatch.setattr(logprobs, "_PIECE", piece)
    states, head, targets, weights = drawn(trained_head)
    wanted = [states, head] if trained_head else [states]
    found, expected = token_logps(states, head, targets), plain(states, head, targets)
    torch.testing.assert_close(found, expected)
    of_found, of_expected = (torch.autograd.grad((v * weights).sum(), wanted) for v in (found, expected))
    for one, other in zip(of_found, of_expected, strict=True):
        torch.testing.assert_close(one, other)


def test_logits_lie_in_memory_a_piece_at_a_time(monkeypatch):
    monkeypatch.setattr(logprobs, "_PIECE", 4)
    sizes = []
    product = logprobs.product

    def watched(left, right):
        sizes.append((left.shape[0], right.shape[1]))
        return product(left, right)

    monkeypatch.setattr(logprobs, "product", watched)
    states, head, targets, weights = drawn(True)
    (token_logps(states, head, targets) * weights).sum().backward()
    logits = [rows for rows, columns in sizes if columns == V]
    assert sorted(logits) == [3, 3, 4, 4, 4, 4]  # forward and backward, 11 positions each


def test_bf16_goes_in_float32_comes_out():
    """Factors are rounded, sums are not: what float32 products of the rounded factors give."""
    states, head, targets, weights = drawn(True, torch.bfloat16)
    found = token_logps(states, head, targets)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, plain(states, head, targets), atol=1e-4, rtol=1e-4)
    (found * weights).sum().backward()
    assert states.grad.dtype == head.grad.dtype == torch.bfloat16
    states, head, targets, weights = drawn(False)
    before = torch.backends.mkldnn.matmul.fp32_precision
    with torch.autocast("cpu", torch.bfloat16):
        found = token_logps(states, head, targets)
    torch.testing.assert_close(found, plain(states, head, targets), atol=0.1, rtol=0)  # 2^-9 of logits around 10
    assert torch.backends.mkldnn.matmul.fp32_precision == before, "the setting is the caller's"


def test_no_position_no_value():
    states, head, _, _ = drawn(True)
    found = token_logps(states[:0], head, torch.zeros(0, dtype=torch.long))
    assert found.shape == (0,)
    found.sum().backward()
    assert not head.grad.any()


@pytest.mark.parametrize("logit", [2.0, 6.0, 9.0])
def test_gradients_of_confident_tokens_survive_rounding(logit):
    """Just below 1 bf16 lies 0.004 apart: 1 - p must be taken before anything is rounded."""
    draw = torch.Generator().manual_seed(0)
    head = torch.randn(V, H, generator=draw).bfloat16().float()
    targets = torch.randint(V, (N,), generator=draw)
    states = head[targets] * (logit / head[targets].square().sum(-1, keepdim=True)) * 3
    states = states.bfloat16().float()
    grads = []
    for low in (False, True):
        factors = states.clone().requires_grad_(), head.clone().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=low):
            found = token_logps(*factors, targets) if low else plain(*factors, targets)
        grads.append(torch.autograd.grad(found.sum(), factors))
    for exact, rounded in zip(*grads, strict=True):
        assert float((rounded - exact).norm() / exact.norm()) < 0.01
