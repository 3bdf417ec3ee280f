"""The sampler in vLLM's offline engine: continuous batching, tensor parallel, adapters beside their base.

Prompts go in as this project's token ids and samples come out as token ids, so nothing is rendered or tokenised twice.
K samples of a prompt are K requests with seeds of their own: with prefix caching the prompt is computed once all the
same, and a sample is drawn alike in any company (to the engine's rounding, which depends on the batch). A second pass
reads the verdict: prompt, rationale and frame, one token, the log-probabilities of the two letters.

Tested on vLLM 0.32's CPU engine, where it is installed: log-probabilities and p(A) of whole judges and of adapters are
those of the model's own forward, and a sample is the same in any company. Never run on a GPU. Other tests run what
surrounds the engine, against a stand-in.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from data_tools.artifact import read_json
from data_tools.errors import UserError
from data_tools.judging import Verdict
from data_tools.order import hash64, unit
from genrm_lightning.backbone import context_of, load_renderer, resolve
from genrm_lightning.budget import REMEDY
from genrm_lightning.judge_folder import judge_info
from genrm_lightning.samplers.base import Request, Sample, Sampler, SamplingSettings
from genrm_lightning.samplers.verdicts import cut, frame_behind, judged

if TYPE_CHECKING:
    from genrm_lightning.samplers.choice import VLLMSettings

_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)  # of adapters, as vLLM reserves room for them
_UNSTATED = 10**9  # transformers' model_max_length of a tokenizer that has none is far beyond
_TAIL = 33  # bits of a hash that are dropped: a seed of 31


class VLLMSampler(Sampler):
    """Samples with vLLM in this process.

    Args:
        settings: of the engine.
        judge: backbone or judge folder; an adapter is loaded beside its base.
        dtype: of the weights.
    """

    def __init__(self, settings: VLLMSettings, judge: str, dtype: str) -> None:
        from vllm import LLM, SamplingParams
        from vllm.lora.request import LoRARequest

        self.renderer = load_renderer(judge)
        self.context = context(settings, judge)
        arguments, adapter = engine(settings, judge, dtype)
        self.llm: Any = LLM(**arguments)
        self.parameters = SamplingParams
        self.lora = LoRARequest("judge", 1, adapter) if adapter else None

    def check(self, requests: Sequence[Request], settings: SamplingSettings) -> None:
        steps = self._steps(settings)
        for request in requests:
            n = len(self.renderer.prompt(request.messages))
            if self.context is not None and n + steps + len(self.renderer.frame_ids) > self.context:
                raise UserError(
                    f"pair '{request.pair_id}': its judge prompt has {n} tokens, a judgment up to {steps}, the model's "
                    f"context is {self.context}; {REMEDY}"
                )

    def sample(
        self, requests: Sequence[Request], settings: SamplingSettings, salt: str
    ) -> Iterator[tuple[int, list[Sample]]]:
        prompts = [self.renderer.prompt(request.messages) for request in requests]
        places = [(place, i) for place, request in enumerate(requests) for i in request.indices(settings)]
        draws = [self._draw(requests[place], i, settings, salt) for place, i in places]
        written = self._generate([prompts[place] for place, _ in places], draws)
        cuts = [cut(list(output.token_ids), self.renderer, settings.rationale_tokens) for output in written]
        rationales = [list(output.token_ids[: found.n]) for output, found in zip(written, cuts, strict=True)]
        forced = [
            [*prompts[place], *ids, *frame_behind(len(ids), self.renderer)]
            for (place, _), ids in zip(places, rationales, strict=True)
        ]
        letters = self._generate(forced, [self._letter()] * len(forced))
        result: list[list[Sample]] = [[] for _ in requests]
        for (place, i), ids, output, found, letter in zip(places, rationales, written, cuts, letters, strict=True):
            logps = [step[token].logprob for token, step in zip(ids, output.logprobs, strict=False)]
            u = unit("vote", _key(requests[place], i, salt))
            margin = self._margin(letter)
            result[place].append(judged(ids, logps, found, margin, u, settings.verdict_temperature, self.renderer))
        yield from enumerate(result)

    def close(self) -> None:
        self.llm = None  # the engine's processes end with it

    def _generate(self, prompts: list[list[int]], parameters: list[dict[str, Any]]) -> list[Any]:
        """The engine's one output for each prompt, in order."""
        asked = [{"prompt_token_ids": ids} for ids in prompts]
        drawn = [self.parameters(**each) for each in parameters]
        found = self.llm.generate(asked, drawn, lora_request=self.lora, use_tqdm=False)
        return [request.outputs[0] for request in found]

    def _steps(self, settings: SamplingSettings) -> int:
        """Tokens of a judgment: room for the model's own verdict behind a rationale that fills its budget."""
        return settings.rationale_tokens + len(self.renderer.frame_ids) + 1 + len(self.renderer.close_ids)

    def _draw(self, request: Request, index: int, settings: SamplingSettings, salt: str) -> dict[str, Any]:
        """SamplingParams of a rationale; any control token ends it."""
        return {
            "temperature": settings.temperature,
            "top_p": settings.top_p,
            "max_tokens": self._steps(settings),
            "seed": hash64("vllm", _key(request, index, salt)) >> _TAIL,
            "logprobs": 0,  # of the tokens drawn
            "stop_token_ids": self.renderer.control_ids,
            "detokenize": False,
        }

    def _letter(self) -> dict[str, Any]:
        """SamplingParams of a forced verdict: nothing but a letter, and the log-probabilities of both."""
        letters = list(self.renderer.letter_ids.values())
        return {
            "temperature": 0.0,
            "max_tokens": 1,
            "logprobs": len(letters),
            "logprob_token_ids": letters,
            "allowed_token_ids": letters,
            "detokenize": False,
        }

    def _margin(self, output: Any) -> float:
        """Log-odds of A against B."""
        a, b = (output.logprobs[0][self.renderer.letter_ids[v]].logprob for v in (Verdict.A, Verdict.B))
        return a - b


