"""What surrounds vLLM's engine. The engine itself is a stand-in: it has the documented interface and the tiny Llama."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import dataclass, replace
from functools import cache
from types import ModuleType, SimpleNamespace
from typing import ClassVar

import polars as pl
import pytest
import torch

from data_tools.artifact import read_json, write_table
from data_tools.errors import UserError
from data_tools.schema import PREFERENCE
from genrm_lightning.__main__ import main
from genrm_lightning.backbone import load_judge, load_renderer
from genrm_lightning.samplers.base import Request, SamplingSettings
from genrm_lightning.samplers.choice import SamplerSettings, VLLMSettings, chosen_sampler
from genrm_lightning.samplers.vllm import context, engine
from tests.samplers.exact import check_numbers, requests
from tests.tiny import preferences

SETTINGS = SamplingSettings(n_samples=3, rationale_tokens=2)


@cache
def model(folder):
    return load_judge(folder, torch.float32).lm


@dataclass
class SamplingParams:
    """The fields of vLLM's that the sampler sets, with its defaults."""

    n: int = 1
    temperature: float = 1.0
    top_p: float = 1.0
    max_tokens: int = 16
    seed: int | None = None
    logprobs: int | None = None
    logprob_token_ids: list[int] | None = None
    allowed_token_ids: list[int] | None = None
    stop_token_ids: list[int] | None = None
    detokenize: bool = True


class LLM:
    """``generate`` as documented, without batching: log-probabilities are raw, those of the masked choice too."""

    made: ClassVar[list[LLM]] = []

    def __init__(self, **arguments) -> None:
        self.arguments, self.asked = arguments, []
        self.lm = model(arguments["model"])
        self.made.append(self)

    def generate(self, prompts, sampling_params, *, lora_request=None, use_tqdm=True):
        self.asked.append((prompts, sampling_params, lora_request))
        return [
            SimpleNamespace(outputs=[self._one(prompt["prompt_token_ids"], parameters)])
            for prompt, parameters in zip(prompts, sampling_params, strict=True)
        ]

    @torch.no_grad()
    def _one(self, prompt, p):
        random = torch.Generator().manual_seed(p.seed or 0)
        ids, logprobs = [], []
        while len(ids) < p.max_tokens and not (ids and ids[-1] in (p.stop_token_ids or ())):
            raw = self.lm(input_ids=torch.tensor([prompt + ids])).logits[0, -1].float().log_softmax(-1)
            logits = raw.clone()
            if p.allowed_token_ids:
                logits = torch.full_like(raw, -torch.inf)
                logits[p.allowed_token_ids] = raw[p.allowed_token_ids]
            if p.temperature:
                token = int(torch.multinomial((logits / p.temperature).softmax(-1), 1, generator=random))
            else:
                token = int(logits.argmax())
            ids.append(token)
            told = [token, *(p.logprob_token_ids or raw.topk(p.logprobs).indices.tolist())]
            logprobs.append({i: SimpleNamespace(logprob=float(raw[i])) for i in told})
        return SimpleNamespace(token_ids=tuple(ids), logprobs=logprobs, finish_reason="length")


@pytest.fixture
def vllm(monkeypatch):
    """The stand-in, importable as vllm."""
    package, lora, request = ModuleType("vllm"), ModuleType("vllm.lora"), ModuleType("vllm.lora.request")
    package.LLM, package.SamplingParams = LLM, SamplingParams
    request.LoRARequest = lambda name, number, path: SimpleNamespace(name=name, number=number, path=path)
    for module in (package, lora, request):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(LLM, "made", [])
    return package


def drawn(folder, asked, settings=SETTINGS, salt="s"):
    with chosen_sampler(SamplerSettings("vllm"), str(folder), "float32") as make:
        sampler = make()
        sampler.check(asked, settings)
        found = dict(sampler.sample(asked, settings, salt))
    return [found[i] for i in range(len(asked))]


def test_samples_are_token_ids_with_a_forced_verdict(vllm, tiny_llama):
    renderer = load_renderer(str(tiny_llama))
    lm = model(str(tiny_llama))
    found = drawn(tiny_llama, requests())
    for request, samples in zip(requests(), found, strict=True):
        assert len(samples) == 3 and len({tuple(s.token_ids) for s in samples}) == 3
        for sample in samples:
            ids = sample.token_ids[: sample.n_tokens]
            assert sample.token_ids == renderer.completion(ids, sample.vote).ids
            assert sample.n_tokens <= SETTINGS.rationale_tokens and sample.rationale == renderer.decode(ids).strip()
            check_numbers(lm, renderer, request, sample, 1e-4, 1e-5)


def test_a_sample_is_a_function_of_its_key(vllm, tiny_llama):
    first = drawn(tiny_llama, requests())
    assert drawn(tiny_llama, requests()[::-1])[::-1] == first
    rest = [replace(request, first=2, n_samples=1) for request in requests()]
    assert [samples[0] for samples in drawn(tiny_llama, rest)] == [samples[2] for samples in first]
    assert drawn(tiny_llama, rest, salt="t") != drawn(tiny_llama, rest)


