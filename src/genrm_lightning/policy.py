"""The root that is trained, sharded and saved: a causal LM over PrefixBatches, heads only where a loss looks.

Objectives never touch inner modules: a PrefixBatch names positions and targets, the forward returns log-probabilities
and rewards there.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from genrm_lightning import attention
from genrm_lightning.prefix import PrefixBatch, tree_mask

# Positions a piece of the vocabulary head takes at a time: bounds the logits' memory (512 x 49k x 4 B = 100 MB).
_HEAD_CHUNK = 512
_MASKED_BY_BOOL = (attention.NAME, "sdpa")


class Output(NamedTuple):
    """Log-probabilities where looked, (N,) float32; rewards, (B, scores) float32, None without a reward head."""

    logps: Tensor
    rewards: Tensor | None


class Policy(nn.Module):
    """A causal LM over PrefixBatches, with a reward head where ``scores`` is not 0.

    Args:
        lm: a transformers causal LM or a peft model around one, with genrm_tree or sdpa attention.
        scores: outputs of a linear reward head in float32 on a branch's last state; 0: no head.
    """

    def __init__(self, lm: nn.Module, scores: int = 0) -> None:
        super().__init__()
        self.lm = lm
        self.head = nn.Linear(self.base.config.hidden_size, scores, bias=False, dtype=torch.float32) if scores else None
        if self.head is not None:
            nn.init.normal_(self.head.weight, std=1 / (self.base.config.hidden_size + 1) ** 0.5)

    @property
    def base(self) -> PreTrainedModel:
        """The transformers model, adapters injected where there are any."""
        return self.lm.get_base_model() if hasattr(self.lm, "get_base_model") else self.lm

    def forward(self, batch: PrefixBatch) -> Output:
        if self.base.config._attn_implementation not in _MASKED_BY_BOOL:
            # Eager attention would add the mask's True and False to the scores, in silence.
            raise ValueError(
                f"attention '{self.base.config._attn_implementation}' takes no tree mask; set {attention.NAME} or sdpa"
            )
        decoder = self.base.get_decoder()
        states = decoder(
            input_ids=batch.input_ids,
            attention_mask=tree_mask(batch.segments),
            position_ids=batch.position_ids,
            use_cache=False,
        ).last_hidden_state  # (R, S, H)
        logps = self._logps(states[batch.rows, batch.cols], batch.targets)
        if self.head is None:
            return Output(logps, None)
        last = states[batch.last_rows, batch.last_cols].float()
        with torch.autocast(last.device.type, enabled=False):  # a reward's last digits matter: float32 throughout
            return Output(logps, self.head(last))

    def _logps(self, states: Tensor, targets: Tensor) -> Tensor:
        """Log-probability of each target: (N, H), (N,) -> (N,), in pieces recomputed for the backward pass."""
        pieces = [
            checkpoint(self._piece, s, t, use_reentrant=False) if torch.is_grad_enabled() else self._piece(s, t)
            for s, t in zip(states.split(_HEAD_CHUNK), targets.split(_HEAD_CHUNK), strict=True)
            if len(t)
        ]
        return torch.cat(pieces) if pieces else states.new_zeros(0, dtype=torch.float32)

    def _piece(self, states: Tensor, targets: Tensor) -> Tensor:
        # In float32: bf16 logits lie an eighth apart around 20, which makes ties of A and B and moves log-ratios.
        with torch.autocast(states.device.type, enabled=False):
            logits = states.float() @ self.base.get_output_embeddings().weight.float().T
            return logits.gather(-1, targets[:, None]).squeeze(-1) - logits.logsumexp(-1)
