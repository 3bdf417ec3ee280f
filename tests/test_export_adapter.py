"""An adapter alone, on its base in a process that has none of this package, says what the judge says."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import polars as pl
import pytest
import torch
from huggingface_hub import ModelCard
from safetensors.torch import load_file, save_file

from data_tools.artifact import digest_of, read_json
from data_tools.errors import UserError
from data_tools.judging import prompt_named, render_pair, render_prompt
from data_tools.order import responses
from genrm_lightning.__main__ import main
from genrm_lightning.backbone import BackboneSettings, LoraSettings, load_judge, load_policy, load_renderer, scores_of
from genrm_lightning.export import export_judge
from genrm_lightning.export_adapter import export_adapter
from genrm_lightning.judges.choice import judge_of
from genrm_lightning.objectives import BradleyTerry, GenRM, Objective, PairRM, STaRSFT
from genrm_lightning.samplers.base import SamplingSettings
from tests.test_export import answered, pairs
from tests.tiny import make_tiny_llama

JUDGES = {"BradleyTerry": BradleyTerry, "PairRM": PairRM, "GenRM": GenRM, "STaRSFT": STaRSFT}


def saved(cls: type[Objective], backbone: Path, folder: Path, lora: LoraSettings | None = None) -> Path:
    """A judge with an adapter whose trained weights have all moved."""
    torch.manual_seed(5)
    objective = cls(BackboneSettings(str(backbone), lora=lora or LoraSettings(rank=4, dropout=0.2)))
    objective.configure_model()
    for parameter in objective.policy.parameters():
        if parameter.requires_grad:
            parameter.data += 0.05 * torch.randn_like(parameter)
    objective.save(folder)
    return folder


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A base whose config says pad = end (and that a classifier would so read wrongly), and a judge of each kind."""
    folder = tmp_path_factory.mktemp("adapters")
    base = make_tiny_llama(folder / "base")
    config = read_json(base / "config.json")
    (base / "config.json").write_text(json.dumps({**config, "pad_token_id": config["eos_token_id"]}))
    for name, cls in JUDGES.items():
        saved(cls, base, folder / name)
    return folder


# The recipes of the cards, in a process where this package cannot be imported.
_PLAIN = """
import json, sys
sys.modules["genrm_lightning"] = sys.modules["data_tools"] = None
import torch
from peft import AutoPeftModelForCausalLM, AutoPeftModelForSequenceClassification, PeftModel
from transformers import AutoModelForSequenceClassification, AutoTokenizer
given = json.load(sys.stdin)
said = {}
for name, labels in (("BradleyTerry", 1), ("PairRM", 2)):
    folder = given["folders"][name]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    own = {"num_labels": labels, "pad_token_id": tokenizer.pad_token_id, "dtype": "float32"}
    base = AutoModelForSequenceClassification.from_pretrained(given["base"], **own)
    for model in (
        AutoPeftModelForSequenceClassification.from_pretrained(folder, **own),
        PeftModel.from_pretrained(base, folder),
    ):
        for side in ("left", "right"):
            batch = tokenizer.apply_chat_template(
                given[name], padding=True, padding_side=side, return_tensors="pt", return_dict=True
            )
            with torch.no_grad():
                said.setdefault(name, []).append(model(**batch).logits.tolist())
for name in ("GenRM", "STaRSFT"):
    folder = given["folders"][name]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoPeftModelForCausalLM.from_pretrained(folder, dtype="float32")
    letters = [tokenizer.encode(letter, add_special_tokens=False)[0] for letter in "AB"]
    for messages, begun in given[name]:
        ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
        ids += begun or tokenizer.encode("Verdict: [[", add_special_tokens=False)
        with torch.no_grad():
            logits = model(torch.tensor([ids])).logits[0, -1, letters]
        said.setdefault(name, []).append(logits.softmax(-1)[0].item())
json.dump(said, sys.stdout)
"""


def shown(row: dict, judge: Path) -> list[dict]:
    """The judge prompt of a judgment's presentation."""
    pair = pairs().row(by_predicate=pl.col("pair_id") == row["pair_id"], named=True)
    a, b, _ = responses(pair["pair_id"], row["swapped"], pair["chosen"], pair["rejected"])
    return render_prompt(pair["prompt"], a, b, read_json(judge / "genrm.json")["judge_prompt"])


