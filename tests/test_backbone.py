"""Loading, freezing and saving: a judge that is read again, in a fresh process too, says what it said."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from data_tools.errors import UserError
from data_tools.judging import Verdict
from genrm_lightning.backbone import (
    BackboneSettings,
    LoraSettings,
    judge_info,
    load_judge,
    load_policy,
    load_renderer,
    save_judge,
)
from genrm_lightning.policy import Policy
from genrm_lightning.prefix import Branch, PrefixBatch, Tree, collate
from genrm_lightning.rendering import Renderer

WAYS = {
    "full": {"lora": None},
    "layers": {"lora": None, "train_layers": 1},
    "lora": {"lora": LoraSettings(rank=4)},
}


def settings(folder: Path, **more) -> BackboneSettings:
    return BackboneSettings(**{"name": str(folder), "lora": None, **more})


def batch(renderer: Renderer) -> PrefixBatch:
    prompt = renderer.prompt([{"role": "system", "content": "Compare."}, {"role": "user", "content": "a or b?"}])
    branches = [renderer.completion("it is short", Verdict.A), Branch.scored(renderer.response("a red fox"))]
    return collate([Tree("p", prompt, branches)], renderer.pad_id, tuple(renderer.letter_ids.values()))


def disturb(policy: Policy, seed: int = 0) -> Policy:
    """Move every trained weight, as a fit would."""
    draw = torch.Generator().manual_seed(seed)
    for parameter in policy.parameters():
        if parameter.requires_grad:
            parameter.data += 0.05 * torch.randn(parameter.shape, generator=draw)
    return policy


def says(policy: Policy, renderer: Renderer) -> list[float]:
    """Log-probabilities, rewards, and p(A) behind the rationale."""
    with torch.no_grad():
        output = policy.eval()(batch(renderer))
    a, b = batch(renderer).letters(output.logps)
    return [
        *output.logps.tolist(),
        *([] if output.rewards is None else output.rewards.flatten().tolist()),
        *(a - b).sigmoid().tolist(),
    ]


@pytest.fixture(scope="module")
def judges(tiny_llama, tmp_path_factory) -> dict[str, tuple[Path, list[float]]]:
    """A saved reward model of every way to train, with what it said before it was saved."""
    made = {}
    renderer = load_renderer(str(tiny_llama))
    for way, choice in WAYS.items():
        folder = tmp_path_factory.mktemp("judges") / way
        policy = disturb(load_policy(settings(tiny_llama, **choice), scores=1))
        save_judge(policy, renderer, folder, settings(tiny_llama, **choice), objective="BradleyTerry")
        made[way] = folder, says(policy, renderer)
    return made


_READ = """
import json, sys, torch
from genrm_lightning.backbone import load_judge, load_renderer
from tests.test_backbone import says
torch.manual_seed(int(sys.argv[1]))
print(json.dumps([says(load_judge(f, torch.float32, scores=1), load_renderer(f)) for f in sys.argv[2:]]))
"""


def test_a_fresh_process_gives_the_same_scores(judges):
    folders = [str(folder) for folder, _ in judges.values()]
    done = subprocess.run([sys.executable, "-c", _READ, "7", *folders], capture_output=True, text=True, check=True)
    for found, (way, (_, expected)) in zip(json.loads(done.stdout), judges.items(), strict=True):
        assert found == pytest.approx(expected, abs=2e-5), way  # merged adapters round differently


@pytest.mark.parametrize("way", WAYS)
def test_a_judge_goes_on_where_it_stopped(judges, way):
    folder, expected = judges[way]
    policy = load_policy(settings(folder, **WAYS[way]), scores=1)
    assert says(policy, load_renderer(str(folder))) == pytest.approx(expected, abs=1e-5)


def test_a_judge_with_an_adapter_goes_on_with_it(judges, tiny_llama, tmp_path):
    folder, expected = judges["lora"]
    for choice in ({"lora": None}, {"lora": LoraSettings(rank=16)}):
        policy = load_policy(settings(folder, **choice), scores=1)
        assert says(policy, load_renderer(str(folder))) == pytest.approx(expected, abs=1e-5)
        trained = [n for n, p in policy.named_parameters() if p.requires_grad]
        assert all("lora_" in n or n == "head.weight" for n in trained)
        assert len(trained) == 2 * 7 * 2 + 1  # A and B of seven matrices in two layers, and the head
    again = tmp_path / "again"
    save_judge(disturb(policy, 1), load_renderer(str(folder)), again, settings(folder))
    assert judge_info(again)["base"] == str(tiny_llama)  # not the judge that it began from
    read = load_judge(str(again), torch.float32, scores=1)
    assert says(read, load_renderer(str(again))) == pytest.approx(says(policy, load_renderer(str(again))), abs=2e-5)


def test_an_adapter_over_a_fully_trained_judge_resolves_to_it(judges, tmp_path, monkeypatch):
    full, _ = judges["full"]
    monkeypatch.chdir(full.parent)
    choice = settings(full.name, lora=LoraSettings(rank=4))  # a relative name
    renderer = load_renderer(full.name)
    policy = disturb(load_policy(choice, scores=1), 2)
    save_judge(policy, renderer, tmp_path / "judge", choice)
    monkeypatch.chdir(tmp_path)
    assert judge_info("judge")["base"] == str(full)
    assert says(load_judge("judge", torch.float32, scores=1), renderer) == pytest.approx(
        says(policy, renderer), abs=2e-5
    )


def test_a_saved_model_is_one_that_others_can_read(judges):
    folder, _ = judges["full"]
    config = json.loads((folder / "config.json").read_text())
    assert "genrm_tree" not in json.dumps(config)
    assert config["pad_token_id"] == 0
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    assert model.config._attn_implementation == "sdpa"
    info = judge_info(folder)
    assert info["objective"] == "BradleyTerry"
    assert info["adapter"] is False
    assert {p.name for p in judges["lora"][0].iterdir()} >= {
        "adapter_model.safetensors",
        "head.safetensors",
        "genrm.json",
    }
    assert not (judges["lora"][0] / "model.safetensors").exists()


def test_a_model_that_pads_with_its_end_token_is_saved_with_another(tiny_llama, tmp_path):
    policy = load_policy(settings(tiny_llama))
    policy.base.config.pad_token_id = policy.base.generation_config.pad_token_id = policy.base.config.eos_token_id
    save_judge(policy, load_renderer(str(tiny_llama)), tmp_path / "judge", settings(tiny_llama))
    for file in ("config.json", "generation_config.json"):
        assert json.loads((tmp_path / "judge" / file).read_text())["pad_token_id"] == 0


def test_another_template_than_the_judges_is_refused(judges, tmp_path):
    folder = shutil.copytree(judges["full"][0], tmp_path / "judge")
    template = folder / "chat_template.jinja"
    template.write_text(template.read_text().replace("assistant", "judge"))
    with pytest.raises(UserError, match="genrm.json: template_hash .* restore the tokenizer files"):
        load_renderer(str(folder))


def test_what_is_trained_is_float32_and_the_rest_as_asked(tiny_llama):
    for way, choice in WAYS.items():
        policy = load_policy(settings(tiny_llama, dtype="bfloat16", **choice), scores=1)
        kinds = {(p.requires_grad, p.dtype) for p in policy.parameters()}
        frozen = set() if way == "full" else {(False, torch.bfloat16)}
        assert kinds == {(True, torch.float32)} | frozen, way


@pytest.mark.parametrize("way", WAYS)
def test_what_is_trained_is_loaded_as_it_was_saved(judges, way):
    """A chain of fits with frozen weights in bf16 must not round what it trains at every joint."""
    folder, _ = judges[way]
    stored = {}
    for file in folder.glob("*model.safetensors"):
        stored |= load_file(file)
    policy = load_policy(settings(folder, dtype="bfloat16", **WAYS[way]), scores=1)
    compared = 0
    for name, parameter in policy.named_parameters():
        if parameter.requires_grad and name != "head.weight":
            assert torch.equal(parameter, stored[name.removeprefix("lm.").replace(".default.", ".")]), name
            compared += not torch.equal(parameter, parameter.bfloat16().float())
    assert compared > (8 if way != "layers" else 5), "weights that bf16 would have rounded"
    if way == "layers":
        embeddings = policy.lm.get_input_embeddings().weight
        assert embeddings is policy.lm.get_output_embeddings().weight and embeddings.dtype == torch.bfloat16
        buffers = dict(load_policy(settings(folder)).named_buffers())
        assert buffers and all(torch.equal(buffers[n], b) for n, b in policy.named_buffers())


def test_train_layers_trains_from_the_top(tiny_llama):
    policy = load_policy(settings(tiny_llama, train_layers=1))
    trained = {n for n, p in policy.named_parameters() if p.requires_grad}
    assert trained
    assert all(n.startswith("lm.model.layers.1.") for n in trained)
    for wrong in (0, 3, -1):
        with pytest.raises(UserError, match=f"backbone.train_layers: {wrong} is not in 1..2"):
            load_policy(settings(tiny_llama, train_layers=wrong))


def test_a_reward_model_does_not_train_a_head_it_never_uses(tmp_path):
    from tests.tiny import make_tiny_llama

    folder = make_tiny_llama(tmp_path / "untied")
    model = AutoModelForCausalLM.from_pretrained(folder, tie_word_embeddings=False)
    model.save_pretrained(folder)
    assert not load_policy(settings(folder), scores=1).lm.lm_head.weight.requires_grad
    assert load_policy(settings(folder)).lm.lm_head.weight.requires_grad


def test_a_missing_model_is_one_line(tmp_path, tiny_llama, judges):
    empty = tmp_path / "empty"
    empty.mkdir()
    for name in (tmp_path / "nowhere", empty):
        for read in (lambda n=name: load_policy(settings(n)), lambda n=name: load_renderer(str(n))):
            with pytest.raises(UserError, match="backbone.name: no (model|tokenizer) in") as error:
                read()
            assert "\n" not in str(error.value)
    broken = shutil.copytree(tiny_llama, tmp_path / "broken")
    (broken / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(UserError, match="backbone.name: no model in"):
        load_policy(settings(broken))
    judge = shutil.copytree(judges["full"][0], tmp_path / "cut")
    (judge / "genrm.json").write_text("{")
    with pytest.raises(UserError, match="genrm.json: not valid JSON"):
        load_policy(settings(judge))


def test_a_judge_without_a_reward_head_cannot_score(tiny_llama):
    with pytest.raises(UserError, match="holds no reward model"):
        load_judge(str(tiny_llama), torch.float32, scores=1)


def changed(folder: Path, target: Path, file: str = "config.json", **keys) -> Path:
    """A copy of a model's folder with other values in one of its JSON files."""
    shutil.copytree(folder, target)
    (target / file).write_text(json.dumps(json.loads((target / file).read_text()) | keys))
    return target


