"""The CPU's feed-forward layer gives what transformers' gives, gradients included, and keeps less for them."""

from __future__ import annotations

import copy

import pytest
import torch
from peft import LoraConfig, inject_adapter_in_model
from torch import Tensor, nn
from transformers import GemmaConfig, LlamaConfig
from transformers.models.gemma.modeling_gemma import GemmaMLP
from transformers.models.llama.modeling_llama import LlamaMLP

from genrm_lightning.feedforward import fuse_feedforwards

SIZES = {"hidden_size": 24, "intermediate_size": 40, "num_attention_heads": 2}


def layers(config=None, kind=LlamaMLP) -> tuple[nn.Module, nn.Module]:
    """The same layer twice, the second one fused."""
    torch.manual_seed(0)
    plain = kind(config or LlamaConfig(**SIZES))
    fused = copy.deepcopy(plain)
    fuse_feedforwards(nn.ModuleList([fused]))
    return plain, fused


def adapted(layer: nn.Module) -> nn.Module:
    torch.manual_seed(1)
    config = LoraConfig(r=4, target_modules=["gate_proj", "up_proj", "down_proj"], init_lora_weights=False)
    return inject_adapter_in_model(config, layer)


def results(layer: nn.Module, states: Tensor) -> list[Tensor]:
    said = layer(states)
    weights = torch.linspace(-1, 1, said.numel()).view_as(said)
    wanted = [states, *(p for p in layer.parameters() if p.requires_grad)]
    return [said, *torch.autograd.grad((said.float() * weights).sum(), wanted)]


@pytest.mark.parametrize("way", ["full", "frozen", "one matrix", "adapters", "bias"])
def test_values_and_gradients(way):
    plain, fused = layers(LlamaConfig(**SIZES, mlp_bias=True) if way == "bias" else None)
    assert type(fused).__name__ == "FusedLlamaMLP" and isinstance(fused, LlamaMLP)
    for layer in (plain, fused):
        if way == "frozen":
            layer.requires_grad_(False)
        if way == "one matrix":
            layer.up_proj.requires_grad_(False)
            layer.down_proj.requires_grad_(False)
        if way == "adapters":
            adapted(layer.requires_grad_(False))
    states = torch.randn(2, 5, 24, generator=torch.Generator().manual_seed(0)).requires_grad_()
    pairs = list(zip(results(plain, states), results(fused, states), strict=True))
    assert len(pairs) == 2 + {"full": 3, "frozen": 0, "one matrix": 1, "adapters": 6, "bias": 6}[way]
    for one, other in pairs:
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


def test_under_autocast():
    plain, fused = layers()
    states = torch.randn(7, 24, generator=torch.Generator().manual_seed(0)).requires_grad_()
    exact = results(plain, states)
    with torch.autocast("cpu", torch.bfloat16):
        said = fused(states)
        again = results(fused, states)
    assert said.dtype == torch.bfloat16
    for one, other in zip(exact, again, strict=True):
        torch.testing.assert_close(one, other.float(), atol=0.03, rtol=0.05)
    assert all(g.dtype == torch.float32 for g in again[1:])


def test_it_keeps_gate_and_up_alone():
    kept = {}
    for name, layer in zip(("plain", "fused"), layers(), strict=True):
        seen = kept[name] = {}

        def pack(tensor: Tensor, seen=seen) -> Tensor:
            seen[tensor.data_ptr()] = tensor.numel()
            return tensor

        states = torch.randn(50, 24, requires_grad=True)
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            layer(states).sum().backward()
    matrices = 3 * 24 * 40
    assert sum(kept["plain"].values()) == matrices + 50 * (24 + 4 * 40)
    assert sum(kept["fused"].values()) == matrices + 50 * (24 + 2 * 40)


def test_an_adapters_dropout_does_not_keep_it_from_being_found():
    layer = LlamaMLP(LlamaConfig(**SIZES)).eval()
    lora = LoraConfig(r=4, lora_dropout=0.5, target_modules=["gate_proj", "up_proj"], init_lora_weights=False)
    layer = inject_adapter_in_model(lora, layer)
    modes, drawn = [part.training for part in layer.modules()], torch.get_rng_state()
    fuse_feedforwards(nn.ModuleList([layer]))
    assert type(layer).__name__ == "FusedLlamaMLP" and torch.equal(torch.get_rng_state(), drawn)
    assert [part.training for part in layer.modules()] == modes and any(modes)


def test_another_formula_stays():
    plain, fused = layers(GemmaConfig(**SIZES), GemmaMLP)
    assert type(fused) is type(plain) is GemmaMLP
