"""Log-probabilities of target tokens behind the vocabulary head, without all logits ever lying in memory.

The idea of cut cross-entropy (arXiv 2411.09009), a token at a time instead of summed, so that any loss can stand on it.
Positions go through the head in pieces. Of each the forward pass keeps the log-probability and, where states need a
gradient, its derivative W[target] − Σ_v p_v W[v], which is as large as the state. The backward pass multiplies; it
computes logits again only where the head itself is trained.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

# Positions in a piece: bounds the logits' memory (512 x 49k x 4 B = 100 MB).
_PIECE = 512


def token_logps(states: Tensor, head: Tensor, targets: Tensor) -> Tensor:
    """log softmax(states · headᵀ) at the targets.

    Logits are float32 whatever goes in: bf16 logits lie an eighth apart around 20, which makes ties of A and B and
    moves log-ratios. Under autocast, or where a factor is bf16, factors are rounded to bf16 and their products summed
    in float32, as matrix units do.

    Args:
        states: (N, H).
        head: (V, H), the vocabulary head's weight.
        targets: (N,) int64.

    Returns:
        (N,) float32, nats.
    """
    low = torch.is_autocast_enabled(states.device.type) or torch.bfloat16 in (states.dtype, head.dtype)
    return _TokenLogps.apply(states, head, targets, low)


class _TokenLogps(torch.autograd.Function):
    @staticmethod
    def forward(ctx, states: Tensor, head: Tensor, targets: Tensor, low: bool) -> Tensor:
        of_states, of_head = ctx.needs_input_grad[:2]
        logps = states.new_empty(len(targets), dtype=torch.float32)
        derivative = torch.empty_like(states, dtype=torch.float32) if of_states else None
        with float32_sums(states.device.type, low):
            table = factor(head, low)
            for piece in _pieces(targets):
                logits = product(factor(states[piece], low), table.T)
                norm = logits.logsumexp(-1, keepdim=True)
                logps[piece] = (logits.gather(-1, targets[piece, None]) - norm).squeeze(-1)
                if of_states:
                    derivative[piece] = product(factor(_slope(logits.sub_(norm).exp_(), targets[piece]), low), table)
        ctx.save_for_backward(derivative, *((states, head, targets) if of_head else ()))
        ctx.dtype, ctx.low = states.dtype, low
        return logps

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor | None, ...]:
        derivative, *trained = ctx.saved_tensors
        of_states = None if derivative is None else (gradient[:, None] * derivative).to(ctx.dtype)
        if not trained:
            return of_states, None, None, None
        states, head, targets = trained
        of_head = torch.zeros_like(head, dtype=torch.float32)
        with float32_sums(states.device.type, ctx.low):
            table = factor(head, ctx.low)
            for piece in _pieces(targets):
                shares = product(factor(states[piece], ctx.low), table.T).softmax(-1)
                slope = _slope(shares, targets[piece]).mul_(gradient[piece, None])
                of_head += product(factor(slope, ctx.low).T, factor(states[piece], ctx.low))
        return of_states, of_head.to(head.dtype), None, None


def _slope(shares: Tensor, targets: Tensor) -> Tensor:
    """1[v = target] − p_v in place: (P, V). Before a product rounds it: near p = 1 bf16 would leave nothing of it."""
    shares[torch.arange(len(targets), device=targets.device), targets] -= 1
    return shares.neg_()


def _pieces(targets: Tensor) -> Iterator[slice]:
    return (slice(start, start + _PIECE) for start in range(0, len(targets), _PIECE))


def factor(matrix: Tensor, low: bool) -> Tensor:
    """A factor of :func:`product`: bf16 on a GPU's matrix units; a CPU's take float32 and round it themselves."""
    return matrix.to(torch.bfloat16 if low and matrix.is_cuda else torch.float32)


def product(left: Tensor, right: Tensor) -> Tensor:
    """Float32, whatever its factors."""
    return left @ right if left.dtype == torch.float32 else torch.mm(left, right, out_dtype=torch.float32)


@contextmanager
def float32_sums(device: str, low: bool) -> Iterator[None]:
    """No autocast within; where ``low``, a CPU may round float32 factors to bf16."""
    matmul = torch.backends.mkldnn.matmul
    before = matmul.fp32_precision
    try:
        if low:
            matmul.fp32_precision = "bf16"
        with torch.autocast(device, enabled=False):
            yield
    finally:
        matmul.fp32_precision = before
