"""What all objectives share: backbone, optimizer, logging, saving. An objective adds ``trees`` and ``loss``."""

from __future__ import annotations

import math
import warnings
from abc import abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import lightning as L
import polars as pl
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from torchmetrics import Metric

from data_tools.errors import UserError
from data_tools.judging import prompt_named
from genrm_lightning.backbone import BackboneSettings, context_of, load_policy, load_renderer, save_judge
from genrm_lightning.checkpoints import follow_accumulation
from genrm_lightning.finite import Watch
from genrm_lightning.objectives.held_out import HeldOut
from genrm_lightning.policy import Output, Policy
from genrm_lightning.prefix import PrefixBatch, Tree
from genrm_lightning.rendering import Renderer
from genrm_lightning.sharded import full, is_sharded, load_sharded, trained_whole
from genrm_lightning.strategy import FSDP2Strategy


@dataclass
class OptimizerSettings:
    """AdamW with a cosine schedule, as in the paper (arXiv 2410.12832, appendix).

    Attributes:
        learning_rate: the peak.
        betas, weight_decay: of AdamW; norms and biases are not decayed.
        warmup: share of the steps in which the rate rises linearly from 0.
        final: share of the peak that is left at the end of the cosine.

    Raises:
        UserError: a number out of its range; names the key.
    """

    learning_rate: float = 1e-6
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 0.1
    warmup: float = 0.1
    final: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.learning_rate < math.inf:
            raise UserError(f"optimizer.learning_rate: {self.learning_rate} is not above 0")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise UserError(f"optimizer.betas: {list(self.betas)} are not in [0, 1)")
        if not 0 <= self.weight_decay < math.inf:
            raise UserError(f"optimizer.weight_decay: {self.weight_decay} is below 0")
        for name in ("warmup", "final"):
            if not 0 <= getattr(self, name) <= 1:
                raise UserError(f"optimizer.{name}: {getattr(self, name)} is not in [0, 1]")


