"""One run of ``benchmarks.gpu``: a part trained here or by TRL, with a clock on its timed steps."""

from __future__ import annotations

import time
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning as L
import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, LlamaConfig, PreTrainedTokenizerFast

from benchmarks.gpu_parts import LETTERS, SHAPES, Part, Run, settings_of, shape_of, trees
from genrm_lightning.backbone import LoraSettings, empty_policy, load_policy
from genrm_lightning.cost import Work, flops
from genrm_lightning.data import TreeLoader
from genrm_lightning.objectives import BradleyTerry, GenRM, Objective, OptimizerSettings, RationaleDPO
from genrm_lightning.prefix import Tree
from genrm_lightning.quiet import quiet


def run(task: Run, folder: str) -> dict[str, Any]:
    """Train one side of a part here and now; its numbers."""
    quiet()
    torch.manual_seed(0)
    torch.set_float32_matmul_precision("high")
    rows = trees(task.part, task.part.rows * (task.warm + task.timed))
    clock = _Clock(task)
    train = {"ours": _train_ours, "trl": _train_trl}[task.side]
    losses, facts = train(task, rows, folder, clock)
    timed = task.part.rows * task.timed
    shape = shape_of(task.part, folder)
    tree = Work.of_trees(rows)
    alone = Work.of_plain(rows, head=False)
    # Either side applies the head where a loss looks.
    own = tree if task.side == "ours" else replace(alone, looked=tree.looked)
    share = timed / len(rows) / clock.seconds
    return {
        "seconds": clock.seconds / task.timed,
        "rows_per_s": timed / clock.seconds,
        "tokens_per_s": own.tokens * share,
        "peak": clock.peak,
        "useful_flops_per_s": flops(shape, tree).useful * share,
        "own_flops_per_s": flops(shape, own).useful * share,
        "micro": task.micro,
        "checkpointing": task.checkpointing,
        "losses": losses,
        **facts,
    }


class _Clock:
    """Seconds and peak memory of the timed steps; told of every optimizer step's end."""

    def __init__(self, task: Run) -> None:
        self.task, self.cuda = task, task.device == "cuda"
        self.done, self.seconds, self.peak = 0, 0.0, None

    def step(self) -> None:
        self.done += 1
        if self.done == self.task.warm:
            self._wait()
            if self.cuda:
                torch.cuda.reset_peak_memory_stats()
            self.start = time.perf_counter()
        elif self.done == self.task.warm + self.task.timed:
            self._wait()
            self.seconds = time.perf_counter() - self.start
            self.peak = torch.cuda.max_memory_allocated() if self.cuda else None

    def _wait(self) -> None:
        if self.cuda:
            torch.cuda.synchronize()


class _Steps(L.Callback):
    def __init__(self, clock: _Clock, accumulate: int) -> None:
        self.clock, self.accumulate, self.losses = clock, accumulate, []

    def on_train_batch_end(self, trainer: L.Trainer, module: L.LightningModule, outputs: Any, *_: Any) -> None:
        self.losses.append(outputs["loss"].detach())
        if len(self.losses) % self.accumulate == 0:
            self.clock.step()


class _Rows(L.LightningDataModule):
    """Trees that are there already."""

    def __init__(self, rows: list[Tree], micro: int) -> None:
        super().__init__()
        self.rows, self.micro = rows, micro

    def train_dataloader(self) -> TreeLoader:
        renderer = SimpleNamespace(pad_id=0, letter_ids=dict(zip("AB", LETTERS, strict=True)))
        return TreeLoader(self.rows, renderer, self.micro, 0, True, self.trainer.accumulate_grad_batches)