def test_layers_beside_adapters_are_refused():
    with pytest.raises(UserError, match="backbone.train_layers: .* set backbone.lora: null"):
        BackboneSettings(train_layers=2)


@pytest.mark.parametrize(
    ("key", "value"), [("rank", 0), ("rank", -1), ("alpha", 0), ("alpha", float("nan")), ("dropout", 1.0)]
)
def test_adapters_out_of_range(key, value):
    with pytest.raises(UserError, match=f"backbone.lora.{key}: {value} is not"):
        LoraSettings(**{key: value})


def test_adapters_that_fit_no_module_are_one_line(tiny_llama):
    with pytest.raises(UserError, match="backbone.lora.targets: .'nothing'. fits no module of") as error:
        load_policy(settings(tiny_llama, lora=LoraSettings(targets=["nothing"])))
    assert "\n" not in str(error.value)


def test_an_adapter_of_another_rank_is_one_line(judges, tmp_path):
    folder = changed(judges["lora"][0], tmp_path / "judge", "adapter_config.json", r=8)
    for read in (lambda: load_policy(settings(folder)), lambda: load_judge(str(folder), torch.float32)):
        with pytest.raises(UserError, match="the adapter in '.*' does not fit its base") as error:
            read()
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("keys", "refused"),
    [
        ({"sliding_window": 64}, True),  # Mistral has no layer_types: every layer slides
        ({"sliding_window": 64, "use_sliding_window": True, "layer_types": ["full_attention"] * 2}, False),
        ({"sliding_window": 64, "layer_types": ["full_attention", "sliding_attention"]}, True),
        ({"sliding_window": 64, "use_sliding_window": False}, False),
        ({"sliding_window": 2048}, False),  # as far as the context: no window at all
        ({"sliding_window": None}, False),
    ],
)
def test_a_window_below_the_context_is_refused(tiny_llama, tmp_path, keys, refused):
    folder = changed(tiny_llama, tmp_path / "sliding", **keys)
    with pytest.raises(UserError, match="sliding-window") if refused else contextlib.nullcontext():
        load_policy(settings(folder))


