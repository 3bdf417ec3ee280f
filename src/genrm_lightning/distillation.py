"""Token targets of a teacher: divergences between next-token distributions over the whole vocabulary."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from genrm_lightning.logprobs import factor, float32_sums, product

Kind = Literal["forward", "reverse", "jsd"]
# Positions a piece takes at a time: two tables of logits, and what a divergence makes of them.
_CHUNK = 256


class Teaching(NamedTuple):
    """Which entries of a batch learn from which, and how.

    Attributes:
        student, teacher: (M,) int64 entries of a :class:`~genrm_lightning.prefix.PrefixBatch`, paired by place.
        reference: whether the teacher is the policy at the fit's start, else the current one without its gradient.
        kind, mix: of :func:`divergence`.
    """

    student: Tensor
    teacher: Tensor
    reference: bool
    kind: Kind = "forward"
    mix: float = 0.5


def divergence(student: Tensor, teacher: Tensor, head: Tensor, kind: Kind = "forward", mix: float = 0.5) -> Tensor:
    """How far a student's next-token distributions are from a teacher's, arXiv 2306.13649 section 3 (GKD).

    With p the teacher's and q the student's distribution: forward Σ p log(p/q), which covers what the teacher may say;
    reverse Σ q log(q/p), which stays within it; jsd β·KL(p‖m) + (1−β)·KL(q‖m) with m = βp + (1−β)q. In pieces, of
    which the forward pass keeps the derivative by the states alone: memory does not grow with tokens times vocabulary.
    Logits are computed as in :func:`~genrm_lightning.logprobs.token_logps`.

    Args:
        student, teacher: (M, H) last states; the teacher gets no gradient.
        head: (V, H), the vocabulary head's weight, the same for both; it learns through the student.
        mix: β of jsd, in (0, 1).

    Returns:
        (M,) float32, nats.
    """
    low = torch.is_autocast_enabled(student.device.type) or torch.bfloat16 in (student.dtype, head.dtype)
    return _Divergence.apply(student, teacher.detach(), head, kind, mix, low)


class _Divergence(torch.autograd.Function):
    @staticmethod
    def forward(ctx, student: Tensor, teacher: Tensor, head: Tensor, kind: Kind, mix: float, low: bool) -> Tensor:
        of_student, _, of_head = ctx.needs_input_grad[:3]
        values = student.new_empty(len(student), dtype=torch.float32)
        derivative = torch.empty_like(student, dtype=torch.float32) if of_student else None
        with float32_sums(student.device.type, low):
            table = factor(head, low)
            for piece in _pieces(student):
                log_q, log_p = (_log_softmax(states[piece], table, low) for states in (student, teacher))
                values[piece], slope = _compare(log_q, log_p, kind, mix)
                if of_student:
                    derivative[piece] = product(factor(slope, low), table)
        ctx.save_for_backward(derivative, *((student, teacher, head) if of_head else ()))
        ctx.dtype, ctx.how, ctx.low = student.dtype, (kind, mix), low
        return values

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor | None, ...]:
        derivative, *trained = ctx.saved_tensors
        of_student = None if derivative is None else (gradient[:, None] * derivative).to(ctx.dtype)
        if not trained:
            return of_student, None, None, None, None, None
        student, teacher, head = trained
        of_head = torch.zeros_like(head, dtype=torch.float32)
        with float32_sums(student.device.type, ctx.low):
            table = factor(head, ctx.low)
            for piece in _pieces(student):
                log_q, log_p = (_log_softmax(states[piece], table, ctx.low) for states in (student, teacher))
                _, slope = _compare(log_q, log_p, *ctx.how)
                slope.mul_(gradient[piece, None])
                of_head += product(factor(slope, ctx.low).T, factor(student[piece], ctx.low))
        return of_student, None, of_head.to(head.dtype), None, None, None


def _compare(log_q: Tensor, log_p: Tensor, kind: Kind, mix: float) -> tuple[Tensor, Tensor]:
    """The divergences, (P,), and their derivatives by the student's logits, (P, V)."""
    q = log_q.exp()
    if kind == "forward":
        p = log_p.exp()
        return (p * (log_p - log_q)).sum(-1), q - p
    log_m = log_p if kind == "reverse" else torch.logaddexp(log_p + math.log(mix), log_q + math.log(1 - mix))
    ratio = log_q - log_m
    own = (q * ratio).sum(-1)  # KL(q‖m)
    slope = q * (ratio - own[:, None])
    if kind == "reverse":
        return own, slope
    # m depends on q as well; what that adds to the two terms' derivatives cancels.
    return mix * (log_p.exp() * (log_p - log_m)).sum(-1) + (1 - mix) * own, (1 - mix) * slope


def _log_softmax(states: Tensor, table: Tensor, low: bool) -> Tensor:
    return product(factor(states, low), table.T).log_softmax(-1)


def _pieces(states: Tensor) -> Iterator[slice]:
    return (slice(start, start + _CHUNK) for start in range(0, len(states), _CHUNK))