def context(settings: VLLMSettings, judge: str) -> int | None:
    """Tokens of the longest prompt with its judgment; None where neither settings nor the judge's files say.

    Where ``max_model_len`` is null the engine takes the lower of the model's context and its tokenizer's
    ``model_max_length``. For a stretched context (rope scaling) it may take more; such is named in ``max_model_len``.
    """
    if settings.max_model_len is not None:
        return settings.max_model_len
    stated = load_renderer(judge).tokenizer.model_max_length
    known = [most for most in (context_of(judge), stated) if most is not None and most < _UNSTATED]
    return min(known, default=None)


def engine(settings: VLLMSettings, judge: str, dtype: str) -> tuple[dict[str, Any], str | None]:
    """(arguments of vLLM's LLM, the folder of the adapter or None) for a judge."""
    folder = resolve(judge)
    info = judge_info(folder)
    arguments = {
        "model": resolve(info["base"]) if info.get("adapter") else folder,
        "tokenizer": folder,
        "dtype": dtype,
        "tensor_parallel_size": settings.tensor_parallel,
        "gpu_memory_utilization": settings.gpu_memory,
        "enforce_eager": settings.eager,
        "enable_prefix_caching": True,  # the K samples of a prompt and its verdicts share it
        "trust_remote_code": False,
        "load_format": "safetensors",
    }
    if not torch.cuda.is_available():
        # In parts a prompt takes its sample's generator back by a step, which the generator of a CPU cannot (0.32).
        arguments["enable_chunked_prefill"] = False
    if settings.max_model_len is not None:
        arguments["max_model_len"] = settings.max_model_len
    if not info.get("adapter"):
        return arguments, None
    rank = read_json(Path(folder) / "adapter_config.json")["r"]
    room = next((n for n in _RANKS if n >= rank), None)
    if room is None:
        raise UserError(
            f"--judge: {judge}: an adapter of rank {rank} is beyond vLLM's {_RANKS[-1]}; merge it first with: "
            "python -m genrm_lightning export"
        )
    return arguments | {"enable_lora": True, "max_loras": 1, "max_lora_rank": room}, folder


def _key(request: Request, index: int, salt: str) -> str:
    return f"{request.pair_id}|{request.swapped}|{index}|{salt}"