def test_a_plain_adapter_says_what_the_judge_says(place, tmp_path):
    table, judged, out = pairs(), {}, tmp_path / "out"
    for name in JUDGES:
        judge = judge_of(str(place / name), dtype="float32", sampling=SamplingSettings(1, rationale_tokens=12))
        judged[name] = judge.judge_now(table, "pairs")
        judge.close()
        export_adapter(str(place / name), out / name)
    close = load_renderer(str(place / "STaRSFT")).close_ids
    rows = {name: judged[name].judgments.to_dicts() for name in ("GenRM", "STaRSFT")}
    assert any(row["rationale"] for row in rows["STaRSFT"])
    given = {
        "base": str(place / "base"),
        "folders": {name: str(out / name) for name in JUDGES},
        "BradleyTerry": [
            c for row in table.to_dicts() for c in answered(row["prompt"], row["chosen"], row["rejected"])
        ],
        "PairRM": [
            c
            for row in table.to_dicts()
            for a, b in ((row["chosen"], row["rejected"]), (row["rejected"], row["chosen"]))
            for c in answered(row["prompt"], render_pair(a, b))
        ],
        "GenRM": [[shown(row, place / "GenRM"), None] for row in rows["GenRM"]],
        "STaRSFT": [
            [shown(row, place / "STaRSFT"), row["token_ids"][: -1 - len(close)]] for row in rows["STaRSFT"]
        ],
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", _PLAIN], input=json.dumps(given), capture_output=True, text=True, check=True, cwd=out
    )
    said = {name: torch.tensor(values) for name, values in json.loads(done.stdout).items()}
    expected = torch.tensor(judged["BradleyTerry"].rewards.select("chosen_reward", "rejected_reward").rows())
    assert said["BradleyTerry"].shape == (4, 8, 1) and expected.std() > 0.1
    for logits in said["BradleyTerry"]:  # two ways to load it, padded on either side
        torch.testing.assert_close(logits.view(-1, 2), expected, atol=1e-4, rtol=0)
    expected = judged["PairRM"].rewards.select(pl.col("chosen_reward") - pl.col("rejected_reward")).to_series()
    for logits in said["PairRM"].view(4, -1, 2, 2):
        margins = (logits[:, 0, 0] - logits[:, 0, 1] + logits[:, 1, 1] - logits[:, 1, 0]) / 2
        torch.testing.assert_close(margins, torch.tensor(expected.to_list()), atol=1e-4, rtol=0)
    for name in rows:
        expected = torch.tensor([row["p_a"] for row in rows[name]])
        assert expected.std() > 0.01
        torch.testing.assert_close(said[name], expected, atol=1e-4, rtol=0)


