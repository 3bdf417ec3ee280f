"""The CPU's RMSNorm gives what transformers' gives, gradients included, and touches no other formula."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers.models.gemma.modeling_gemma import GemmaRMSNorm
from transformers.models.llama.modeling_llama import LlamaRMSNorm
from transformers.models.qwen2.modeling_qwen2 import Qwen2RMSNorm

from genrm_lightning.norms import fuse_norms


def norms(kind: type[nn.Module]) -> tuple[nn.Module, nn.Module]:
    """The same norm twice, the second one fused."""
    made = [kind(24) for _ in range(2)]
    for norm in made:
        with torch.no_grad():
            norm.weight.copy_(torch.linspace(-0.5, 2, 24))
    fuse_norms(nn.ModuleList(made[1:]))
    return made[0], made[1]


@pytest.mark.parametrize("kind", [LlamaRMSNorm, Qwen2RMSNorm])
def test_values_and_gradients(kind):
    plain, fused = norms(kind)
    assert type(fused).__name__ == f"Fused{kind.__name__}" and isinstance(fused, kind)
    draw = torch.Generator().manual_seed(0)
    states, weights = torch.randn(2, 5, 24, generator=draw).requires_grad_(), torch.randn(2, 5, 24, generator=draw)
    results = []
    for norm in (plain, fused):
        said = norm(states)
        results.append((said, *torch.autograd.grad((said * weights).sum(), (states, norm.weight))))
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_under_autocast_it_gives_what_the_next_projection_would_round(dtype):
    plain, fused = norms(LlamaRMSNorm)
    fused.to(dtype).requires_grad_(False)
    states = torch.randn(3, 24, generator=torch.Generator().manual_seed(0)).to(dtype).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        said = fused(states)
    assert said.dtype == torch.bfloat16
    torch.testing.assert_close(said.float(), plain(states.float()), atol=0.05, rtol=0.02)
    said.sum().backward()
    assert states.grad.dtype == dtype


def test_another_formula_stays():
    plain, fused = norms(GemmaRMSNorm)
    assert type(fused) is type(plain) is GemmaRMSNorm
