"""``plan``: what a fit will take, told from its configs, its rows and the tokenizer before any weights are loaded."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from importlib import import_module
from types import SimpleNamespace
from typing import Any, NamedTuple

import lightning as L
import torch
from lightning.pytorch.strategies import FSDPStrategy, ModelParallelStrategy
from rich.console import Console
from rich.table import Table

from data_tools.errors import UserError
from genrm_lightning.backbone import empty_policy, resolve
from genrm_lightning.cost import Work, flops, memory
from genrm_lightning.judge_folder import judge_info
from genrm_lightning.objectives import Objective
from genrm_lightning.prefix import PrefixBatch, Tree
from genrm_lightning.progress import Progress
from genrm_lightning.rate import matmul_rate
from genrm_lightning.shape import Shape


def plan(
    objective: Objective, data: L.LightningDataModule, trainer: Mapping[str, Any], flops_per_second: float | None = None
) -> dict[str, Any]:
    """Parameters, tokens, steps, FLOPs and memory of a fit; time where a rate is given.

    Rows, trees and batches are those of the data module (of its first epoch: a later one batches the rows otherwise).

    Args:
        trainer: the config's trainer section, as jsonargparse gives it.
        flops_per_second: of one device.

    Returns:
        ``parameters``: by part, trained ones, in all. ``data``: trees, tokens of an epoch (prefix, branches, looked
        at), padding's share of the batches' places (a CPU leaves it out). ``steps``: an epoch, in all. ``flops``: of
        a mean optimizer step over all devices, by part, and in all; ``plain``: of a trainer that runs each branch
        alone with its prompt. ``memory``: bytes a device by part, at the largest microbatch. ``seconds``: null
        without a rate.

    Raises:
        UserError: what the fit would refuse before its first step.
    """
    settings = objective.backbone_settings
    shape = Shape.of(empty_policy(settings, objective.scores))
    devices = _devices(trainer) * int(trainer["num_nodes"])
    accumulate = int(trainer["accumulate_grad_batches"])
    trees, sizes, batches = _batches(objective, data, devices, accumulate)
    used = _limited(batches, trainer["limit_train_batches"])
    epoch_steps = -(-used // accumulate)
    steps = _steps(epoch_steps, trainer)

    taught = sum(map(objective.taught, trees))
    work = replace(Work.of_trees(trees), taught=taught)
    plain = replace(Work.of_plain(trees, head=work.looked > 0), taught=taught)
    counted = flops(shape, work, checkpointing=settings.gradient_checkpointing)
    # An epoch's FLOPs fall on all of its steps, also where limit_train_batches leaves some out.
    share = accumulate / batches
    a_step = {name: round(value * share) for name, value in counted.as_dict().items()}
    done = counted.done * share
    if objective.needs_reference:  # a forward pass more, of the policy at the fit's start
        # A teacher's heads are the divergence's, which is counted already.
        forward = replace(work, looked=0, taught=0) if taught else work
        a_step["reference"] = round(flops(_at_start(objective, shape), forward, training=False).useful * share)
        done += a_step["reference"]

    compute = 2 if "16" in str(trainer["precision"]) else 4
    on_cpu = _on_cpu(trainer)
    shards = devices if _sharded(trainer["strategy"]) else 1

    copy = _frozen_copy(objective, shape) // shards

    def peak(size: _Size) -> dict[str, int]:
        found = memory(
            shape, size.tokens if on_cpu else size.rows * size.length, size.looked, compute=compute,
            checkpointing=settings.gradient_checkpointing, cpu=on_cpu, mask=0 if on_cpu else size.rows * size.length**2,
            shards=shards,
        )  # fmt: skip
        return found | {"weights": found["weights"] + copy}

    largest = max((peak(size) for size in set(sizes)), key=lambda found: sum(found.values()))
    places = sum(size.rows * size.length for size in sizes)
    parts = {name: part.parameters for name, part in shape.parts.items() if part.parameters}
    return {
        "objective": type(objective).__name__,
        "backbone": settings.name,
        "devices": devices,
        "sharded": shards > 1,
        "parameters": {"total": shape.parameters, "trained": shape.trained, **parts},
        "data": {
            "trees": len(trees),
            "tokens": work.tokens,
            "prefix_tokens": sum(len(tree.prefix) for tree in trees),
            "branch_tokens": work.tokens - sum(len(tree.prefix) for tree in trees),
            "looked_at": work.looked,
            "padding": 1 - work.tokens / places,
        },
        "steps": {"epoch": epoch_steps, "total": steps},
        "flops": {**a_step, "total": round(done * steps)},
        "plain": {"tokens": plain.tokens, "flops_ratio": flops(shape, plain).useful / counted.useful},
        "memory": {**largest, "total": sum(largest.values())},
        "flops_per_second": flops_per_second,
        "seconds": flops_per_second and done * steps / (flops_per_second * devices),
    }


def rate_here(trainer: Mapping[str, Any]) -> float:
    """FLOP/s of bf16 matrix products on a device of the kind that the config names.

    Raises:
        UserError: there is none here.
    """
    if not _on_cpu(trainer) and not torch.cuda.is_available():
        raise UserError(
            f"--measure: trainer.accelerator is {trainer['accelerator']}, and no such device is here; "
            "give its rate: --tflops"
        )
    return matmul_rate("cpu" if _on_cpu(trainer) else "cuda")


def show(found: dict[str, Any], console: Console) -> None:
    """A plan as a table to read."""
    table = Table(title=f"{found['objective']} on {found['backbone']}", title_justify="left", show_header=False)
    table.title = table.title.replace("[", r"\[")  # a path may hold what rich takes for markup
    table.add_column()
    table.add_column(justify="right")
    data, memory_, numbers = found["data"], found["memory"], found["flops"]
    for name, count in found["parameters"].items():
        table.add_row("parameters" if name == "total" else f"  {name}", f"{count:,}")
    table.add_section()
    table.add_row("trees an epoch", f"{data['trees']:,}")
    table.add_row("tokens an epoch", f"{data['tokens']:,}")
    for name in ("prefix_tokens", "branch_tokens", "looked_at"):
        table.add_row(f"  {name.replace('_', ' ')}", f"{data[name]:,}")
    table.add_row("padding", f"{data['padding']:.1%} of the batches")
    table.add_row("optimizer steps", f"{found['steps']['total']:,}")
    table.add_section()
    table.add_row("useful FLOPs a step", _scaled(numbers["useful"]))
    for name in ("layers", "attention", "vocabulary", "reward", "recomputed"):
        if numbers[name]:
            table.add_row(f"  {name}{' (not useful)' * (name == 'recomputed')}", _scaled(numbers[name]))
    table.add_row("FLOPs in all", _scaled(numbers["total"]))
    table.add_row("each branch alone would take", f"× {found['plain']['flops_ratio']:.2f}")
    table.add_section()
    sharded = f", {found['devices']} shards" if found["sharded"] else ""
    table.add_row(f"memory a device{sharded}", f"{memory_['total'] / 2**30:.2f} GiB")
    for name, count in memory_.items():
        if name != "total":
            table.add_row(f"  {name}", f"{count / 2**30:.2f} GiB")
    if found["seconds"] is not None:
        rate = found["flops_per_second"]
        table.add_section()
        at = f"time at {rate / 1e12:,.3g} TFLOP/s" + f" × {found['devices']} devices" * (found["devices"] > 1)
        table.add_row(at, _clock(found["seconds"]))
    console.print(table)


def _frozen_copy(objective: Objective, shape: Shape) -> int:
    """Bytes of a continued adapter's second, frozen copy, which is then the reference (reference.py)."""
    return shape.parts["adapters"].size if objective.needs_reference and _goes_on(objective) else 0


