"""The pool that refills: nothing but the random numbers' keys decides a sample, and memory stays within the budget."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, Qwen3Config

from data_tools.errors import UserError
from genrm_lightning import attention
from genrm_lightning.backbone import load_judge, load_renderer
from genrm_lightning.policy import Policy
from genrm_lightning.samplers.base import Request, Sample, SamplingSettings
from genrm_lightning.samplers.local import LocalSampler
from genrm_lightning.samplers.pool import Capacity, Pool, _fused, _products, plan
from tests.samplers.test_local import agree, judged, naive

SALT = "sample|1|0"
SETTINGS = SamplingSettings(n_samples=3, top_p=0.95, rationale_tokens=12, batch_tokens=700)


@pytest.fixture(scope="module")
def renderer(tiny_llama):
    """Every ninth token ends a sample: some end at once, some at the budget."""
    made = load_renderer(str(tiny_llama))
    made.control_ids = sorted({*made.control_ids, *range(5, len(made.tokenizer), 9)})
    return made


@pytest.fixture(scope="module")
def sampler(tiny_llama, renderer) -> LocalSampler:
    return LocalSampler(load_judge(str(tiny_llama), torch.float32), renderer)


def mixed(n: int = 12) -> list[Request]:
    """Prompts of 40 to 150 tokens; one to eight samples each, which begin anywhere."""
    random = np.random.default_rng(0)
    return [
        Request(
            f"pair-{i}", i % 2 == 1, [{"role": "user", "content": "Which one? " * int(random.integers(1, 25))}],
            first=int(random.integers(0, 9)), n_samples=None if i % 5 == 0 else 1 + i % 8,
        )
        for i in range(n)
    ]  # fmt: skip


def same(ours: list[Sample], theirs: list[Sample]) -> None:
    assert [replace(s, p_a=0, logp=0, mean_token_prob=0) for s in ours] == [
        replace(s, p_a=0, logp=0, mean_token_prob=0) for s in theirs
    ]
    for name in ("p_a", "logp", "mean_token_prob"):
        assert [getattr(s, name) for s in ours] == pytest.approx([getattr(s, name) for s in theirs], abs=1e-4)


@pytest.fixture(scope="module")
def expected(sampler) -> list[list[Sample]]:
    """Each request alone."""
    return [judged(sampler, [request], SETTINGS, SALT)[0] for request in mixed()]


def test_samples_are_those_of_a_plain_forward(sampler, renderer, expected):
    lengths = set()
    for request, samples in list(zip(mixed(), expected, strict=True))[::3]:
        settings = replace(SETTINGS, n_samples=len(samples))
        for sample, plain in zip(samples, naive(sampler.policy, renderer, request, settings, SALT), strict=True):
            agree(sample, plain, renderer)
            lengths.add(sample.n_tokens)
    assert len(lengths) > 4


@pytest.mark.parametrize("budget", [1, 300, 700, 1500, 100_000])
def test_no_budget_changes_a_sample(sampler, expected, budget):
    for ours, theirs in zip(
        judged(sampler, mixed(), replace(SETTINGS, batch_tokens=budget), SALT), expected, strict=True
    ):
        same(ours, theirs)


def test_neither_order_nor_shards_change_a_sample(sampler, expected):
    order = np.random.default_rng(1).permutation(len(expected)).tolist()
    for shard in (order[:5], order[5:]):
        for index, ours in zip(shard, judged(sampler, [mixed()[i] for i in shard], SETTINGS, SALT), strict=True):
            same(ours, expected[index])


@pytest.mark.parametrize("budget", [1, 700, 1500])
def test_prompts_join_while_others_are_under_way_and_memory_is_bounded(sampler, monkeypatch, budget):
    joined, seen = [], []
    prefill, decode = Pool.prefill, Pool.decode

    def watched(pool: Pool, prompts, samples):
        joined.append((len(pool.row), list(map(len, prompts))))
        return prefill(pool, prompts, samples)

    def counted(pool: Pool, ids):
        states = decode(pool, ids)
        held = sum(s.keys.shape[0] * s.keys.shape[2] for s in (pool.layers[0].prompts, pool.layers[0].samples))
        needed = pool.prompts[0] + pool.capacity.room * max(1, pool.row.count(0))
        seen.append((held, len(pool.prompts), len(ids), needed))
        return states

    monkeypatch.setattr(Pool, "prefill", watched)
    monkeypatch.setattr(Pool, "decode", counted)
    asked = [replace(request, n_samples=3) for request in mixed()]
    judged(sampler, asked, replace(SETTINGS, batch_tokens=budget), SALT)
    lengths = [n for _, prompts in joined for n in prompts]
    assert lengths == sorted(lengths, reverse=True)
    alone = max(lengths) + 3 * sampler._steps(SETTINGS)
    assert all(held <= max(budget, alone) for held, *_ in seen)
    if budget > 1:
        assert sum(live > 0 for live, _ in joined) > len(joined) / 2
        assert max(prompts for _, prompts, *_ in seen) > 1
    else:
        assert all(live == 0 for live, _ in joined)


def test_the_budget_is_planned():
    assert plan(10_000, 1000, 99, 8, 100) == Capacity(6, 1000, 40, 100)
    assert plan(10_000, 100, 99, 8, 100) == Capacity(15, 100, 85, 100)
    assert plan(100_000, 100, 3, 8, 100) == Capacity(3, 100, 24, 100)  # no more than there is to do
    assert plan(1, 1000, 99, 8, 100) == Capacity(1, 1000, 8, 100)  # a prompt is sampled whatever the budget


def test_a_frame_that_the_model_wrote_is_not_fed_again(sampler, tiny_llama, monkeypatch):
    from data_tools.judging import CLOSE, FRAME
    from genrm_lightning.samplers import local
    from tests.samplers.test_local import Script

    renderer = load_renderer(str(tiny_llama))
    sampler = LocalSampler(sampler.policy, renderer)
    fed = []
    decode = Pool.decode
    monkeypatch.setattr(Pool, "decode", lambda pool, ids: fed.append(list(ids)) or decode(pool, ids))
    settings = replace(SETTINGS, n_samples=2, rationale_tokens=30)
    rationale, p_a = renderer.text("It names an animal."), []
    for written, forced in (
        (rationale, renderer.frame_ids),
        ([*rationale, *renderer.text(f"{FRAME}A{CLOSE}")], []),
        ([*rationale, *renderer.frame_ids[:-1]], renderer.frame_ids[-1:]),
    ):
        fed.clear()
        monkeypatch.setattr(local, "draw", Script(written, renderer.end_id))
        samples = judged(sampler, mixed(1)[:1], settings, SALT)[0]
        assert [ids[0] for ids in fed] == [*written, *forced]
        assert samples[0].n_tokens == len(rationale)
        p_a += [s.p_a for s in samples]
    assert p_a == pytest.approx([p_a[0]] * len(p_a), abs=1e-6)


@pytest.mark.parametrize("groups", [1, 4])
def test_another_family_with_an_adapter(renderer, groups):
    """Qwen3: norms of queries and keys, heads wider than H / heads; one head of keys, or as many as of queries."""
    from peft import LoraConfig, get_peft_model

    config = Qwen3Config(
        vocab_size=len(renderer.tokenizer), hidden_size=48, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=groups, head_dim=32, max_position_embeddings=2048,
        initializer_range=0.1,
    )  # fmt: skip
    torch.manual_seed(0)
    lm = AutoModelForCausalLM.from_config(config, attn_implementation=attention.NAME)
    adapted = get_peft_model(lm, LoraConfig(r=2, target_modules="all-linear", init_lora_weights=False))
    sampler = LocalSampler(Policy(adapted).eval(), renderer)
    asked = mixed(4)[2:]
    for request, samples in zip(asked, judged(sampler, asked, SETTINGS, SALT), strict=True):
        settings = replace(SETTINGS, n_samples=len(samples))
        for sample, plain in zip(samples, naive(sampler.policy, renderer, request, settings, SALT), strict=True):
            agree(sample, plain, renderer)


def test_models_that_would_not_see_the_pool_are_refused(tiny_llama):
    lm = AutoModelForCausalLM.from_pretrained(tiny_llama, attn_implementation="sdpa")
    with pytest.raises(ValueError, match="attention 'sdpa' grows no trees; set genrm_tree"):
        Pool(Policy(lm))
    pool = Pool(load_judge(str(tiny_llama), torch.float32))
    pool.count = 3  # as where a layer has no attention, or keeps its own cache
    pool.reserve(Capacity(1, 4, 1, 4))
    with torch.inference_mode(), pytest.raises(UserError, match="2 of the model's 3 layers"):
        pool.prefill([[5, 6, 7]], [1])


@pytest.mark.parametrize("masked", [False, True])
def test_the_products_of_other_devices_equal_the_fused_kernel(masked):
    query, key, value = torch.randn(3, 2, 6, 16), torch.randn(3, 2, 9, 16), torch.randn(3, 2, 9, 16)
    mask = None
    if masked:
        mask = torch.zeros(3, 1, 1, 9).masked_fill_(
            torch.arange(9) >= torch.tensor([9, 4, 1])[:, None, None, None], -torch.inf
        )
    for ours, theirs in zip(_products(query, key, value, mask, 0.3), _fused(query, key, value, mask, 0.3), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
