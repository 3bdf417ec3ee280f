"""``python -m benchmarks``: the same training here and in TRL, in turns; a table, and the raw numbers as JSON."""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from transformers import AutoConfig

from benchmarks import entry, machine, report
from benchmarks.cases import Case, all_cases, rows_of
from benchmarks.turns import SIDES, Job, Worker
from data_tools.artifact import write_json
from data_tools.errors import UserError
from genrm_lightning.backbone import load_renderer, resolve
from genrm_lightning.progress import Progress
from genrm_lightning.quiet import no_loading_bars, quiet

RESULTS = Path(__file__).parent / "results"


def main(argv: Sequence[str] | None = None) -> None:
    given = _flags(argv)
    os.environ["HF_HUB_OFFLINE"] = "1"
    torch.set_num_threads(given.threads)  # the matmul rate is measured here
    quiet()
    no_loading_bars()
    cases = _chosen(given)
    found: dict[str, Any] = {"machine": machine.describe(given.threads), "cases": []}
    with tempfile.TemporaryDirectory(prefix="benchmarks-") as folder:
        backbone = _tiny(Path(folder)) if given.smoke else "embedded"
        for case in cases:
            found["cases"].append(measure(case, backbone, given, Path(folder) / case.name))
            write_json(given.out, found)  # after each: a run that is stopped keeps what it has
    console = Console()
    # Where no terminal says how wide it is, wide enough for a line a case.
    (console if console.is_terminal else Console(width=120)).print(report.table(found["cases"], found["machine"]))
    print(f"raw numbers: {given.out}")


def measure(case: Case, backbone: str, given: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Train a case on both sides, a round each in turn."""
    rows = case.batch_size * case.steps if given.rows is None else given.rows
    table, origin = rows_of(case, rows, load_renderer(backbone))
    folder.mkdir()
    table.write_parquet(folder / "rows.parquet")
    config = AutoConfig.from_pretrained(resolve(backbone), trust_remote_code=False)
    jobs = [
        Job(
            side, case.kind, str(folder / "rows.parquet"), backbone, given.train, case.batch_size, case.steps,
            given.rounds, given.threads, str(folder / side), given.trl if side == "trl" else {},
        )
        for side in SIDES
    ]  # fmt: skip
    raw: dict[str, dict[str, Any]] = {side: {"seconds": []} for side in SIDES}
    rates = []
    with Progress(case.name, given.rounds + 1, "rounds") as progress, Worker(jobs[0]) as ours, Worker(jobs[1]) as trl:
        workers = dict(zip(SIDES, (ours, trl), strict=True))
        for worker in workers.values():
            worker.hear()  # ready
        for number in range(given.rounds + 1):
            for side in SIDES:
                reply = workers[side].go()
                seconds = reply.pop("seconds")
                if number:  # the first one warms up
                    raw[side]["seconds"].append(seconds)
                raw[side] |= reply
            rates.append(machine.feed_forward_rate(config.hidden_size, config.intermediate_size))
            progress.advance(1)
    measured = {
        "name": case.name, "kind": case.kind, "data": origin, "length": case.length, "train": given.train,
        "batch_size": case.batch_size, "steps": case.steps, "rounds": given.rounds, "rows": rows,
        "trl_settings": given.trl, "matmul_flops": max(rates), **raw,
    }  # fmt: skip
    return {**measured, "summary": report.summary(measured)}


def _chosen(given: argparse.Namespace) -> list[Case]:
    """The cases that the patterns name, with what the flags change."""
    cases = _smoke_cases() if given.smoke else all_cases()
    patterns = given.cases.split(",")
    for pattern in patterns:
        if not any(fnmatch(case.name, pattern) for case in cases):
            raise UserError(f"--cases: '{pattern}' is none of: {', '.join(case.name for case in cases)}")
    changes = {name: getattr(given, name) for name in ("batch_size", "steps") if getattr(given, name) is not None}
    chosen = [replace(case, **changes) for case in cases if any(fnmatch(case.name, p) for p in patterns)]
    for case in chosen:
        if given.rows is not None and given.rows < case.batch_size:
            raise UserError(f"--rows: {given.rows} are fewer than the {case.batch_size} of a step of {case.name}")
        if case.kind == "genrm" and (given.rows or case.batch_size * case.steps) % 2:
            raise UserError(f"{case.name}: a pair gives two rows; make --rows, or --batch-size times --steps, even")
    return chosen


def _smoke_cases() -> list[Case]:
    """One of each kind, as short as they come."""
    return [
        Case(name, kind, 2, 1, length)
        for name, kind, length in (
            ("bt", "bt", None),
            ("genrm", "genrm", 400),
            ("sft", "sft", 400),
            ("dpo", "dpo", 400),
        )
    ]


def _tiny(folder: Path) -> str:
    from tests.tiny import make_tiny_llama

    return str(make_tiny_llama(folder / "tiny"))


def _positive(text: str) -> int:
    if not text.isdigit() or not int(text):
        raise argparse.ArgumentTypeError(f"{text} is not a number above 0")
    return int(text)


def _setting(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text} is not KEY=VALUE")
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        return name, value


def _flags(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m benchmarks", description=__doc__, allow_abbrev=False)
    parser.add_argument("--cases", default="*", help="names or patterns, with commas between")
    parser.add_argument("--train", choices=("full", "lora"), default="full", help="every weight, or LoRA of rank 16")
    parser.add_argument("--rows", type=_positive, help="rows to train on; left out: those of a round, the same in each")
    parser.add_argument("--batch-size", type=_positive, help="rows an optimizer step; left out: each case's own")
    parser.add_argument("--steps", type=_positive, help="optimizer steps a round; left out: each case's own")
    parser.add_argument("--rounds", type=_positive, default=3, help="timed rounds; one more warms up")
    parser.add_argument("--threads", type=_positive, default=torch.get_num_threads(), help="of each side")
    parser.add_argument("--out", type=Path, help=f"JSON; left out: {RESULTS.parent.name}/{RESULTS.name}/cpu-TRAIN.json")
    parser.add_argument("--trl", type=_setting, action="append", metavar="KEY=VALUE", help="a setting of TRL's config")
    parser.add_argument("--smoke", action="store_true", help="a tiny random model, to see that it works")
    given = parser.parse_args(argv)
    given.trl = dict(given.trl or [])
    given.out = given.out or RESULTS / f"{'smoke' if given.smoke else 'cpu'}-{given.train}.json"
    return given


if __name__ == "__main__":
    entry.run(main)