def _at_start(objective: Objective, shape: Shape) -> Shape:
    """Of the policy at the fit's start, which is read beside the trained one: a new adapter is switched off in it."""
    if _goes_on(objective):
        return shape
    return replace(shape, layers=tuple(replace(layer, weights=layer.weights - layer.trained) for layer in shape.layers))


def _goes_on(objective: Objective) -> bool:
    """Whether the backbone is a judge with an adapter, which is gone on with."""
    return bool(judge_info(resolve(objective.backbone_settings.name)).get("adapter"))


class _Size(NamedTuple):
    """Of a microbatch: rows, places of each, tokens without padding, entries looked at."""

    rows: int
    length: int
    tokens: int
    looked: int


def _batches(
    objective: Objective, data: L.LightningDataModule, devices: int, accumulate: int
) -> tuple[list[Tree], list[_Size], int]:
    """The first epoch: its trees, the microbatches of all devices, and how many of them a device has."""
    # As much of a trainer as a data module looks at: one process after the other makes its loader.
    data.trainer = SimpleNamespace(
        lightning_module=objective, global_rank=0, is_global_zero=True, world_size=devices,
        accumulate_grad_batches=accumulate, callbacks=[],
    )  # fmt: skip
    data.setup("fit")
    sizes: list[_Size] = []
    loader = data.train_dataloader()
    trees, batches = loader.trees, len(loader)
    with Progress("plan", batches * devices, "batches") as progress:
        for rank in range(devices):
            data.trainer.global_rank = rank
            for batch in _of_an_epoch(data.train_dataloader()):
                sizes.append(_Size(*batch.segments.shape, int((batch.segments >= 0).sum()), len(batch.targets)))
                progress.advance(1)
    return trees, sizes, batches


