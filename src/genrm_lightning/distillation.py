"""Token targets of a teacher: divergences between next-token distributions over the whole vocabulary."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

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


def divergence(student: Tensor, teacher: Tensor, weight: Tensor, kind: Kind = "forward", mix: float = 0.5) -> Tensor:
    """How far a student's next-token distributions are from a teacher's, arXiv 2306.13649 section 3 (GKD).

    With p the teacher's and q the student's distribution: forward Σ p log(p/q), which covers what the teacher may say;
    reverse Σ q log(q/p), which stays within it; jsd β·KL(p‖m) + (1−β)·KL(q‖m) with m = βp + (1−β)q. The logits are
    made in pieces that the backward pass makes anew: memory does not grow with tokens times vocabulary.

    Args:
        student, teacher: (M, H) last states; the teacher gets no gradient.
        weight: (V, H) of the vocabulary head, the same for both.
        mix: β of jsd, in (0, 1).

    Returns:
        (M,) float32, nats.
    """
    pieces = [
        checkpoint(_piece, s, t, weight, kind, mix, use_reentrant=False)
        if torch.is_grad_enabled()
        else _piece(s, t, weight, kind, mix)
        for s, t in zip(student.split(_CHUNK), teacher.detach().split(_CHUNK), strict=True)
        if len(s)
    ]
    return torch.cat(pieces) if pieces else student.new_zeros(0, dtype=torch.float32)


def _piece(student: Tensor, teacher: Tensor, weight: Tensor, kind: Kind, mix: float) -> Tensor:
    with torch.autocast(student.device.type, enabled=False):  # in float32, as the log-probabilities are
        log_q = (student.float() @ weight.float().T).log_softmax(-1)
        with torch.no_grad():
            log_p = (teacher.float() @ weight.float().T).log_softmax(-1)
        if kind == "forward":
            return _kl(log_p, log_q)
        if kind == "reverse":
            return _kl(log_q, log_p)
        log_m = torch.logaddexp(log_p + math.log(mix), log_q + math.log(1 - mix))
        return mix * _kl(log_p, log_m) + (1 - mix) * _kl(log_q, log_m)


def _kl(log_p: Tensor, log_q: Tensor) -> Tensor:
    return (log_p.exp() * (log_p - log_q)).sum(-1)
