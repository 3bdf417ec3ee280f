"""``python -m benchmarks.sampling``: rationales a second here and from transformers' ``generate``, in turns.

Both sides draw K rationales for the same judge prompts with the same weights in bf16, temperature, nucleus and budget,
end at the same tokens, and count the tokens of a rationale that :func:`~genrm_lightning.samplers.verdicts.cut` keeps.
Ours forces a verdict behind each besides; ``generate`` does not. ``generate`` has sdpa, prompts sorted by length and
padded on the left, ``num_return_sequences`` = K, and of the caches and numbers of prompts a call that were tried the
fastest.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any

import torch
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from transformers import AutoModelForCausalLM, PreTrainedModel

from benchmarks import entry, machine
from benchmarks.__main__ import RESULTS, _positive, _tiny
from benchmarks.cases import judge_requests
from data_tools.artifact import write_json
from genrm_lightning.backbone import load_judge, load_renderer, resolve
from genrm_lightning.progress import Progress
from genrm_lightning.quiet import no_loading_bars, quiet
from genrm_lightning.rendering import Renderer
from genrm_lightning.samplers.base import Request, SamplingSettings
from genrm_lightning.samplers.local import LocalSampler
from genrm_lightning.samplers.verdicts import cut

SIDES = ("ours", "generate")


@dataclass
class Generate:
    """transformers' ``generate`` in its documented form for a CPU.

    Args:
        batch: prompts a call.
        cache: dynamic or static (not compiled: that would need a compiler, and minutes a shape).
    """

    lm: PreTrainedModel
    renderer: Renderer
    settings: SamplingSettings
    steps: int
    batch: int = 1
    cache: str = "dynamic"

    @torch.inference_mode()
    def __call__(self, requests: Sequence[Request]) -> list[int]:
        """Tokens kept of each rationale."""
        prompts = sorted((self.renderer.prompt(request.messages) for request in requests), key=len, reverse=True)
        return [
            n for start in range(0, len(prompts), self.batch) for n in self._draw(prompts[start : start + self.batch])
        ]

    def _draw(self, prompts: list[list[int]]) -> list[int]:
        longest, pad = max(map(len, prompts)), self.renderer.pad_id
        ids = torch.tensor([[pad] * (longest - len(prompt)) + prompt for prompt in prompts])
        blank = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts])
        found = self.lm.generate(
            input_ids=ids, attention_mask=blank, do_sample=True, temperature=self.settings.temperature,
            top_p=self.settings.top_p, top_k=0, num_return_sequences=self.settings.n_samples,
            max_new_tokens=self.steps, eos_token_id=self.renderer.control_ids, pad_token_id=pad,
            cache_implementation=self.cache, disable_compile=True,
        )  # fmt: skip
        budget = self.settings.rationale_tokens
        return [cut(row, self.renderer, budget).n for row in found[:, longest:].tolist()]


@dataclass
class Ours:
    """The local sampler."""

    sampler: LocalSampler
    settings: SamplingSettings

    def __call__(self, requests: Sequence[Request]) -> list[int]:
        return [s.n_tokens for _, samples in self.sampler.sample(requests, self.settings, "b|0|0") for s in samples]


def main(argv: Sequence[str] | None = None) -> None:
    given = _flags(argv)
    os.environ["HF_HUB_OFFLINE"] = "1"
    torch.set_num_threads(given.threads)
    quiet()
    no_loading_bars()
    found: dict[str, Any] = {"machine": machine.describe(given.threads), "cases": []}
    with tempfile.TemporaryDirectory(prefix="benchmarks-") as folder:
        backbone = _tiny(Path(folder)) if given.smoke else "embedded"
        for length in given.lengths:
            found["cases"].append(measure(length, backbone, given))
            write_json(given.out, found)  # after each: a run that is stopped keeps what it has
    console = Console()
    (console if console.is_terminal else Console(width=120)).print(table(found["cases"], found["machine"]))
    print(f"raw numbers: {given.out}")


def measure(length: int, backbone: str, given: argparse.Namespace) -> dict[str, Any]:
    """Draw for prompts of one length on both sides, a round each in turn; other prompts each round."""
    renderer = load_renderer(backbone)
    requests, origin = judge_requests(length, given.prompts * (given.rounds + 1), renderer)
    settings = SamplingSettings(
        n_samples=given.samples, temperature=given.temperature, top_p=given.top_p, rationale_tokens=given.tokens,
        batch_tokens=given.batch_tokens,
    )  # fmt: skip
    sampler = LocalSampler(load_judge(backbone, torch.bfloat16), renderer)
    lm = AutoModelForCausalLM.from_pretrained(
        resolve(backbone), dtype=torch.bfloat16, attn_implementation="sdpa", trust_remote_code=False
    ).eval()
    generate = Generate(lm, renderer, settings, sampler._steps(settings))
    sides = {"ours": Ours(sampler, settings), "generate": generate}
    raw: dict[str, Any] = {side: {"seconds": [], "cpu_seconds": [], "tokens": [], "samples": []} for side in SIDES}
    with Progress(f"sampling-{length}", given.rounds + 1, "rounds") as progress:
        warm = requests[: given.prompts]
        tried = {}
        for generate.batch, generate.cache in product(given.batches, given.caches):
            tokens, _, cpu = _timed(generate, warm[: max(given.batches)])
            tried[f"{generate.batch} {generate.cache}"] = sum(tokens) / cpu
        batch, generate.cache = max(tried, key=tried.get).split()
        generate.batch = int(batch)
        sides["ours"](warm)
        progress.advance(1)
        for number in range(1, given.rounds + 1):
            drawn = requests[number * given.prompts : (number + 1) * given.prompts]
            for side in SIDES:
                tokens, seconds, cpu = _timed(sides[side], drawn)
                for name, value in zip(raw[side], (seconds, cpu, sum(tokens), len(tokens)), strict=True):
                    raw[side][name].append(value)
            progress.advance(1)
    measured = {
        "name": f"sampling-{length}", "data": origin, "length": length, "prompts": given.prompts,
        "samples": given.samples, "rationale_tokens": given.tokens, "temperature": given.temperature,
        "top_p": given.top_p, "batch_tokens": given.batch_tokens, "rounds": given.rounds,
        "generate_tried": tried, "generate_taken": f"{generate.batch} {generate.cache}", **raw,
    }  # fmt: skip
    return {**measured, "summary": summary(measured)}


def _timed(
    side: Callable[[Sequence[Request]], list[int]], requests: Sequence[Request]
) -> tuple[list[int], float, float]:
    """Tokens kept of each rationale, seconds, and seconds of the process's CPU time."""
    cpu, start = time.process_time(), time.perf_counter()
    tokens = side(requests)
    return tokens, time.perf_counter() - start, time.process_time() - cpu


