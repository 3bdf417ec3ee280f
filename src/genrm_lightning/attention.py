"""Attention for trees: grouped queries against shared keys, without a copy of the keys for every query head.

Registered with transformers as ``genrm_tree``. On a CPU and at the lengths of judge prompts, plain matrix products
are faster than the fused kernel (its backward pass above all); where the scores would not fit a bound on memory,
and on other devices, it is transformers' sdpa.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

NAME = "genrm_tree"
# Most scores (rows x heads x queries x keys) held by one plain attention: 2**26 bf16 values are 128 MiB.
_MOST_SCORES = 2**26


def tree_attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, scaling: float, **kwargs
) -> tuple[Tensor, None]:
    """Scaled dot-product attention with grouped queries.

    Args:
        query: (R, H, Q, D).
        key, value: (R, G, K, D), H a multiple of G.
        attention_mask: (R, 1, Q, K) bool, True = attend.

    Returns:
        (R, Q, H, D), and None for the weights.
    """
    rows, heads, q, size = query.shape
    groups, k = key.shape[1:3]
    dropout = kwargs.get("dropout", 0.0)
    if query.device.type != "cpu" or rows * heads * q * k > _MOST_SCORES or attention_mask is None or dropout:
        return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **kwargs)
    packed = (query * scaling).reshape(rows, groups, heads // groups * q, size)
    scores = torch.matmul(packed, key.transpose(-1, -2)).view(rows, groups, heads // groups, q, k)
    scores = scores.masked_fill(~attention_mask[:, :, None], torch.finfo(scores.dtype).min)
    weights = torch.softmax(scores, dim=-1, dtype=torch.float32).to(value.dtype)
    mixed = torch.matmul(weights.view(rows, groups, -1, k), value)
    return mixed.view(rows, heads, q, size).transpose(1, 2).contiguous(), None


AttentionInterface.register(NAME, tree_attention)
