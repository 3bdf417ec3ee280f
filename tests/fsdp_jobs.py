"""Fits of the tiny Llama, one after the other, in this process or in several that shard it.

    torchrun --standalone --nproc-per-node 2 tests/fsdp_jobs.py JOBS.json

A job leaves ``<root>/<name>``: told-RANK.json, the judge, and a checkpoint of every step.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import ModelCheckpoint

from genrm_lightning import backbone
from genrm_lightning.callbacks import CheckpointFiles
from genrm_lightning.data import Tables
from genrm_lightning.sharded import full
from genrm_lightning.strategy import FSDP2Strategy
from tests.objectives.common import make
from tests.tiny import Steps, make_trainer


class Norms(L.Callback):
    """The norm of the gradients that an optimizer step used: behind clipping."""

    def __init__(self) -> None:
        self.seen: list[float] = []

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx) -> None:
        if (batch_idx + 1) % trainer.accumulate_grad_batches == 0:
            grads = [p.grad for p in module.parameters() if p.grad is not None]
            self.seen.append(sum(float(full(grad.norm())) ** 2 for grad in grads) ** 0.5)


class Reads:
    """How often this process has read a backbone's weights: ``load_lm``, counted."""

    def __init__(self) -> None:
        self.load_lm, self.count = backbone.load_lm, 0

    def __call__(self, *args: Any, **options: Any) -> Any:
        self.count += 1
        return self.load_lm(*args, **options)

    def __enter__(self) -> Reads:
        backbone.load_lm = self
        return self

    def __exit__(self, *_: object) -> None:
        backbone.load_lm = self.load_lm


def run(job: dict[str, Any], ranks: int = 1) -> None:
    """A fit, its judge, and what it says of the training rows.

    Args:
        job: name, root, backbone, kind, way and what else of the objective (tests/objectives/common.py), file,
            validation, batch_size, trainer, ckpt (a checkpoint to go on from, or None).
    """
    L.seed_everything(0)
    folder = Path(job["root"]) / job["name"]
    objective = make(job["kind"], Path(job["backbone"]), job["way"], **job["objective"])
    data = Tables(job["file"], job["validation"], job["file"], batch_size=job["batch_size"])
    sharded = {"strategy": FSDP2Strategy(), "devices": ranks} if ranks > 1 else {"plugins": [CheckpointFiles()]}
    steps, norms = Steps(), Norms()
    keep = ModelCheckpoint(folder / "checkpoints", "{step}", every_n_train_steps=1, save_top_k=-1)
    trainer = make_trainer(
        folder, steps, norms, keep, enable_checkpointing=True, max_epochs=2, gradient_clip_val=0.5,
        **sharded, **job["trainer"],
    )  # fmt: skip
    with Reads() as reads:
        trainer.fit(objective, data, ckpt_path=job["ckpt"], weights_only=True)
    metrics = {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith("val/")}
    objective.save(folder / "judge")
    margins: dict[str, list[float]] = {}
    for values in filter(None, trainer.predict(objective, data)):
        for pair, margin in zip(values["pair_id"], values["accuracy"].tolist(), strict=True):
            margins.setdefault(pair, []).append(margin)
    told = {
        "steps": trainer.global_step,
        "losses": steps.losses,
        "norms": norms.seen,
        "metrics": metrics,
        "margins": margins,
        "reads": reads.count,
    }
    (folder / f"told-{trainer.global_rank}.json").write_text(json.dumps(told))


if __name__ == "__main__":
    for one in json.loads(Path(sys.argv[1]).read_text()):
        run(one, int(os.environ["WORLD_SIZE"]))
