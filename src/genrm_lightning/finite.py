"""Numbers that are none stop a fit in one line, before they reach a weight or a file."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from genrm_lightning.errors import NotFinite


class Watch:
    """What is no number, from where it is found to where all processes stop together.

    A process that stopped at its own loss would leave the others waiting for its gradients: the loss is remembered
    instead, and before the optimizer's step they agree.
    """

    def __init__(self) -> None:
        self.pairs: list[str] = []  # of the optimizer step's batches so far
        self.found: list[str] = []  # what this process has to say
        self.norm: float | None = None  # of the last step's gradients, before clipping; where they are sharded, its own

    def loss(self, loss: Tensor, pair_ids: list[str]) -> bool:
        """Whether a batch's mean loss is a number; what is none is kept for :meth:`stop`."""
        value = float(loss.detach())
        if not math.isfinite(value):
            self.found.append(f"the loss is {value} at pairs {_names(pair_ids)}")
        return math.isfinite(value)

    def before_step(self, trainer: L.Trainer, parameters: Iterable[nn.Parameter]) -> None:
        """Stop if a loss of the step, or the total norm of its gradients, is not finite.

        Under fp16 an overflow of the scaled gradients is the scaler's matter, which leaves the step out.
        """
        pairs, self.pairs = self.pairs, []
        if not self.found and getattr(trainer.precision_plugin, "scaler", None) is None:
            self.norm = norm = gradient_norm(parameters)
            if not math.isfinite(norm):
                self.found.append(f"the gradient's norm is {norm} at pairs {_names(pairs)}")
        self.stop(trainer)

    def weights(self, trainer: L.Trainer, parameters: Iterable[tuple[str, nn.Parameter]]) -> None:
        """Stop before trained weights that are not finite are written."""
        bad = next((n for n, p in parameters if p.requires_grad and not bool(_local(p).isfinite().all())), None)
        if bad is not None:
            self.found.append(f"{bad} is not finite and was not written")
        self.stop(trainer)

    def stop(self, trainer: L.Trainer) -> None:
        """Stop if any process has found something; all of them call this at the same point.

        Raises:
            NotFinite: on the first process, which says it for all. The others leave with SystemExit and status 0: a
                child's failure would have Lightning kill the first before it has spoken.
        """
        found, self.found = self.found, []
        if trainer.strategy.reduce_boolean_decision(not found):
            return
        everyone: list[Any] = [found]
        if trainer.world_size > 1:
            everyone = [None] * trainer.world_size
            torch.distributed.all_gather_object(everyone, found)
        if not trainer.is_global_zero:
            raise SystemExit(0)
        said = list(dict.fromkeys(line for lines in everyone for line in lines))
        raise NotFinite("; ".join([*said, *_remedy(trainer)]))


def gradient_norm(parameters: Iterable[nn.Parameter]) -> float:
    """L2 norm of all gradients; where they are sharded, of this process' part."""
    gradients = [_local(p.grad) for p in parameters if p.grad is not None]
    return float(torch.nn.utils.get_total_norm(gradients)) if gradients else 0.0


def last_checkpoint(trainer: L.Trainer) -> str | None:
    """The newest checkpoint that this fit wrote or went on from; not one of an earlier fit in the same folder."""
    written = [getattr(callback, "last_model_path", "") for callback in trainer.checkpoint_callbacks]
    known = [*written, trainer.ckpt_path]
    return next((str(path) for path in known if path and Path(path).exists()), None)


def _remedy(trainer: L.Trainer) -> list[str]:
    if not trainer.training:
        return []
    last = last_checkpoint(trainer)
    kept = f" (the last good checkpoint: {last})" if last else ""  # it holds the learning rate's schedule, and the rows
    return [
        f"stopped after step {trainer.global_step}{kept}: begin anew with a lower optimizer.learning_rate, or without "
        "these pairs"
    ]


def _local(tensor: Tensor) -> Tensor:
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def _names(pair_ids: list[str]) -> str:
    return ", ".join(dict.fromkeys(pair_ids))
