"""The root that is trained, sharded and saved: a causal LM over PrefixBatches, heads only where a loss looks.

Objectives never touch inner modules: a PrefixBatch names positions and targets, the forward returns log-probabilities
and rewards there.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import NamedTuple

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from genrm_lightning import attention
from genrm_lightning.distillation import Teaching, divergence
from genrm_lightning.feedforward import fuse_feedforwards
from genrm_lightning.logprobs import token_logps
from genrm_lightning.norms import fuse_norms
from genrm_lightning.prefix import PrefixBatch, tree_mask, tree_shapes
from genrm_lightning.reference import as_reference

_MASKED_BY_BOOL = (attention.NAME, "sdpa")


class Output(NamedTuple):
    """What a loss looks at.

    Attributes:
        logps: (N,) float32 log-probabilities where looked.
        rewards: (B, scores) float32, None without a reward head.
        reference: (N,) float32, ``logps`` under the policy at the fit's start; None where nobody asked.
        divergence: (M,) float32 nats of a :class:`~genrm_lightning.distillation.Teaching`, None without one.
    """

    logps: Tensor
    rewards: Tensor | None = None
    reference: Tensor | None = None
    divergence: Tensor | None = None


class Policy(nn.Module):
    """A causal LM over PrefixBatches, with a reward head where ``scores`` is not 0.

    Args:
        lm: a transformers causal LM or a peft model around one, with genrm_tree or sdpa attention.
        scores: outputs of a linear reward head in float32 on a branch's last state; 0: no head.

    Attributes:
        has_reference: whether the policy at the fit's start can be had from ``lm``: its adapter is new, or has a frozen
            copy (:mod:`~genrm_lightning.reference`).
    """

    has_reference = False

    def __init__(self, lm: nn.Module, scores: int = 0) -> None:
        super().__init__()
        self.lm = lm
        fuse_norms(self.base.get_decoder().layers)
        fuse_feedforwards(self.base.get_decoder().layers)
        self.head = nn.Linear(self.base.config.hidden_size, scores, bias=False, dtype=torch.float32) if scores else None
        if self.head is not None:
            nn.init.normal_(self.head.weight, std=1 / (self.base.config.hidden_size + 1) ** 0.5)

    @property
    def base(self) -> PreTrainedModel:
        """The transformers model, adapters injected where there are any."""
        return self.lm.get_base_model() if hasattr(self.lm, "get_base_model") else self.lm

    def forward(self, batch: PrefixBatch, reference: bool = False, teaching: Teaching | None = None) -> Output:
        """Log-probabilities and rewards where the batch looks.

        Args:
            reference: of the policy at the fit's start, without gradients.
            teaching: also the divergences of these entries.
        """
        if reference:
            with self._at_start():
                return self.forward(batch)
        if self.base.config._attn_implementation not in _MASKED_BY_BOOL:
            # Eager attention would add the mask's True and False to the scores, in silence.
            raise ValueError(
                f"attention '{self.base.config._attn_implementation}' takes no tree mask; set {attention.NAME} or sdpa"
            )
        states, where = self._states(batch)
        looked = states[where[batch.rows, batch.cols]]
        output = Output(states.new_zeros(0, dtype=torch.float32))
        if len(looked):  # a reward model looks at no token, and may have no vocabulary head (pretrained.py)
            output = Output(token_logps(looked, self.base.get_output_embeddings().weight, batch.targets))
        if teaching is not None:
            output = output._replace(divergence=self._divergence(batch, looked, teaching))
        if self.head is None:
            return output
        last = states[where[batch.last_rows, batch.last_cols]].float()
        with torch.autocast(last.device.type, enabled=False):  # a reward's last digits matter: float32 throughout
            return output._replace(rewards=self.head(last))

    def _at_start(self) -> AbstractContextManager[None]:
        if not self.has_reference:
            raise ValueError("the policy at the fit's start cannot be had: load_policy(..., reference=True) under LoRA")
        return as_reference(self.lm)

    def _divergence(self, batch: PrefixBatch, looked: Tensor, teaching: Teaching) -> Tensor:
        teacher = looked
        if teaching.reference:
            with self._at_start():
                states, where = self._states(batch)
            teacher = states[where[batch.rows, batch.cols]]
        head = self.base.get_output_embeddings().weight
        student, teacher = looked[teaching.student], teacher[teaching.teacher]
        return divergence(student, teacher, head, teaching.kind, teaching.mix)

    def _states(self, batch: PrefixBatch) -> tuple[Tensor, Tensor]:
        """Last hidden states (T, H), and where among them each place of the batch lies: (R, S) int64."""
        decoder = self.base.get_decoder()
        ids, positions = batch.input_ids, batch.position_ids
        dropout = decoder.training and getattr(self.base.config, "attention_dropout", 0.0)
        if ids.device.type == "cpu" and self.base.config._attn_implementation == attention.NAME and not dropout:
            # The trees behind one another: no token is padding. (Attention in blocks knows no dropout.)
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
