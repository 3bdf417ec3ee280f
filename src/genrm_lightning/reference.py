"""The policy at the fit's start, read through the same forward as the policy that is trained."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from peft import PeftConfig

COPY = "reference"  # the frozen copy of a continued adapter, beside the trained "default"


def add_copy(lm: nn.Module, folder: str, config: PeftConfig) -> None:
    """Load a judge folder's adapter a second time, frozen: a resumed fit, too, has the policy it began with.

    Args:
        lm: a peft model that goes on with the adapter of ``folder``; the copy is float32 as well.
        config: of that adapter, frozen.
    """
    lm.add_adapter(COPY, config)
    lm.load_adapter(folder, COPY, torch_device="cpu")


@contextmanager
def as_reference(lm: nn.Module) -> Iterator[None]:
    """Let a peft model be the policy at the fit's start: no gradients, no dropout.

    That is the frozen copy where there is one, else the base with the (new) adapter switched off. By flags: peft's own
    switches turn ``requires_grad`` off and on for every tensor, too, and leave a frozen adapter trainable.
    """
    from peft.tuners.tuners_utils import BaseTunerLayer

    training = [module for module in lm.modules() if module.training]
    layers = [module for module in lm.modules() if isinstance(module, BaseTunerLayer)]
    before = [(layer._active_adapter, layer._disable_adapters) for layer in layers]
    for module in training:
        module.training = False
    for layer in layers:
        layer._active_adapter, layer._disable_adapters = [COPY], COPY not in lm.peft_config
    try:
        with torch.no_grad():
            yield
    finally:
        for layer, state in zip(layers, before, strict=True):
            layer._active_adapter, layer._disable_adapters = state
        for module in training:
            module.training = True