class Objective(L.LightningModule):
    """Base of all objectives. A subclass says which table it reads, how a row becomes a tree, and the loss.

    Args:
        backbone: the model and what of it is trained.
        optimizer: AdamW and its schedule.
        judge_prompt: name in data_tools.judging.PROMPTS; unused by objectives without a judge prompt.
    """

    table: ClassVar[pl.Schema]  # schema of the rows it is trained on
    scores: ClassVar[int] = 0  # outputs of the reward head; 0: none
    held_out: ClassVar[dict[str, HeldOut]] = {}  # name -> metric of validation and test alone

    def __init__(
        self,
        backbone: BackboneSettings | None = None,
        optimizer: OptimizerSettings | None = None,
        judge_prompt: str = "mt_bench",
    ) -> None:
        super().__init__()
        prompt_named(judge_prompt)  # an unknown name fails when the config is read
        self.backbone_settings = backbone or BackboneSettings()
        self.optimizer_settings = optimizer or OptimizerSettings()
        self.judge_prompt = judge_prompt
        self.policy: Policy | None = None
        self.watch = Watch()
        self.needs_reference = False  # whether the policy at the fit's start is read beside the trained one
        self.train_metrics, self.val_metrics, self.test_metrics = (nn.ModuleDict(self.metrics()) for _ in range(3))
        for metrics in (self.val_metrics, self.test_metrics):
            metrics.update({name: each.metric() for name, each in self.held_out.items()})

    @abstractmethod
    def trees(self, rows: pl.DataFrame, renderer: Renderer) -> Iterator[Tree]:
        """The trees of a table's rows, in order. Needs no weights: the data module calls it before they are loaded."""

    @abstractmethod
    def loss(self, batch: PrefixBatch, output: Output) -> tuple[Tensor, dict[str, Tensor]]:
        """(mean loss, values to log). A value named like one of ``metrics`` goes to it.

        Values have one number an example, NaN for an example that has no such value: means leave it out.
        """

    def taught(self, tree: Tree) -> int:
        """How many tokens of a tree the loss compares with a teacher's whole next-token distribution."""
        return 0

    def metrics(self) -> dict[str, Metric]:
        """Metrics beyond the means of what ``loss`` returns: name -> metric, fed with the value of that name."""
        return {}

    def observe(self, values: dict[str, Tensor]) -> None:
        """Look at what ``loss`` returned for a training batch, before it is logged."""

    @cached_property
    def renderer(self) -> Renderer:
        return load_renderer(self.backbone_settings.name)

    @cached_property
    def context(self) -> int | None:
        """Tokens that the backbone was made for."""
        return context_of(self.backbone_settings.name)

    def configure_model(self) -> None:
        if self._trainer is not None and self.trainer.precision in ("bf16-true", "16-true"):
            raise UserError(
                f"trainer.precision: {self.trainer.precision} rounds trained weights and stored log-probabilities "
                "themselves; take bf16-mixed or 32-true"
            )
        if self.policy is None:  # Lightning may call this more than once
            chosen = self.backbone_settings, self.scores, self.needs_reference
            if self.device_mesh is None:
                self.policy = load_policy(*chosen)
            else:
                strategy = self.trainer.strategy
                if not isinstance(strategy, FSDP2Strategy):
                    raise UserError(
                        "trainer.strategy: ModelParallelStrategy by itself would save frozen weights and split layers; "
                        "set class_path: genrm_lightning.strategy.FSDP2Strategy"
                    )
                self.policy = load_sharded(
                    *chosen, mesh=self.device_mesh["data_parallel"], precision=self.trainer.precision,
                    device=strategy.root_device, first=strategy.is_global_zero, broadcast=strategy.broadcast,
                )  # fmt: skip
            self.policy.train()

    def forward(self, batch: PrefixBatch) -> Output:
        return self.policy(batch)

    def training_step(self, batch: PrefixBatch, batch_idx: int) -> Tensor:
        self.watch.pairs += batch.pair_ids
        loss, _ = self._step(batch, self.train_metrics, "train/")
        return batch.weight * loss

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        self.watch.before_step(self.trainer, self.parameters())
        # Gradient checkpointing, adapters and freezing have each been seen to train nothing, in silence.
        step = self.trainer.global_step
        if (
            step < 2 and getattr(self.trainer.precision_plugin, "scaler", None) is None
        ):  # fp16's first steps may overflow
            check_gradients(self.named_parameters(), zero_is_wrong=step > 0)

    def validation_step(self, batch: PrefixBatch, batch_idx: int) -> dict[str, Tensor]:
        """The values ``loss`` computes, one an example, for callbacks; none of a batch that only fills up."""
        _, values = self._step(batch, self.val_metrics, "val/")
        return values if batch.weight else {}

    def on_validation_epoch_end(self) -> None:
        self.watch.stop(self.trainer)

    def on_train_end(self) -> None:
        self.watch.weights(self.trainer, self.named_parameters())

    def test_step(self, batch: PrefixBatch, batch_idx: int) -> None:
        self._step(batch, self.test_metrics, "test/")

    def on_test_epoch_end(self) -> None:
        self.watch.stop(self.trainer)

    def predict_step(self, batch: PrefixBatch, batch_idx: int) -> dict[str, Any]:
        """The values ``loss`` computes, one an example, with their pair ids; none of a batch that only fills up."""
        _, values = self.loss(batch, self(batch))
        if not batch.weight:
            return {}
        return {"pair_id": batch.pair_ids, **{k: v.float().cpu() for k, v in values.items()}}

    def configure_optimizers(self) -> dict[str, Any]:
        settings = self.optimizer_settings
        trained = [(n, p) for n, p in self.named_parameters() if p.requires_grad]
        groups = [
            {"params": [p for _, p in trained if p.ndim > 1], "weight_decay": settings.weight_decay},
            {"params": [p for _, p in trained if p.ndim <= 1], "weight_decay": 0.0},
        ]
        scaled = getattr(self.trainer.precision_plugin, "scaler", None) is not None
        optimizer = torch.optim.AdamW(groups, lr=settings.learning_rate, betas=settings.betas, fused=not scaled)
        # Fused, it could unscale fp16's gradients by itself, for which Lightning will not clip them.
        optimizer._step_supports_amp_scaling = False
        total = self.trainer.estimated_stepping_batches
        if total == math.inf:
            raise UserError(
                "trainer.max_epochs: the learning rate's schedule needs to know where the fit ends; "
                "set trainer.max_epochs or trainer.max_steps (trainer.max_time may stop it earlier)"
            )
        total = int(total)
        schedule = LambdaLR(optimizer, lambda step: cosine(step, total, settings.warmup, settings.final))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_train_start(self) -> None:
        """A resumed fit goes on with its checkpoint's optimizer: say so where the config asks for another."""
        group, settings = self.trainer.optimizers[0].param_groups[0], self.optimizer_settings
        for name, kept, asked in (
            ("learning_rate", group["initial_lr"], settings.learning_rate),
            ("betas", tuple(group["betas"]), tuple(settings.betas)),
            ("weight_decay", group["weight_decay"], settings.weight_decay),
        ):
            if kept != asked:
                warnings.warn(
                    f"optimizer.{name}: the checkpoint's {kept} is gone on with, not {asked}; for another one begin a "
                    "new fit from the judge",
                    stacklevel=2,
                )

    def save(self, folder: str | Path) -> None:
        """Write the judge: weights or adapter, head, tokenizer, and what it needs to be read again.

        Every process of a sharded fit calls it; the first one reads the backbone anew, puts the trained weights in
        their place and writes.
        """
        policy = self.policy
        if is_sharded(policy):
            first = self.trainer.is_global_zero
            trained = trained_whole(policy, keep=first)
            if not first:
                return
            policy = load_policy(self.backbone_settings, self.scores)
            policy.load_state_dict(trained, strict=False)
        facts = {"objective": type(self).__name__, "judge_prompt": self.judge_prompt}
        save_judge(policy, self.renderer, folder, self.backbone_settings, **facts)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.watch.weights(self.trainer, self.named_parameters())
        # Frozen weights are those of the backbone: a checkpoint under LoRA holds the adapter alone.
        trained = {n for n, p in self.named_parameters() if p.requires_grad}
        frozen = {n for n, _ in self.named_parameters(remove_duplicate=False)} - trained
        checkpoint["state_dict"] = {n: v for n, v in checkpoint["state_dict"].items() if n not in frozen}
        checkpoint["genrm"] = {
            "template_hash": self.renderer.template_hash,
            "backbone": asdict(self.backbone_settings),
            "accumulate": self.trainer.accumulate_grad_batches,
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        trained = checkpoint.get("genrm", {}).get("template_hash")
        if trained != self.renderer.template_hash:
            raise UserError(
                f"the checkpoint was trained with chat template {trained}, this backbone's is "
                f"{self.renderer.template_hash}; fit with the backbone the checkpoint was made with"
            )
        self._refuse_other_backbone(checkpoint["genrm"].get("backbone") or {})
        missing = [n for n, p in self.named_parameters() if p.requires_grad and n not in checkpoint["state_dict"]]
        if missing:
            raise UserError(
                f"the checkpoint holds no {missing[0]}, which this config trains; "
                "resume with the config it was made with"
            )
        self.strict_loading = False  # the frozen weights come from the backbone
        before = checkpoint["genrm"].get("accumulate")
        if before and before != (now := self.trainer.accumulate_grad_batches):
            follow_accumulation(checkpoint["loops"], before, now)  # the data module says whether the plan is the same

    def _refuse_other_backbone(self, stored: dict[str, Any]) -> None:
        """A checkpoint holds what was trained alone: on other frozen weights it would be another model, in silence."""
        now = asdict(self.backbone_settings)
        for key in ("name", "lora", "train_layers"):
            values = stored.get(key), now[key]
            same = _place(values[0]) == _place(values[1]) if key == "name" else values[0] == values[1]
            if not same:
                raise UserError(
                    f"backbone.{key}: the checkpoint was made with {values[0]}, this config says {values[1]}; "
                    "resume with the config it was made with"
                )

    def _step(self, batch: PrefixBatch, metrics: nn.ModuleDict, stage: str) -> tuple[Tensor, dict[str, Tensor]]:
        loss, values = self.loss(batch, self(batch))
        if not self.watch.loss(loss, batch.pair_ids):
            return loss, {}
        on_step = stage == "train/"
        if on_step:
            if not batch.weight:
                return loss, {}
            self.observe(values)
        # An epoch's means are over all processes; one that has no rows takes part in them with none.
        when = {"on_step": on_step, "on_epoch": not on_step, "sync_dist": not on_step}
        rows = len(batch.pair_ids) if batch.weight else 0
        ranks = self.trainer.world_size  # Lightning takes the mean of the counts, in whole numbers
        self.log(f"{stage}loss", loss.detach(), prog_bar=True, batch_size=rows * ranks, **when)
        for name, value in values.items():
            value = value[~value.isnan()] if rows else value[:0]
            of = len(value)
            if on_step and not of:
                continue
            if name in metrics:
                metrics[name](value)
                value = metrics[name]
            else:
                value = value.mean() if of else value.new_zeros(())
            self.log(f"{stage}{name}", value, prog_bar=name == "accuracy", batch_size=of * ranks, **when)
        for name, each in {} if on_step else self.held_out.items():
            metrics[name].update(*(given[:rows] for given in each.inputs(batch, values)))
            self.log(f"{stage}{name}", metrics[name], batch_size=rows * ranks, **when)
        return loss, values


def _place(name: str | None) -> str | None:
    """A backbone's name, a folder's however it is written."""
    return str(Path(name).resolve()) if name and Path(name).is_dir() else name


def check_smoothing(label_smoothing: float) -> None:
    """Raises UserError outside [0, 0.5]: above one half the other response would be the preferred one."""
    if not 0 <= label_smoothing <= 0.5:
        raise UserError(f"label_smoothing: {label_smoothing} is not in [0, 0.5]")


def check_weights(**weights: float) -> None:
    """Raises UserError for a weight of a loss that is negative or not finite; names it."""
    for name, weight in weights.items():
        if not 0 <= weight < math.inf:
            raise UserError(f"{name}: {weight} is not a number from 0 up")


def check_gradients(parameters: Iterable[tuple[str, nn.Parameter]], zero_is_wrong: bool) -> None:
    """Every trainable tensor has a finite gradient.

    Args:
        zero_is_wrong: refuse one that is zero throughout, too. At the first step every ``lora_A`` is: its ``lora_B``
            starts at zero.

    Raises:
        RuntimeError: names the tensor.
    """
    for name, parameter in parameters:
        if not parameter.requires_grad:
            continue
        # Of all its shards.
        norm = math.nan if parameter.grad is None else float(full(parameter.grad.detach().norm()))
        if not math.isfinite(norm) or (zero_is_wrong and norm == 0):
            found = "no" if parameter.grad is None else "a zero" if norm == 0 else "a non-finite"
            raise RuntimeError(f"{name} is to be trained but has {found} gradient")


def cosine(step: int, total: int, warmup: float, final: float) -> float:
    """Factor on the learning rate: linear from 0 over ``warmup``·total steps, then a cosine from 1 to ``final``.

    >>> [round(cosine(s, 10, 0.2, 0.0), 3) for s in (0, 1, 2, 6, 10)]
    [0.5, 1.0, 1.0, 0.5, 0.0]
    """
    rising = math.ceil(warmup * total)
    if step < rising:
        return (step + 1) / rising
    progress = min(1.0, (step - rising) / max(1, total - rising))
    return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * progress))
