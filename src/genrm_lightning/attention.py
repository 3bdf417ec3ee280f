"""Attention for trees: hardly a score is computed that the tree's mask would throw away.

Registered with transformers as ``genrm_tree``. On a CPU the trees of a batch lie behind one another without padding
(:class:`~genrm_lightning.policy.Policy`); each prefix attends causally, each branch to its prefix and itself, queries
in blocks against the keys that they may see. No score outlives its block: the backward pass computes it again, so
memory grows with the tokens, not with their square. torch's fused kernel does the forward of prefixes and of small
trees; its backward pass takes half as long again as these products, or more (docs/log.md). Other devices
take the dense mask of :func:`~genrm_lightning.prefix.tree_mask` and transformers' sdpa; a CPU can, in grouped products.
The local sampler's steps attend for themselves (:mod:`~genrm_lightning.samplers.pool`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from genrm_lightning.prefix import TreeShape, tree_mask

NAME = "genrm_tree"
_WHOLE = 512  # tokens of a tree that is one block: small ones lose more in calls than in scores thrown away
_QUERIES = 256  # of a block: its scores against 1,000 keys are half a MB a head in bf16, which a cache still holds


class Step(Protocol):
    """A forward pass that attends for itself (:mod:`~genrm_lightning.samplers.pool`)."""

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float) -> Tensor: ...


def tree_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float,
    trees: Sequence[TreeShape] | None = None,
    step: Step | None = None,
    **kwargs,
) -> tuple[Tensor, None]:
    """Scaled dot-product attention with grouped queries.

    Args:
        query: (R, H, Q, D).
        key, value: (R, G, K, D), H a multiple of G.
        attention_mask: (R, 1, Q, K) bool, True = attend; unused where ``trees`` are given.
        trees: R is 1, and the row holds these trees one after the other.
        step: R is 1, and this attends for it: a sampler's, which keeps keys and values itself.

    Returns:
        (R, Q, H, D), and None for the weights.
    """
    if step is not None:
        return step.attend(module.layer_idx, query, key, value, scaling), None
    if trees is not None:
        if torch.is_autocast_enabled(query.device.type):  # rotary embeddings leave float32 behind
            dtype = torch.get_autocast_dtype(query.device.type)
            query, key, value = query.to(dtype), key.to(dtype), value.to(dtype)
        mixed = _TreeProducts.apply(query[0], key[0], value[0], scaling, trees)
        return mixed.transpose(0, 1)[None], None
    if query.device.type != "cpu" or attention_mask is None or kwargs.get("dropout"):
        return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **kwargs)
    rows, heads, q, size = query.shape
    groups, k = key.shape[1:3]
    packed = query.reshape(rows, groups, -1, size)
    mask = attention_mask[:, :, None].expand(rows, 1, heads // groups, q, k).reshape(rows, 1, -1, k)
    mixed = scaled_dot_product_attention(packed, key, value, attn_mask=mask, scale=scaling)
    return mixed.view(rows, heads, q, size).transpose(1, 2).contiguous(), None


AttentionInterface.register(NAME, tree_attention)


class _Block(NamedTuple):
    """n queries [start, end) against the keys of ``prefix`` and ``own``; ``mask`` (n, m) is added for the last m."""

    start: int
    end: int
    prefix: slice
    own: slice
    mask: Tensor


class _TreeProducts(torch.autograd.Function):
    """(H, T, D) queries, (G, T, D) keys and values of trees one after the other -> (H, T, D)."""

    @staticmethod
    def forward(ctx, query: Tensor, key: Tensor, value: Tensor, scaling: float, trees: Sequence[TreeShape]) -> Tensor:
        query = query * scaling
        ctx.save_for_backward(query, key, value)
        ctx.scaling, ctx.trees = scaling, trees
        mixed = torch.empty_like(query)
        with torch.autocast(query.device.type, enabled=False):
            for tree in trees:
                first, *blocks = _blocks(tree, query.dtype)
                whole = not blocks  # a small tree; else the prefix, causally
                at = slice(first.start, first.end if whole else tree.start + tree.prefix)
                mixed[:, at] = scaled_dot_product_attention(
                    query[None, :, at], key[None, :, at], value[None, :, at],
                    attn_mask=first.mask[None, None] if whole else None, is_causal=not whole,
                    scale=1.0, enable_gqa=True,
                )[0]  # fmt: skip
                for block in blocks:
                    if block.start >= at.stop:
                        weights = _weights(query, key, block)
                        here = slice(block.start, block.end)
                        mixed[:, here] = (weights @ _seen(value, block)).view(len(query), -1, query.shape[-1])
        return mixed

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value = ctx.saved_tensors
        groups = len(key)
        of_query = torch.empty_like(query)
        of_key, of_value = (torch.zeros_like(t, dtype=torch.float32) for t in (key, value))
        with torch.autocast(query.device.type, enabled=False):
            for block in (block for tree in ctx.trees for block in _blocks(tree, query.dtype)):
                at = slice(block.start, block.end)
                weights = _weights(query, key, block)
                packed = gradient[:, at].reshape(groups, -1, gradient.shape[-1])
                of_weights = packed @ _seen(value, block).transpose(1, 2)
                of_scores = torch._softmax_backward_data(of_weights, weights, -1, weights.dtype)
                of_query[:, at] = (of_scores @ _seen(key, block)).view(len(query), -1, query.shape[-1])
                _add(of_key, of_scores.transpose(1, 2) @ query[:, at].reshape(groups, -1, query.shape[-1]), block)
                _add(of_value, weights.transpose(1, 2) @ packed, block)
            of_query *= ctx.scaling
        return of_query, of_key.to(key.dtype), of_value.to(value.dtype), None, None


def _blocks(tree: TreeShape, dtype: torch.dtype) -> list[_Block]:
    """The blocks of a tree, made once: the layers of a forward pass share its shape."""
    if dtype in tree.blocks:
        return tree.blocks[dtype]
    blocks = tree.blocks[dtype] = []

    def added(hidden: Tensor) -> Tensor:  # a masked_fill_ takes three times as long
        return torch.zeros(hidden.shape, dtype=dtype).masked_fill_(hidden, -torch.inf)

    size, none = tree.prefix + sum(tree.branches), slice(tree.start, tree.start)
    if size <= _WHOLE:
        segments = torch.repeat_interleave(torch.tensor([tree.prefix, *tree.branches]))
        whole = slice(tree.start, tree.start + size)
        blocks.append(_Block(whole.start, whole.stop, none, whole, added(~tree_mask(segments[None])[0, 0])))
        return blocks
    later = added(torch.ones(_QUERIES, _QUERIES, dtype=torch.bool).triu_(1))
    prefix = slice(tree.start, tree.start + tree.prefix)
    start = tree.start
    for number, length in enumerate((tree.prefix, *tree.branches)):
        for at in range(start, start + length, _QUERIES):
            end = min(at + _QUERIES, start + length)
            # Only the last keys, those of the block itself, can stand behind a query.
            mask = later[: end - at, : end - at]
            blocks.append(_Block(at, end, prefix if number else none, slice(start, end), mask))
        start += length
    return blocks


def _seen(states: Tensor, block: _Block) -> Tensor:
    """The keys or values a block sees: (G, K, D)."""
    own = states[:, block.own]
    return torch.cat((states[:, block.prefix], own), 1) if block.prefix.stop > block.prefix.start else own


def _add(total: Tensor, part: Tensor, block: _Block) -> None:
    """Add a gradient of what :func:`_seen` returned where it belongs."""
    n = block.prefix.stop - block.prefix.start
    if n:
        total[:, block.prefix] += part[:, :n]
    total[:, block.own] += part[:, n:]


def _weights(query: Tensor, key: Tensor, block: _Block) -> Tensor:
    """Attention weights of a block: (G, H/G · n, K)."""
    heads, _, size = query.shape
    n, m = block.mask.shape
    queries = query[:, block.start : block.end].reshape(len(key), -1, size)
    scores = queries @ _seen(key, block).transpose(1, 2)
    scores.view(heads, n, -1)[..., -m:] += block.mask
    return scores.softmax(-1)
