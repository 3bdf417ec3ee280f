"""The root that is trained, sharded and saved: a causal LM over PrefixBatches, heads only where a loss looks.

Objectives never touch inner modules: a PrefixBatch names positions and targets, the forward returns log-probabilities
and rewards there.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from genrm_lightning import attention
from genrm_lightning.logprobs import token_logps
from genrm_lightning.norms import fuse_norms
from genrm_lightning.prefix import PrefixBatch, tree_mask, tree_shapes

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
        fuse_norms(self.base.get_decoder().layers)
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
        states, where = self._states(batch)
        logps = states.new_zeros(0, dtype=torch.float32)
        if len(batch.targets):  # a reward model looks at no token, and may have no vocabulary head (pretrained.py)
            head = self.base.get_output_embeddings().weight
            logps = token_logps(states[where[batch.rows, batch.cols]], head, batch.targets)
        if self.head is None:
            return Output(logps, None)
        last = states[where[batch.last_rows, batch.last_cols]].float()
        with torch.autocast(last.device.type, enabled=False):  # a reward's last digits matter: float32 throughout
            return Output(logps, self.head(last))

    def _states(self, batch: PrefixBatch) -> tuple[Tensor, Tensor]:
        """Last hidden states (T, H), and where among them each place of the batch lies: (R, S) int64."""
        decoder = self.base.get_decoder()
        ids, positions = batch.input_ids, batch.position_ids
        if ids.device.type == "cpu" and self.base.config._attn_implementation == attention.NAME:
            # The trees behind one another: no token is padding.
            real = batch.segments >= 0
            states = decoder(
                input_ids=ids[real][None],
                position_ids=positions[real][None],
                use_cache=False,
                trees=tree_shapes(batch.segments),
            ).last_hidden_state
            return states[0], (real.flatten().cumsum(0) - 1).view_as(ids)
        states = decoder(
            input_ids=ids, attention_mask=tree_mask(batch.segments), position_ids=positions, use_cache=False
        ).last_hidden_state
        return states.flatten(0, 1), torch.arange(ids.numel(), device=ids.device).view_as(ids)
