"""RMSNorm in a few passes over memory, for the CPU.

transformers' norm makes six copies of the states on its way and leaves float32 under autocast, which each projection
behind it then rounds to bf16 for itself, gradients too: a seventh of a Bradley-Terry step on two cores (docs/log.md).
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor, nn

_TOLERANCE = 1e-2  # of a check that tells formulas apart; weights may be bf16


def fuse_norms(layers: nn.Module) -> None:
    """Let every RMSNorm below ``layers`` take this forward on a CPU; those with another formula stay as they are.

    Under autocast their output has its dtype, and is not cast again.
    """
    for module in layers.modules():
        if "RMSNorm" in type(module).__name__ and hasattr(module, "variance_epsilon") and _is_plain(module):
            module.__class__ = _fused(type(module))


@torch.no_grad()
def _is_plain(norm: nn.Module) -> bool:
    """Whether the norm is weight · x / √(mean x² + ε): some families have 1 + weight."""
    states = torch.linspace(-1, 2, norm.weight.numel(), device=norm.weight.device)[None]
    if norm.weight.is_meta:
        return False
    ours = _RMSNorm.apply(states, norm.weight, norm.variance_epsilon, torch.float32)
    return torch.allclose(norm(states).float(), ours, atol=_TOLERANCE, rtol=_TOLERANCE)


@cache
def _fused(kind: type[nn.Module]) -> type[nn.Module]:
    class Fused(kind):
        def forward(self, hidden_states: Tensor) -> Tensor:
            device = hidden_states.device.type
            if device != "cpu":
                return super().forward(hidden_states)
            low = torch.is_autocast_enabled(device)
            dtype = (
                torch.get_autocast_dtype(device) if low else torch.promote_types(hidden_states.dtype, self.weight.dtype)
            )
            return _RMSNorm.apply(hidden_states, self.weight, self.variance_epsilon, dtype)

    Fused.__name__ = Fused.__qualname__ = f"Fused{kind.__name__}"
    return Fused


class _RMSNorm(torch.autograd.Function):
    """y = w · x / √(mean x² + ε), arXiv 1910.07467 eq. 4, at least float32 inside: (..., H) -> (..., H)."""

    @staticmethod
    def forward(ctx, states: Tensor, weight: Tensor, epsilon: float, dtype: torch.dtype) -> Tensor:
        wide = torch.promote_types(states.dtype, torch.float32)
        norm = torch.linalg.vector_norm(states, dim=-1, keepdim=True, dtype=wide)
        scale = norm.square_().div_(states.shape[-1]).add_(epsilon).rsqrt_()
        ctx.save_for_backward(states, weight, scale)
        with torch.autocast(states.device.type, enabled=False):
            return (states * scale).mul_(weight).to(dtype)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor | None, ...]:
        states, weight, scale = ctx.saved_tensors
        with torch.autocast(states.device.type, enabled=False):
            gradient, normal = gradient.to(scale.dtype), states * scale
            of_weight = (gradient * normal).flatten(0, -2)  # a term a position
            inner = (of_weight @ weight.to(scale.dtype)).div_(states.shape[-1]).view(scale.shape)
            of_states = (gradient * weight).addcmul_(normal, inner, value=-1).mul_(scale)
        of_weight = of_weight.sum(0).to(weight.dtype) if ctx.needs_input_grad[1] else None
        return of_states.to(states.dtype), of_weight, None, None
