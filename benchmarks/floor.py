"""The least work of a training step: FLOPs of its matrix products, each tree token once."""

from __future__ import annotations

from collections.abc import Iterable

from genrm_lightning.policy import Policy
from genrm_lightning.prefix import Tree


def useful_flops(policy: Policy, trees: Iterable[Tree]) -> float:
    """FLOPs of forward and backward over some trees; recomputation is not counted.

    A decoder weight takes 2 a token forward, 2 for its input's gradient, and 2 for its own where it is trained;
    attention 12·hidden a layer and pair of query and key; the vocabulary 2·V·H a looked-at position forward, as much
    backward, and as much again where it is trained.
    """
    config = policy.base.config
    layers = policy.base.get_decoder().layers
    matrices = [p for p in layers.parameters() if p.ndim > 1]
    per_token = sum((6 if p.requires_grad else 4) * p.numel() for p in matrices)
    head = policy.base.get_output_embeddings().weight
    total = 0.0
    for tree in trees:
        prefix, sizes = len(tree.prefix), [len(branch.ids) for branch in tree.branches]
        pairs = prefix * (prefix + 1) / 2 + sum(n * prefix + n * (n + 1) / 2 for n in sizes)
        looked = sum(role is not None for branch in tree.branches for role in branch.roles)
        total += per_token * len(tree) + 12 * config.hidden_size * len(layers) * pairs
        total += (6 if head.requires_grad else 4) * head.numel() * looked
    return total
