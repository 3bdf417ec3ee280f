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
import json
import os
import platform
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.gpu_parts import SHAPES, SIDES, Part, Run, parts
from benchmarks.gpu_runs import first_try, here, in_a_process, measured
from data_tools.artifact import write_json
from genrm_lightning.rate import matmul_rate

RESULTS = Path(__file__).parent / "results"
_PACKAGES = ("torch", "transformers", "lightning", "peft", "trl", "accelerate", "liger-kernel", "flash-attn")


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