def test_a_folder_holds_an_adapter_and_no_more(place, tmp_path, capsys):
    argv = ["export", "--judge", str(place / "BradleyTerry"), "--adapter", "true", "--dtype", "bfloat16"]
    assert main([*argv, "--base", "owner/model", "--license", "mit", "--out", str(tmp_path / "named")]) == 0
    assert capsys.readouterr().out == f"SEQ_CLS adapter of rank 4: {tmp_path / 'named'}\n"
    folder = tmp_path / "named"
    assert sorted(p.name for p in folder.iterdir()) == [
        "README.md", "adapter_config.json", "adapter_model.safetensors", "chat_template.jinja", "genrm.json",
        "tokenizer.json", "tokenizer_config.json",
    ]  # fmt: skip
    config, info = read_json(folder / "adapter_config.json"), read_json(folder / "genrm.json")
    assert config["base_model_name_or_path"] == info["base"] == "owner/model" and info["adapter"] is True
    assert (config["task_type"], config["modules_to_save"], config["inference_mode"]) == ("SEQ_CLS", ["score"], True)
    stored = load_file(folder / "adapter_model.safetensors")
    assert {t.dtype for t in stored.values()} == {torch.bfloat16}
    assert stored["base_model.model.score.weight"].shape == (1, 64)
    # Where the base lay on this machine stands nowhere.
    assert not any(str(place) in path.read_text() for path in folder.iterdir() if path.suffix != ".safetensors")
    card = ModelCard.load(folder / "README.md")
    assert (card.data.library_name, card.data.base_model, card.data.license) == ("peft", "owner/model", "mit")
    assert "num_labels=1, pad_token_id" in card.text and "machine" not in card.text
    # A base that is not named is one of this machine: said, and in the card by its end alone.
    assert main([*argv, "--out", str(tmp_path / "here")]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[1].startswith(f"base: {place / 'base'}, a folder of this machine; ") and "--base" in said[1]
    card = ModelCard.load(tmp_path / "here/README.md")
    assert card.data.base_model is None and "PeftModel.from_pretrained(base, folder)" in card.text
    assert str(place) not in str(card)
    assert read_json(tmp_path / "here/adapter_config.json")["base_model_name_or_path"] == str(place / "base")


@pytest.mark.parametrize("adapter", [True, False])
def test_a_base_that_is_named_by_a_folder_shows_its_end_alone(place, tmp_path, adapter):
    """Also by a relative one, and of a merged model, whose card names its base, too."""
    base = shutil.copytree(place / "base", tmp_path / "deep/copy")
    function = export_adapter if adapter else export_judge
    for name, shown in ((str(base), "copy"), ("owner/model", "owner/model")):
        out = tmp_path / shown.replace("/", "-")
        function(str(place / "GenRM"), out, base=name)
        card = ModelCard.load(out / "README.md")
        assert f"| base | `{shown}` |" in card.text and str(tmp_path) not in str(card)
        assert card.data.base_model == (name if name == "owner/model" else None)
    assert read_json(tmp_path / "copy/genrm.json").get("base") == (str(base) if adapter else None)


def test_the_judge_prompt_goes_out_with_a_judge_that_writes(place, tmp_path):
    export_adapter(str(place / "STaRSFT"), tmp_path / "out")
    info = read_json(tmp_path / "out/genrm.json")
    assert info["judge_prompt_words"] == asdict(prompt_named(info["judge_prompt"]))
    assert info["judge_prompt_hash"] == digest_of(info["judge_prompt_words"])
    assert read_json(tmp_path / "out/adapter_config.json")["task_type"] == "CAUSAL_LM"
    template = (tmp_path / "out/chat_template.jinja").read_text()
    assert template == load_renderer(str(place / "STaRSFT")).template
    assert "AutoPeftModelForCausalLM" in (tmp_path / "out/README.md").read_text()


@pytest.mark.parametrize(("name", "scores"), [("BradleyTerry", 1), ("PairRM", 2), ("GenRM", 0)])
def test_an_exported_adapter_is_a_judge(place, tmp_path, name, scores):
    """It is read, exported and gone on with as the judge that it was made from."""
    judge, out, merged = place / name, tmp_path / "out", tmp_path / "merged"
    export_adapter(str(judge), out)
    assert scores_of(str(out)) == scores
    export_adapter(str(out), tmp_path / "twice")
    for file in ("adapter_model.safetensors", "adapter_config.json", "chat_template.jinja", "README.md"):
        assert (out / file).read_bytes() == (tmp_path / "twice" / file).read_bytes(), file
    expected = load_judge(str(judge), torch.float32, scores).state_dict()
    export_judge(str(out), merged)
    settings = BackboneSettings(str(out), lora=None)
    for found in (load_judge(str(out), torch.float32, scores), load_judge(str(merged), torch.float32, scores)):
        for key, weight in found.state_dict().items():
            torch.testing.assert_close(weight, expected[key], atol=1e-6, rtol=0, msg=key)
    # The next fit may be of another objective: its reference is a frozen copy of this adapter.
    policy = load_policy(settings, reference=True)
    adapters = {n: p for n, p in policy.lm.named_parameters() if "lora_" in n}
    copies = {n: p for n, p in adapters.items() if ".reference." in n}
    assert copies and not any(p.requires_grad for p in copies.values())
    for key, copied in copies.items():
        own = adapters[key.replace(".reference.", ".default.")]
        assert own.requires_grad and torch.equal(copied, own)


def test_what_cannot_be_an_adapter_is_one_line(place, judges, tmp_path, capsys):
    other = make_tiny_llama(tmp_path / "other", layers=3)
    broken = shutil.copytree(place / "GenRM", tmp_path / "broken")
    (broken / "adapter_model.safetensors").write_bytes(b"nothing")
    unfit = shutil.copytree(place / "PairRM", tmp_path / "unfit")
    stored = load_file(unfit / "adapter_model.safetensors")
    save_file({k: v for k, v in stored.items() if "q_proj" not in k}, unfit / "adapter_model.safetensors")
    headless = shutil.copytree(place / "PairRM", tmp_path / "headless")
    (headless / "head.safetensors").unlink()
    empty = shutil.copytree(place / "GenRM", tmp_path / "empty")
    (empty / "adapter_config.json").write_text("{}")
    nameless = shutil.copytree(place / "GenRM", tmp_path / "nameless")
    (nameless / "genrm.json").write_text('{"adapter": true}')
    for flags, said in (
        (["--judge", str(judges / "BradleyTerry")], "was not trained with LoRA, it has no adapter of its own; leave"),
        (["--judge", str(place / "base")], "was not trained with LoRA"),
        (
            ["--judge", str(place / "GenRM"), "--base", str(other)],
            f"--base: '{other}' has not the shapes of the model that",
        ),
        (
            ["--judge", str(place / "GenRM"), "--base", "./nowhere"],
            "--base: './nowhere' is no folder and can be no hub",
        ),
        (["--judge", str(headless)], "head.safetensors: no such file"),
        (["--judge", str(empty)], f"--adapter: that of '{empty}' does not fit"),
        (["--judge", str(nameless)], "genrm.json: says nothing of a judge, or of its adapter's base"),
        (["--judge", str(broken)], "--judge: the adapter in"),
        (["--judge", str(unfit)], f"--adapter: that of '{unfit}' does not fit"),
        (["--judge", str(place / "GenRM"), "--out", str(place)], "holds something already"),
    ):
        assert main(["export", "--adapter", "true", "--out", str(tmp_path / "out"), *flags]) == 2
        error = capsys.readouterr().err
        assert said in error and error.count("\n") == 1
        assert not (tmp_path / "out").exists()
    with pytest.raises(UserError, match="no such file|no model in"):
        export_adapter(str(place / "GenRM"), tmp_path / "out", base=str(tmp_path / "broken"))