def _train_ours(task: Run, rows: list[Tree], folder: str, clock: _Clock) -> tuple[list[float], dict[str, Any]]:
    objective = _objective(task, folder)
    accumulate = task.part.rows // task.micro
    steps = _Steps(clock, accumulate)
    trainer = L.Trainer(
        accelerator="gpu" if task.device == "cuda" else "cpu", devices=1, precision="bf16-mixed", max_epochs=1,
        gradient_clip_val=1.0, accumulate_grad_batches=accumulate, use_distributed_sampler=False, logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False, default_root_dir=folder,
        callbacks=[steps],
    )  # fmt: skip
    trainer.fit(objective, _Rows(rows, task.micro))
    shown = torch.stack(steps.losses).tolist()
    return shown, {"attention": objective.policy.base.config._attn_implementation}


def _objective(task: Run, folder: str) -> Objective:
    cls = {"dpo": RationaleDPO, "genrm": GenRM, "bt": BradleyTerry}[task.part.kind]
    objective = cls(settings_of(task.part, folder, task.checkpointing), OptimizerSettings(1e-5, warmup=0.0))
    if objective.backbone_settings.name == "embedded":
        objective.policy = load_policy(objective.backbone_settings, cls.scores)
    else:
        objective.policy = empty_policy(objective.backbone_settings, cls.scores, task.device)
    objective.policy.train()
    return objective


def _train_trl(task: Run, rows: list[Tree], folder: str, clock: _Clock) -> tuple[list[float], dict[str, Any]]:
    from transformers import PrinterCallback, TrainerCallback

    from benchmarks.peer import BEST, couple_row, make_trainer, pair_row, sft_row

    class Steps(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
            clock.step()

    kind = {"dpo": "dpo", "genrm": "sft", "bt": "reward"}[task.part.kind]
    cuda = task.device == "cuda"
    flash = cuda and find_spec("flash_attn") is not None
    settings: dict[str, Any] = {
        **BEST,
        "use_cpu": not cuda,
        "model_init_kwargs": None,  # the model is there already
        "per_device_train_batch_size": task.micro,
        "gradient_accumulation_steps": task.part.rows // task.micro,
        "max_steps": task.warm + task.timed,
        "activation_checkpointing": task.checkpointing,
        "learning_rate": 1e-5,
        "max_grad_norm": 1.0,
        "logging_steps": 1,
        "use_liger_kernel": cuda and find_spec("liger_kernel") is not None,
    }
    if kind == "dpo":
        settings["precompute_ref_log_probs"] = True
    if kind == "sft" and flash:
        settings["padding_free"] = True
    row = {"dpo": couple_row, "sft": sft_row, "reward": pair_row}[kind]
    table = [row(tree) for tree in rows]
    if kind == "dpo":
        table = [{**r, "ref_chosen_logps": 0.0, "ref_rejected_logps": 0.0} for r in table]
    lora = LoraSettings(16) if task.part.train == "lora" else None
    implementation = "flash_attention_2" if flash else "sdpa"
    model = _model(task, kind, implementation)
    trainer = make_trainer(kind, model, table, _tokenizer(task.part), Path(folder), lora, **settings)
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(Steps())
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    used = {name: settings.get(name, False) for name in ("use_liger_kernel", "padding_free")}
    return losses, {"attention": implementation, **used}


def _model(task: Run, kind: str, attention: str) -> torch.nn.Module:
    """Random weights, as ours: bf16 where they are frozen, float32 where they are trained."""
    more = {"num_labels": 1} if kind == "reward" else {}
    config = LlamaConfig(**SHAPES[task.part.shape], pad_token_id=0, max_position_embeddings=8192, **more)
    dtype = torch.bfloat16 if task.part.train == "lora" else torch.float32
    auto = AutoModelForSequenceClassification if kind == "reward" else AutoModelForCausalLM
    with torch.device(task.device):
        return auto.from_config(config, dtype=dtype, attn_implementation=attention)


def _tokenizer(part: Part) -> PreTrainedTokenizerFast:
    """TRL asks for one, for its padding token alone."""
    from tokenizers import Tokenizer, models

    words = {"<pad>": 0, "<eos>": 1, "<unk>": 2}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel(words, unk_token="<unk>")),
        pad_token="<pad>", eos_token="<eos>", unk_token="<unk>",
    )  # fmt: skip
    tokenizer.chat_template = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
    return tokenizer
