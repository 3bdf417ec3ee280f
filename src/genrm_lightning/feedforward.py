"""The gated feed-forward layer (SwiGLU) with little to remember, for the CPU.

transformers' layer keeps four states of the inner width a token for its backward pass (gate, its SiLU, up, their
product), and autocast keeps a copy of its matrices until the pass is over. Here gate and up are kept; the rest costs an
element-wise pass, or a cast, to make again.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

PROJECTIONS = ("gate_proj", "up_proj", "down_proj")
_TOLERANCE = 1e-2  # relative, of a check that tells formulas apart


def fuse_feedforwards(layers: nn.Module) -> None:
    """Let every SwiGLU below ``layers`` take this forward on a CPU; those with another formula stay as they are."""
    for module in layers.modules():
        if all(isinstance(getattr(module, name, None), nn.Module) for name in PROJECTIONS) and _is_swiglu(module):
            module.__class__ = _fused(type(module))


@torch.no_grad()
def _is_swiglu(module: nn.Module) -> bool:
    """Whether the module is down(SiLU(gate(x)) · up(x)), whatever its projections are (adapters may be in them)."""
    weight = next(module.gate_proj.parameters())
    activation = getattr(module, "act_fn", None)
    if weight.is_meta or activation is None:
        return False
    curve = torch.linspace(-6, 6, 49, device=weight.device)
    if not torch.allclose(activation(curve), silu(curve), atol=1e-4):
        return False
    # Both ways round to the weights' dtype alike: what is left tells other formulas apart.
    states = torch.linspace(-1, 1, module.gate_proj.in_features, device=weight.device, dtype=weight.dtype)[None]
    training = [part for part in module.modules() if part.training]
    module.eval()  # an adapter's dropout would make two readings differ, and draw random numbers
    theirs = module(states).float()
    ours = module.down_proj(silu(module.gate_proj(states)) * module.up_proj(states)).float()
    for part in training:
        part.training = True
    return theirs.shape == ours.shape and bool((theirs - ours).norm() <= _TOLERANCE * ours.norm())


@cache
def _fused(kind: type[nn.Module]) -> type[nn.Module]:
    class Fused(kind):
        def forward(self, x: Tensor) -> Tensor:
            device = x.device.type
            if device != "cpu":
                return super().forward(x)
            projections = [getattr(self, name) for name in PROJECTIONS]
            if any(type(p) is not nn.Linear or p.bias is not None for p in projections):
                return self.down_proj(_SwiGLU.apply(self.gate_proj(x), self.up_proj(x)))
            dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
            return _FeedForward.apply(x, *(p.weight for p in projections), dtype)

    Fused.__name__ = Fused.__qualname__ = f"Fused{kind.__name__}"
    return Fused


def _of_product(gradient: Tensor, gate: Tensor, up: Tensor, activated: Tensor) -> tuple[Tensor, Tensor]:
    """The gradients of gate and up from that of SiLU(gate) · up; overwrites ``gradient``."""
    of_up = gradient * activated
    return torch.ops.aten.silu_backward(gradient.mul_(up), gate), of_up


class _SwiGLU(torch.autograd.Function):
    """SiLU(gate) · up, arXiv 2002.05202 eq. 6: (..., I), (..., I) -> (..., I)."""

    @staticmethod
    def forward(ctx, gate: Tensor, up: Tensor) -> Tensor:
        ctx.save_for_backward(gate, up)
        return silu(gate).mul_(up)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, Tensor]:
        gate, up = ctx.saved_tensors
        return _of_product(gradient.clone(), gate, up, silu(gate))


class _FeedForward(torch.autograd.Function):
    """(SiLU(x Gᵀ) · x Uᵀ) Dᵀ: (..., H), (I, H), (I, H), (H, I) -> (..., H), products of ``dtype``."""

    @staticmethod
    def forward(ctx, x: Tensor, gate: Tensor, up: Tensor, down: Tensor, dtype: torch.dtype) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            states = x.flatten(0, -2).to(dtype)
            gated, raised = states @ gate.to(dtype).T, states @ up.to(dtype).T
            ctx.save_for_backward(states, gated, raised, gate, up, down)
            ctx.shape, ctx.dtype = x.shape, x.dtype
            mixed = (silu(gated).mul_(raised)) @ down.to(dtype).T
        return mixed.view(x.shape)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor | None, ...]:
        states, gated, raised, gate, up, down = ctx.saved_tensors
        of_x = of_gate = of_up = of_down = None
        with torch.autocast(gradient.device.type, enabled=False):
            gradient = gradient.flatten(0, -2).to(states.dtype)
            activated = silu(gated)
            if ctx.needs_input_grad[3]:
                of_down = (gradient.T @ (activated * raised)).to(down.dtype)
            of_gated, of_raised = _of_product(gradient @ down.to(states.dtype), gated, raised, activated)
            if ctx.needs_input_grad[1]:
                of_gate = (of_gated.T @ states).to(gate.dtype)
            if ctx.needs_input_grad[2]:
                of_up = (of_raised.T @ states).to(up.dtype)
            if ctx.needs_input_grad[0]:
                of_x = torch.addmm(of_gated @ gate.to(states.dtype), of_raised, up.to(states.dtype))
                of_x = of_x.view(ctx.shape).to(ctx.dtype)
        return of_x, of_gate, of_up, of_down, None
