"""One side of a case, in a process of its own: ``python -m benchmarks.worker job.json``."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.utilities.types import STEP_OUTPUT
from torch import nn

from benchmarks import machine
from benchmarks.cases import JUDGE_PROMPT
from benchmarks.turns import Job, Turns
from data_tools.artifact import read_table, write_table
from data_tools.schema import EXAMPLE
from genrm_lightning.backbone import BackboneSettings, LoraSettings, resolve
from genrm_lightning.cost import Work, flops
from genrm_lightning.data import Tables
from genrm_lightning.objectives import BradleyTerry, GenRM, Objective, OptimizerSettings, RationaleDPO, STaRSFT
from genrm_lightning.prefix import PrefixBatch
from genrm_lightning.scoring import score_examples
from genrm_lightning.shape import Shape

BETA = 0.1
RATE = OptimizerSettings(learning_rate=1e-5, warmup=0.0)
_OBJECTIVES = {
    "bt": (BradleyTerry, {}),
    "genrm": (GenRM, {"judge_prompt": JUDGE_PROMPT}),
    "sft": (STaRSFT, {"judge_prompt": JUDGE_PROMPT}),
    "dpo": (RationaleDPO, {"judge_prompt": JUDGE_PROMPT, "beta": BETA}),
}


def make_objective(job: Job) -> Objective:
    """Frozen weights lie in bf16 on both sides, trained ones in float32."""
    lora = LoraSettings(rank=16) if job.train == "lora" else None
    backbone = BackboneSettings(job.backbone, lora=lora, dtype="bfloat16" if lora else "float32")
    cls, options = _OBJECTIVES[job.kind]
    return cls(backbone, RATE, **options)


class Watch:
    """Counts what a model holds, and whether training moves it."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.before = self._norms()

    def facts(self, optimizer: torch.optim.Optimizer, baseline: int) -> dict[str, Any]:
        """Bytes of tensors, and the share of trained ones that have moved."""
        states = [v for state in optimizer.state.values() for v in state.values() if isinstance(v, torch.Tensor)]
        parameters = list(self.model.parameters())
        after = self._norms()
        moved = sum(a != b for a, b in zip(self.before, after, strict=True))
        return {
            "baseline": baseline,
            "weights": _bytes(parameters),
            "gradients": _bytes(p for p in parameters if p.requires_grad),
            "optimizer": _bytes(states),
            "moved": moved / len(after),
        }

    def _norms(self) -> list[float]:
        with torch.no_grad():
            return [float(p.double().norm()) for p in self.model.parameters() if p.requires_grad]


def _bytes(tensors: Iterable[torch.Tensor]) -> int:
    return sum(t.numel() * t.element_size() for t in tensors)


class _TakesTurns(L.Callback):
    def __init__(self, turns: Turns, baseline: int) -> None:
        self.turns, self.baseline = turns, baseline
        self.losses: list[float] = []

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.watch = Watch(pl_module.policy)
        self.turns.begin()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: STEP_OUTPUT, batch: PrefixBatch, batch_idx: int
    ) -> None:
        self.losses.append(float(outputs["loss"]))
        self.turns.step(lambda: self._facts(trainer, pl_module))

    def _facts(self, trainer: L.Trainer, module: L.LightningModule) -> dict[str, Any]:
        trees = trainer.datamodule.trees["train"]
        return {
            **self.watch.facts(trainer.optimizers[0], self.baseline),
            "losses": self.losses,
            "tokens_per_row": sum(map(len, trees)) / len(trees),
            "flops_per_row": flops(Shape.of(module.policy), Work.of_trees(trees)).useful / len(trees),
        }


def train_ours(job: Job, turns: Turns) -> None:
    """Through Lightning, as ``fit`` does it."""
    objective = make_objective(job)
    table = job.table
    baseline = machine.resident()
    if job.kind == "dpo":
        lora = None if objective.backbone_settings.lora is None else {"rank": 16}
        backbone = {"lora": lora, "dtype": objective.backbone_settings.dtype}
        fit = {"model": {"init_args": {"backbone": backbone}}, "trainer": {"precision": "bf16-mixed"}}
        scored = score_examples(read_table(table, EXAMPLE), job.backbone, fit, batch_size=job.batch_size)
        table = str(Path(job.folder) / "scored.parquet")
        write_table(scored, table, EXAMPLE)
    trainer = L.Trainer(
        accelerator="cpu", devices=1, precision="bf16-mixed", gradient_clip_val=1.0, max_steps=job.total,
        max_epochs=-1, use_distributed_sampler=False, default_root_dir=job.folder, logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        callbacks=[_TakesTurns(turns, baseline)],
    )  # fmt: skip
    trainer.fit(objective, Tables(table, batch_size=job.batch_size, max_tokens=16384))


def train_trl(job: Job, turns: Turns) -> None:
    """Through TRL, at the settings that :mod:`benchmarks.peer` gives its reasons for."""
    from transformers import TrainerCallback

    from benchmarks.peer import BEST, couple_row, make_trainer, pair_row, sft_row

    class TakesTurns(TrainerCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, **more: Any) -> None:
            self.watch, self.losses = Watch(trainer.model), []
            turns.begin()

        def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float], **more: Any) -> None:
            self.losses += [float(logs["loss"])] if "loss" in logs else []

        def on_step_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
            turns.step(self._facts)

        def _facts(self) -> dict[str, Any]:
            # The last step is logged after this; its loss is still in the trainer.
            last = float(trainer._tr_loss)
            return {
                **self.watch.facts(trainer.optimizer, baseline),
                "losses": [*self.losses, last],
                "tokens_per_row": sum(map(_tokens, rows)) / len(rows),
            }

    objective = make_objective(job)
    settings = objective.backbone_settings
    row, kind = {"bt": (pair_row, "reward"), "dpo": (couple_row, "dpo")}.get(job.kind, (sft_row, "sft"))
    table = read_table(job.table, objective.table)
    if kind == "dpo":  # the tree wants a reference; TRL computes its own
        table = table.with_columns(ref_logp=0.0, ref_rejected_logp=0.0).cast(EXAMPLE)
    rows = [row(tree) for tree in objective.trees(table, objective.renderer)]
    of_kind = {"dpo": {"beta": BETA, "precompute_ref_log_probs": True}}.get(kind, {})
    baseline = machine.resident()
    trainer = make_trainer(
        kind, resolve(job.backbone), rows, objective.renderer.tokenizer, Path(job.folder), settings.lora,
        settings.dtype, per_device_train_batch_size=job.batch_size, max_steps=job.total,
        learning_rate=RATE.learning_rate, adam_beta1=RATE.betas[0], adam_beta2=RATE.betas[1],
        weight_decay=RATE.weight_decay, max_grad_norm=1.0, lr_scheduler_type="cosine", logging_steps=1,
        **{**BEST, **of_kind, **job.trl},
    )  # fmt: skip
    trainer.add_callback(TakesTurns())
    trainer.train()


def _tokens(row: dict[str, Any]) -> int:
    """Of a row of any of TRL's trainers, padding left out."""
    prompt = len(row.get("prompt_ids", ()))
    return sum(prompt + len(row[name]) for name in ("input_ids", "chosen_ids", "rejected_ids") if name in row)


def main(path: str) -> None:
    # What libraries print goes to the log: the pipe holds replies alone.
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    job = Job(**json.loads(Path(path).read_text()))
    torch.set_num_threads(job.threads)
    torch.manual_seed(0)
    train = train_ours if job.side == "ours" else train_trl
    train(job, Turns(job, sys.stdin, replies))


if __name__ == "__main__":
    main(sys.argv[1])