def test_prompts_are_ours_and_any_control_token_ends_a_sample(vllm, tiny_llama):
    renderer = load_renderer(str(tiny_llama))
    drawn(tiny_llama, requests())
    (prompts, parameters, lora), (forced, letters, _) = LLM.made[0].asked
    assert [p["prompt_token_ids"] for p in prompts[::3]] == [renderer.prompt(r.messages) for r in requests()]
    assert lora is None and len({p.seed for p in parameters}) == 6
    assert all(p.stop_token_ids == renderer.control_ids and p.n == 1 for p in parameters)
    assert all(p.allowed_token_ids == list(renderer.letter_ids.values()) for p in letters) and len(forced) == 6


def test_an_adapter_is_loaded_beside_its_base(vllm, tiny_llama, tmp_path):
    judge = tmp_path / "judge"
    shutil.copytree(tiny_llama, judge)
    (judge / "genrm.json").write_text(json.dumps({"adapter": True, "base": str(tiny_llama)}))
    for rank, room in ((1, 8), (16, 16), (48, 64)):
        (judge / "adapter_config.json").write_text(json.dumps({"r": rank}))
        arguments, adapter = engine(VLLMSettings(tensor_parallel=2), str(judge), "bfloat16")
        assert (arguments["model"], adapter) == (str(tiny_llama), str(judge))
        assert (
            arguments["enable_lora"] and arguments["max_lora_rank"] == room and arguments["tensor_parallel_size"] == 2
        )
    drawn(judge, requests())
    assert LLM.made[0].asked[0][2].path == str(judge)
    (judge / "adapter_config.json").write_text(json.dumps({"r": 1000}))
    with pytest.raises(UserError, match="rank 1000 .* export"):
        engine(VLLMSettings(), str(judge), "bfloat16")


def test_a_plain_model_is_loaded_safely(tiny_llama):
    arguments, adapter = engine(VLLMSettings(max_model_len=512), str(tiny_llama), "float32")
    assert adapter is None and "enable_lora" not in arguments and arguments["max_model_len"] == 512
    assert arguments["trust_remote_code"] is False and arguments["load_format"] == "safetensors"


def test_a_prompt_that_is_too_long_is_refused_by_name(vllm, tiny_llama):
    long = Request("pair-9", False, [{"role": "user", "content": "fox " * 3000}])
    with pytest.raises(UserError, match="pair 'pair-9': its judge prompt has .* context is 2048"):
        drawn(tiny_llama, [*requests(), long])


@pytest.mark.parametrize("too_long", ["shorten", "drop"])
def test_pairs_are_made_to_fit_the_engines_length(vllm, tiny_llama, tmp_path, capfd, too_long):
    """Shorter than the model's context: what the engine would refuse is shortened, or left out and said."""
    pairs = preferences(3).with_columns(
        prompt=pl.when(pl.col("pair_id") == "pair-1")
        .then(pl.lit([{"role": "user", "content": "Name an animal. " * 150}], PREFERENCE["prompt"]))
        .otherwise("prompt")
    )
    write_table(pairs, tmp_path / "pairs.parquet", PREFERENCE)
    argv = ["sample", "--judge", tiny_llama, "--pairs", tmp_path / "pairs.parquet", "--out", tmp_path / "out"]
    argv += ["--judge_prompt", "brief", "--dtype", "float32", "--too_long", too_long, "--sampler.kind", "vllm"]
    argv += ["--sampling.n_samples", 1, "--sampling.rationale_tokens", 2, "--sampler.vllm.max_model_len"]
    assert main([*map(str, argv), "300"]) == 0
    counts = {"shorten": "1 of 3 rows shortened, 0 dropped", "drop": "0 of 3 rows shortened, 1 dropped"}
    assert f"{counts[too_long]} (the engine's context of 300 leaves " in capfd.readouterr().err
    asked = [each for ps, qs, _ in LLM.made[0].asked for each in zip(ps, qs, strict=True)]
    written = [len(prompt["prompt_token_ids"]) + parameters.max_tokens for prompt, parameters in asked]
    assert len(written) == 2 * 2 * (3 if too_long == "shorten" else 2) and max(written) <= 300
    assert (max(written) > 200) == (too_long == "shorten"), "as much of it as fits"
    assert read_json(tmp_path / "out/manifest.json")["key"]["sampler"] == {"kind": "vllm", "max_model_len": 300}
    assert main([*map(str, argv), "301"]) == 2 and "made with another 'sampler'" in capfd.readouterr().err


def test_the_length_that_the_engine_takes_by_itself(tiny_llama, tmp_path):
    assert context(VLLMSettings(), str(tiny_llama)) == 2048 and context(VLLMSettings(max_model_len=9), "unread") == 9
    judge = tmp_path / "judge"
    shutil.copytree(tiny_llama, judge)
    config = judge / "tokenizer_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "model_max_length": 512}))
    assert context(VLLMSettings(), str(judge)) == 512
    assert SamplerSettings().context("unread") is None, "the model's own"