def _of_an_epoch(loader: Any) -> Iterator[PrefixBatch]:
    loader.set_epoch(0)
    yield from loader


def _limited(batches: int, limit: int | float | None) -> int:
    """Microbatches of an epoch under trainer.limit_train_batches: a number, or a share."""
    if limit is None:
        return batches
    return min(batches, limit) if isinstance(limit, int) else int(batches * limit)


def _steps(an_epoch: int, trainer: Mapping[str, Any]) -> int:
    epochs, most = trainer["max_epochs"], trainer["max_steps"]
    total = math.inf if epochs in (None, -1) else an_epoch * epochs
    total = total if most == -1 else min(total, most)
    if total == math.inf:
        raise UserError(
            "trainer.max_epochs: nobody can say where the fit ends; set trainer.max_epochs or trainer.max_steps"
        )
    return int(total)


def _on_cpu(trainer: Mapping[str, Any]) -> bool:
    kind = trainer["accelerator"]
    return kind == "cpu" or (kind == "auto" and not torch.cuda.is_available())


def _devices(trainer: Mapping[str, Any]) -> int:
    """Processes a node, for devices that need not be here: 2, "2", [0, 1], "0,1"; all that are here for auto and -1."""
    given = trainer["devices"]
    if isinstance(given, list):
        return len(given)
    if given in ("auto", -1, "-1"):
        return 1 if _on_cpu(trainer) else max(1, torch.cuda.device_count())
    return len([d for d in given.split(",") if d]) if isinstance(given, str) and "," in given else int(given)


def _sharded(strategy: Any) -> bool:
    """Whether a strategy deals out the weights: one of Lightning's FSDP strategies, by name or class."""
    if isinstance(strategy, str):
        return "fsdp" in strategy
    path = strategy and strategy.get("class_path")
    if not path:
        return False
    module, _, name = path.rpartition(".")
    kind = getattr(import_module(module), name)
    return issubclass(kind, (FSDPStrategy, ModelParallelStrategy))


def _scaled(number: float) -> str:
    """
    >>> _scaled(1234567890000)
    '1.23 T'
    """
    for unit in ("", "k", "M", "G", "T", "P", "E"):
        if number < 1000 or unit == "E":
            return f"{number:.3g} {unit}".strip()
        number /= 1000
    raise AssertionError


def _clock(seconds: float) -> str:
    """
    >>> _clock(42.4), _clock(3725)
    ('42.4 s', '1 h 02 min')
    """
    if seconds < 60:
        return f"{seconds:.3g} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"
