"""A policy in shards (FSDP2): its modules that are units, its weights' way into them and out again."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor

from data_tools.errors import UserError
from genrm_lightning.backbone import BackboneSettings, empty_policy, load_policy
from genrm_lightning.policy import Policy

T = TypeVar("T")


def load_sharded(
    settings: BackboneSettings,
    scores: int,
    reference: bool,
    *,
    mesh: DeviceMesh,
    precision: str,
    device: torch.device,
    first: bool,
    broadcast: Callable[[T], T],
) -> Policy:
    """What :func:`~genrm_lightning.backbone.load_policy` gives, in shards. Every process of the mesh calls it.

    The first process alone reads the weights. All of them make the policy on the meta device, shard it, and are sent
    the tensors one after the other, so that no other process holds more of the model than its shards and one tensor.

    Args:
        mesh: 1-D, of all processes.
        precision: of the trainer, as :func:`shard` takes it.
        device: this process' own, on which its shards lie.
        first: whether this is process 0.
        broadcast: gives every process the first one's object.

    Raises:
        UserError: as :func:`load_policy`, on every process.
    """
    whole = error = None
    if first:
        try:
            whole = load_policy(settings, scores, reference)
        except Exception as raised:  # the others wait to be told of it
            error = raised
    told = broadcast((_as_told(error), _unsaved(whole)) if first else None)
    if error is not None:
        raise error
    failed, unsaved = told
    if failed is not None:
        raise failed
    buffers, vocabulary = unsaved
    policy = empty_policy(settings, scores, reference=reference)
    if not vocabulary:  # what the weights' files say, which another node may not have
        policy.base.set_output_embeddings(None)
    shard(policy, mesh, precision)
    policy.to_empty(device=device)
    with torch.no_grad():
        for name, value in buffers.items():
            policy.get_buffer(name).copy_(value)
    weights = whole.state_dict() if first else {}
    options = StateDictOptions(full_state_dict=True, broadcast_from_rank0=True)
    set_model_state_dict(policy, weights, options=options)
    return policy


def _as_told(error: Exception | None) -> Exception | None:
    """The error that the other processes raise where the first one met ``error``."""
    if error is None or isinstance(error, UserError):
        return error
    return RuntimeError(f"the first process could not load the backbone: {type(error).__name__}: {error}")


def _unsaved(policy: Policy | None) -> tuple[dict[str, Tensor], bool] | None:
    """What a state dict does not say: buffers (rotary frequencies), and whether there is a vocabulary head."""
    if policy is None:
        return None
    return dict(policy.named_buffers()), policy.base.get_output_embeddings() is not None


def shard(policy: Policy, mesh: DeviceMesh, precision: str) -> None:
    """Shard a policy over the processes of a 1-D mesh: each decoder layer a unit, the rest another one.

    Under bf16-mixed the layers are gathered in bfloat16 and their gradients reduced in float32; what passes between
    them stays as it is without sharding. Embeddings, last norm and reward head are gathered in their own dtype.
    """
    low = MixedPrecisionPolicy(torch.bfloat16, torch.float32, cast_forward_inputs=False)
    layers = low if precision == "bf16-mixed" else MixedPrecisionPolicy()
    for layer in policy.base.get_decoder().layers:
        fully_shard(layer, mesh=mesh, mp_policy=layers)
    fully_shard(policy, mesh=mesh)


def is_sharded(module: nn.Module) -> bool:
    return isinstance(module, FSDPModule)


def trained_whole(policy: Policy, keep: bool) -> dict[str, Tensor]:
    """The trained weights of a sharded policy in full, in CPU memory. Every process calls it.

    Args:
        keep: whether this process wants them; others get nothing.
    """
    reshard(policy)
    found = {}
    for name, parameter in policy.named_parameters():
        if parameter.requires_grad:
            whole = parameter.detach().full_tensor()
            if keep:
                found[name] = whole.cpu()
    return found


def full(value: Tensor) -> Tensor:
    """A tensor that may be a sharded one's; every process calls it."""
    return value.full_tensor() if isinstance(value, DTensor) else value


def reshard(module: nn.Module) -> None:
    """Let go of what the root keeps gathered from a forward to the next backward, which may never come."""
    for inner in module.modules():
        if isinstance(inner, FSDPModule):
            inner.reshard()
