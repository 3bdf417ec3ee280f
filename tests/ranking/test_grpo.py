"""A judge as the reward function of TRL's real GRPOTrainer, on a tiny policy."""

from __future__ import annotations

import pytest
import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import GRPOConfig, GRPOTrainer

from genrm_lightning.judges.choice import judge_of
from genrm_lightning.ranking.rewards import JudgeReward


class Noted:
    """Hands calls on to a reward, after a change of the completions, and remembers them."""

    __name__ = "noted"

    def __init__(self, reward, change=lambda completions: completions):
        self.reward, self.change, self.calls = reward, change, []

    def __call__(self, prompts, completions, **columns):
        completions = self.change(completions)
        found = self.reward(prompts=prompts, completions=completions, **columns)
        self.calls.append((prompts, completions, columns, found))
        return found


def train(tmp_path, backbone, reward, rows, steps=1):
    """GRPO for a few steps; returns its log."""
    torch.manual_seed(0)
    config = GRPOConfig(
        output_dir=str(tmp_path / "out"), per_device_train_batch_size=8, num_generations=4, max_completion_length=6,
        max_steps=steps, learning_rate=1e-3, logging_steps=1, save_strategy="no", report_to="none", use_cpu=True,
        bf16=False, disable_tqdm=True, beta=0.0,
    )  # fmt: skip
    model = AutoModelForCausalLM.from_pretrained(backbone, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(backbone)
    trainer = GRPOTrainer(
        model=model, reward_funcs=reward, args=config, train_dataset=Dataset.from_list(rows), processing_class=tokenizer
    )
    before = [p.detach().clone() for p in model.parameters()]
    trainer.train()
    moved = any(not torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    return trainer.state.log_history, moved


def talk(text):
    return [{"role": "user", "content": text}]


@pytest.mark.parametrize("kind", ["BradleyTerry", "GenRM"])
@pytest.mark.parametrize("conversational", [False, True])
def test_a_step(tmp_path, tiny_llama, judges, kind, conversational):
    """Text and turns, a group and scores, with columns that no judge asks for."""
    form = talk if conversational else str
    rows = [{"prompt": form(text), "number": i, "tags": ["x"]} for i, text in enumerate(("Hi", "Name a colour."))]
    reward = Noted(JudgeReward(judge_of(str(judges / kind), dtype="float32")))
    history, moved = train(tmp_path, tiny_llama, reward, rows)
    ((prompts, completions, columns, found),) = reward.calls
    assert len(found) == 8 and None not in found and moved
    assert isinstance(completions[0], list if conversational else str) and set(columns) >= {"number", "tags"}
    assert history[0]["rewards/noted/mean"] == pytest.approx(sum(found) / 8, abs=1e-5)
    if kind == "GenRM":  # every pair of a group of four is compared
        for text in ("Hi", "Name a colour."):
            group = [one for prompt, one in zip(prompts, found, strict=True) if prompt == form(text)]
            assert len(group) == 4 and sum(group) / 4 == pytest.approx(0.5) and all(0 < one < 1 for one in group)


def test_references(tmp_path, tiny_llama, judges):
    rows = [{"prompt": "Hi", "reference": "Hello!"}, {"prompt": "Name a colour.", "reference": None}]
    reward = Noted(JudgeReward(judge_of(str(judges / "GenRM"), dtype="float32")))
    history, _ = train(tmp_path, tiny_llama, reward, rows)
    ((prompts, _, columns, found),) = reward.calls
    for prompt, reference, one in zip(prompts, columns["reference"], found, strict=True):
        assert (one is None) == (reference is None) == (prompt != "Hi")
    assert history[0]["reward"] == pytest.approx(sum(one for one in found if one is not None) / 4, abs=1e-5)


@pytest.mark.parametrize("kind", ["BradleyTerry", "GenRM"])
def test_completions_of_all_sorts(tmp_path, tiny_llama, judges, kind):
    """Equal ones (no advantage), empty ones, one that is none (left out of the mean): the step is made, and finite."""

    def change(completions):
        return ["the same"] * 4 + ["", "", "something", None]

    reward = Noted(JudgeReward(judge_of(str(judges / kind), dtype="float32")), change)
    history, moved = train(tmp_path, tiny_llama, reward, [{"prompt": "Hi"}, {"prompt": "Name a colour."}])
    ((_, _, _, found),) = reward.calls
    assert found[:4] == pytest.approx([found[0]] * 4) and found[4] == pytest.approx(found[5], abs=1e-3)
    assert found[7] is None and found[6] is not None and found[6] != pytest.approx(found[4], abs=1e-4) and moved
    if kind == "GenRM":
        assert found[:4] == [0.5] * 4 and sum(found[4:7]) / 3 == pytest.approx(0.5)
    assert history[0]["frac_reward_zero_std"] == 0.5 and history[0]["grad_norm"] > 0