def summary(case: dict[str, Any]) -> dict[str, Any]:
    """What a case's raw numbers say.

    - tokens_per_s: of each side, the median over the rounds.
    - speed: ours over generate's, round by round: median, least, most; of_cpu: the same by CPU time, which other work
      on the machine moves less.
    - mean_tokens: of a rationale.
    """

    def rates(side: str, clock: str) -> list[float]:
        return [n / t for n, t in zip(case[side]["tokens"], case[side][clock], strict=True)]

    def ratio(clock: str) -> dict[str, float]:
        ratios = [a / b for a, b in zip(rates("ours", clock), rates("generate", clock), strict=True)]
        return {"median": median(ratios), "least": min(ratios), "most": max(ratios)}

    return {
        "tokens_per_s": {side: median(rates(side, "seconds")) for side in SIDES},
        "speed": ratio("seconds"),
        "of_cpu": ratio("cpu_seconds"),
        "mean_tokens": {side: sum(case[side]["tokens"]) / sum(case[side]["samples"]) for side in SIDES},
    }


def table(cases: list[dict[str, Any]], described: dict[str, Any]) -> Table:
    """All cases, a line each."""
    shown = Table(
        title=f"{described['cpu']}, {described['threads']} threads, torch {described['torch']}, "
        f"transformers {described['transformers']}",
        caption="ours / generate; tokens: of the rationales kept; of CPU: by the CPU time of both; mean: tokens of a "
        "rationale; batch: prompts a call of generate, and its cache, the fastest of those tried",
        box=SIMPLE,
    )
    shown.add_column("case", no_wrap=True)
    for name in ("K", "tokens/s", "speed", "of CPU", "mean", "batch and cache"):
        shown.add_column(name, justify="right", no_wrap=True)
    for case in cases:
        found = case["summary"]
        shown.add_row(
            case["name"],
            str(case["samples"]),
            " / ".join(f"{found['tokens_per_s'][side]:.0f}" for side in SIDES),
            *(f"{r['median']:.2f}x ({r['least']:.2f}–{r['most']:.2f})" for r in (found["speed"], found["of_cpu"])),
            " / ".join(f"{found['mean_tokens'][side]:.0f}" for side in SIDES),
            case["generate_taken"],
        )
    return shown


def _numbers(text: str) -> list[int]:
    return [_positive(part) for part in text.split(",")]


def _flags(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m benchmarks.sampling", description=__doc__, allow_abbrev=False)
    parser.add_argument("--lengths", type=_numbers, help="tokens of the judge prompts; left out: 250,1000")
    parser.add_argument("--prompts", type=_positive, default=8, help="a round")
    parser.add_argument("--samples", type=_positive, default=8, help="K, rationales a prompt")
    parser.add_argument("--tokens", type=_positive, default=48, help="budget of a rationale")
    parser.add_argument("--temperature", type=float, default=1.0)
    parser.add_argument("--top-p", type=float, default=0.95)
    parser.add_argument("--batch-tokens", type=_positive, default=SamplingSettings.batch_tokens, help="ours")
    parser.add_argument("--batches", type=_numbers, default=[1, 2, 4], help="prompts a call of generate, to be tried")
    parser.add_argument(
        "--caches", type=lambda text: text.split(","), default=["dynamic", "static"], help="of generate, to be tried"
    )
    parser.add_argument("--rounds", type=_positive, default=3, help="timed rounds; one more warms up")
    parser.add_argument("--threads", type=_positive, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path, help=f"JSON; left out: {RESULTS.parent.name}/{RESULTS.name}/sampling.json")
    parser.add_argument("--smoke", action="store_true", help="a tiny random model, to see that it works")
    given = parser.parse_args(argv)
    given.lengths = given.lengths or ([400] if given.smoke else [250, 1000])
    given.out = given.out or RESULTS / f"{'smoke-' if given.smoke else ''}sampling.json"
    return given


if __name__ == "__main__":
    entry.run(main)