def test_logits_that_this_forward_would_get_wrong_are_refused(tiny_llama, tmp_path):
    folder = shutil.copytree(tiny_llama, tmp_path / "scaled")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "logits_scaling": 8.0}))
    with pytest.raises(UserError, match="not a plain matrix .logits_scaling."):
        load_policy(settings(folder))


def test_settings_of_a_judge_are_kept_beside_it(judges, tiny_llama):
    kept = judge_info(judges["lora"][0])["backbone"]
    assert kept == {
        "name": str(tiny_llama),
        "lora": {"rank": 4, "alpha": 32, "dropout": 0.0, "targets": "all-linear"},
        "train_layers": None,
        "dtype": "float32",
        "gradient_checkpointing": False,
    }


def test_positions_keep_their_precision_in_a_merged_judge(judges):
    """A bf16 judge rounds weights; its rotary frequencies stay float32, as in a judge that was not merged."""
    for way in ("lora", "full"):
        base = load_judge(str(judges[way][0]), torch.bfloat16, scores=1).base
        assert base.dtype == torch.bfloat16
        assert base.get_decoder().rotary_emb.inv_freq.dtype == torch.float32, way


def test_what_an_adapter_cannot_train_is_refused(judges, tiny_llama):
    with pytest.raises(UserError, match="backbone.train_layers: .* is a judge with an adapter"):
        load_policy(BackboneSettings(str(judges["lora"][0]), lora=None, train_layers=1))
    with pytest.raises(UserError, match="backbone.lora.targets: the vocabulary head takes no adapter"):
        load_policy(settings(tiny_llama, lora=LoraSettings(targets=["q_proj", "lm_head"])))
