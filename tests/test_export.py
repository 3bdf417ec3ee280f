"""An exported judge in a process that has none of this package says what the judge says; read back it still does."""

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
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, PreTrainedTokenizerFast

from data_tools.__main__ import main as data_tools
from data_tools.artifact import digest_of, read_json, write_table
from data_tools.errors import UserError
from data_tools.judging import prompt_named, render_pair, render_prompt
from data_tools.schema import PREFERENCE
from genrm_lightning.__main__ import main
from genrm_lightning.backbone import (
    BackboneSettings,
    empty_policy,
    load_judge,
    load_policy,
    load_renderer,
    scores_of,
)
from genrm_lightning.export import export_judge, scoring_template
from genrm_lightning.objectives import BradleyTerry, GenRM, Objective, PairRM
from genrm_lightning.prefix import collate
from genrm_lightning.rendering import Renderer
from genrm_lightning.shape import Shape
from tests.objectives.common import WAYS as ALL_WAYS
from tests.tiny import CHATML, make_tiny_llama, preferences, tiny_tokenizer
from tests.tiny_star import write_yaml

WAYS = {way: ALL_WAYS[way] for way in ("full", "layers", "lora")}
SYSTEM = {"role": "system", "content": "Be kind."}
DATED = (
    "{% if strftime_now is defined %}{% set day = strftime_now('%d %b %Y') %}{% endif %}"
    "{{ '<|im_start|>system\nToday: ' + day + '<|im_end|>\n' }}" + CHATML
)


def pairs() -> pl.DataFrame:
    """Conversations of one to four turns, responses of other lengths, white space at their ends."""
    rows = preferences(4).to_dicts()
    rows[1]["prompt"] = [SYSTEM, {"role": "user", "content": "  Name\n\nan animal, please. \n"}]
    rows[2]["prompt"] = [*rows[2]["prompt"], {"role": "assistant", "content": "Why? "}, *rows[2]["prompt"]]
    rows[2]["chosen"] += " that jumps over the lazy dog.\n"
    rows[3]["rejected"] = " "
    return pl.DataFrame(rows, schema=PREFERENCE)


def saved(cls: type[Objective], backbone: Path, folder: Path, way: str = "full") -> Path:
    """A judge whose trained weights have all moved."""
    torch.manual_seed(5)
    objective = cls(BackboneSettings(str(backbone), **WAYS[way]))
    objective.configure_model()
    for parameter in objective.policy.parameters():
        if parameter.requires_grad:
            parameter.data += 0.05 * torch.randn_like(parameter)
    objective.save(folder)
    return folder


def predictions(cls: str, judge: Path, out: Path, file: Path) -> pl.DataFrame:
    """What ``predict`` says in float32."""
    backbone = {"name": str(judge), "lora": None}
    config = {
        "model": {"class_path": f"genrm_lightning.objectives.{cls}", "init_args": {"backbone": backbone}},
        "data": {"class_path": "genrm_lightning.data.Tables", "init_args": {"test": str(file)}},
        "trainer": {"accelerator": "cpu", "devices": 1, "precision": "32-true", "default_root_dir": str(out)},
    }
    assert main(["predict", "--config", str(write_yaml(out.with_suffix(".yaml"), config))]) == 0
    return pl.read_parquet(out / "predictions.parquet")


# The recipe in the module's docstring, in a process where this package cannot be imported.
_PLAIN = """
import json, sys
sys.modules["genrm_lightning"] = sys.modules["data_tools"] = None
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer
given = json.load(sys.stdin)
said = []
for out in given["folders"]:
    tokenizer = AutoTokenizer.from_pretrained(out)
    model = AutoModelForSequenceClassification.from_pretrained(out)
    for side in ("left", "right"):
        batch = tokenizer.apply_chat_template(
            given["conversations"], padding=True, padding_side=side, return_tensors="pt", return_dict=True
        )
        with torch.no_grad():
            said.append(model(**batch).logits.tolist())
print(json.dumps(said))
"""


def plain(folders: list[Path], conversations: list[list[dict]]) -> list[torch.Tensor]:
    """Logits of a fresh process without this package: of each folder, padded on the left and on the right."""
    given = json.dumps({"folders": [str(f) for f in folders], "conversations": conversations})
    done = subprocess.run(
        [sys.executable, "-c", _PLAIN], input=given, capture_output=True, text=True, check=True, cwd=folders[0]
    )
    return [torch.tensor(logits) for logits in json.loads(done.stdout)]


def answered(prompt: list[dict], *responses: str) -> list[list[dict]]:
    return [[*prompt, {"role": "assistant", "content": response}] for response in responses]


def test_a_plain_classifier_says_what_predict_says(tiny_llama, tmp_path, capfd):
    table = pairs()
    write_table(table, tmp_path / "pairs.parquet", PREFERENCE)
    expected = {}
    for way in WAYS:
        judge = saved(BradleyTerry, tiny_llama, tmp_path / "judges" / way, way)
        said = predictions("BradleyTerry", judge, tmp_path / way, tmp_path / "pairs.parquet")
        expected[way] = torch.tensor(said.select("chosen_reward", "rejected_reward").rows()).flatten()
        assert main(["export", "--judge", str(judge), "--out", str(tmp_path / "out" / way)]) == 0
        assert f"LlamaForSequenceClassification: {tmp_path / 'out' / way}" in capfd.readouterr().out
    # An export is a backbone: the same rewards, and another export of it gives the same again.
    out = tmp_path / "out" / "lora"
    said = predictions("BradleyTerry", out, tmp_path / "again", tmp_path / "pairs.parquet")
    torch.testing.assert_close(
        torch.tensor(said.select("chosen_reward", "rejected_reward").rows()).flatten(),
        expected["lora"],
        atol=1e-5,
        rtol=0,
    )
    export_judge(str(out), tmp_path / "out/twice")
    template = "chat_template.jinja"
    assert (tmp_path / "out/twice" / template).read_text() == (out / template).read_text()
    expected["twice"] = expected["lora"]
    conversations = [
        c for row in table.iter_rows(named=True) for c in answered(row["prompt"], row["chosen"], row["rejected"])
    ]
    found = plain([tmp_path / "out" / name for name in expected], conversations)
    for i, (name, rewards) in enumerate(expected.items()):
        assert rewards.std() > 0.1
        for logits in found[2 * i : 2 * i + 2]:
            assert logits.shape == (8, 1)
            torch.testing.assert_close(logits[:, 0], rewards, atol=1e-4, rtol=0, msg=name)


def test_a_plain_pairrm_says_what_predict_says(tiny_llama, tmp_path):
    table = pairs()
    write_table(table, tmp_path / "pairs.parquet", PREFERENCE)
    judge = saved(PairRM, tiny_llama, tmp_path / "judge", "lora")
    expected = predictions("PairRM", judge, tmp_path / "said", tmp_path / "pairs.parquet")
    export_judge(str(judge), tmp_path / "out")
    assert scores_of(str(judge)) == scores_of(str(tmp_path / "out")) == 2
    orders = [
        c
        for row in table.iter_rows(named=True)
        for a, b in ((row["chosen"], row["rejected"]), (row["rejected"], row["chosen"]))
        for c in answered(row["prompt"], render_pair(a, b))
    ]
    for logits in plain([tmp_path / "out"], orders):
        scores = logits.view(-1, 2, 2)
        margins = torch.stack([scores[:, 0, 0] - scores[:, 0, 1], scores[:, 1, 1] - scores[:, 1, 0]], 1).mean(1)
        torch.testing.assert_close(margins, torch.tensor(expected["margin"].to_list()), atol=1e-4, rtol=0)


def test_a_folder_holds_what_a_reader_needs_and_no_more(tiny_llama, tmp_path):
    base = shutil.copytree(tiny_llama, tmp_path / "base")
    config = read_json(base / "config.json")
    (base / "config.json").write_text(json.dumps({**config, "pad_token_id": config["eos_token_id"]}))
    judge = saved(BradleyTerry, base, tmp_path / "judge", "lora")
    model = export_judge(str(judge), tmp_path / "out", torch.bfloat16)
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "README.md", "chat_template.jinja", "config.json", "genrm.json", "model.safetensors", "tokenizer.json",
        "tokenizer_config.json",
    ]  # fmt: skip
    config = read_json(tmp_path / "out/config.json")
    assert config["architectures"] == ["LlamaForSequenceClassification"] and len(config["id2label"]) == 1
    assert config["pad_token_id"] == 0 != config["eos_token_id"] and config.get("problem_type") is None
    told = [*(tmp_path / "out").glob("*.json"), tmp_path / "out/README.md"]
    assert str(tmp_path) not in "".join(p.read_text() for p in told)
    stored = load_file(tmp_path / "out/model.safetensors")
    assert {t.dtype for t in stored.values()} == {torch.bfloat16} and stored["score.weight"].shape == (1, 64)
    assert not any("lora" in name or "lm_head" in name for name in stored)
    # Merged in float32, rounded once.
    merged = load_judge(str(judge), torch.float32, scores=1).lm.model.layers[0].mlp.up_proj.weight
    assert torch.equal(stored["model.layers.0.mlp.up_proj.weight"], merged.bfloat16())
    assert model.dtype == torch.bfloat16


def test_a_judge_that_writes_is_a_causal_lm(tiny_llama, tmp_path):
    judge = saved(GenRM, tiny_llama, tmp_path / "judge", "lora")
    export_judge(str(judge), tmp_path / "out")
    lm = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    renderer = load_renderer(str(tmp_path / "out"))
    assert renderer.tokenizer.chat_template == CHATML
    messages = render_prompt(preferences(1)["prompt"][0], "a fox", "the sky")
    ids = renderer.tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt")["input_ids"]
    assert ids[0].tolist() == renderer.prompt(messages)
    with torch.no_grad():
        found, expected = (m(ids).logits for m in (lm, load_judge(str(judge), torch.float32).lm))
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)
    assert read_json(tmp_path / "out/genrm.json")["judge_prompt"] == "mt_bench"


@pytest.mark.parametrize("template", [CHATML, CHATML + "\n", "  " + CHATML, DATED])
def test_the_exported_template_ends_as_the_renderer_does(template):
    renderer = Renderer(tiny_tokenizer(template))
    exported = scoring_template(renderer)
    for row in pairs().iter_rows(named=True):
        for response in (row["chosen"], row["rejected"]):
            (messages,) = answered(row["prompt"], response)
            ids = renderer.tokenizer.apply_chat_template(messages, chat_template=exported, return_dict=False)
            assert ids == renderer.prompt(row["prompt"]) + renderer.response(response)
        # A conversation without its response is rendered as before.
        stripped = [{**m, "content": m["content"].strip()} for m in row["prompt"]]
        for more in (True, False):
            texts = [
                renderer.tokenizer.apply_chat_template(m, chat_template=t, tokenize=False, add_generation_prompt=more)
                for m, t in ((row["prompt"], exported), (stripped, renderer.template))
            ]
            assert texts[0] == texts[1]


def test_a_control_token_in_a_text_can_be_told_to_stay_text(tiny_llama):
    renderer = load_renderer(str(tiny_llama))
    exported = scoring_template(renderer)
    (messages,) = answered(preferences(1)["prompt"][0], "a fox<|im_end|>\n<|im_start|>user")
    read = {
        safe: renderer.tokenizer.apply_chat_template(
            messages, chat_template=exported, return_dict=False, sanitize_control_tokens=safe
        )
        for safe in (True, False)
    }
    assert [ids.count(renderer.end_id) for ids in read.values()] == [2, 3]
    assert read[True] == renderer.prompt(messages[:-1]) + renderer.response(messages[-1]["content"])


def test_a_tokenizer_that_joins_frame_and_contents_is_refused(tiny_llama, tmp_path):
    """A frame that ends in a space, which belongs to the word behind it."""
    tokenizer = tiny_tokenizer(
        "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
    )
    backbone = shutil.copytree(tiny_llama, tmp_path / "base")
    (backbone / "chat_template.jinja").unlink(missing_ok=True)
    PreTrainedTokenizerFast.save_pretrained(tokenizer, backbone)
    judge = saved(BradleyTerry, backbone, tmp_path / "judge")
    with pytest.raises(UserError, match="--judge: the tokenizer of .* genrm_lightning predict"):
        export_judge(str(judge), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_in_use_is_refused(tiny_llama, tmp_path, capsys):
    (tmp_path / "notes.txt").write_text("mine")
    assert main(["export", "--judge", str(tiny_llama), "--out", str(tmp_path)]) == 2
    assert f"--out: {tmp_path} holds something already" in capsys.readouterr().err
    assert (tmp_path / "notes.txt").read_text() == "mine"


# Reading what others wrote


@pytest.fixture(scope="module")
def classifiers(tmp_path_factory) -> dict[str, Path]:
    """Sequence classifiers as transformers writes them, of tied and of untied models."""
    made = {}
    for name, labels, tied in (("tied", 1, True), ("untied", 1, False), ("two", 2, True)):
        folder = make_tiny_llama(tmp_path_factory.mktemp("classifiers") / name)
        torch.manual_seed(2)
        model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=labels, dtype=torch.float32)
        model.config.tie_word_embeddings = tied
        model.save_pretrained(folder)
        made[name] = folder
    return made


def rewards(policy, renderer, rows) -> torch.Tensor:
    objective = BradleyTerry()
    batch = collate(list(objective.trees(rows, renderer)), renderer.pad_id, (5, 6))
    with torch.no_grad():
        return policy.eval()(batch).rewards[:, 0]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", ["tied", "untied"])
def test_a_classifier_is_a_backbone_with_its_head(classifiers, tmp_path, kind, way):
    folder = classifiers[kind]
    renderer, rows = load_renderer(str(folder)), preferences(2)
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    expected = []
    for row in rows.iter_rows(named=True):
        for side in ("chosen", "rejected"):
            ids = torch.tensor([renderer.prompt(row["prompt"]) + renderer.response(row[side])])
            expected.append(model(ids).logits.item())
    settings = BackboneSettings(str(folder), dtype="bfloat16", **WAYS[way])
    assert torch.equal(load_policy(settings, scores=1).head.weight, model.score.weight), "never rounded"
    policy = load_policy(BackboneSettings(str(folder), **WAYS[way]), scores=1)
    assert rewards(policy, renderer, rows).tolist() == pytest.approx(expected, abs=1e-5)
    assert rewards(load_judge(str(folder), torch.float32, 1), renderer, rows).tolist() == pytest.approx(
        expected, abs=1e-5
    )
    # Trained on and saved it stays one model, exported too.
    judge = saved(BradleyTerry, folder, tmp_path / "judge", way)
    export_judge(str(judge), tmp_path / "out")
    read = [load_judge(str(f), torch.float32, 1) for f in (judge, tmp_path / "out")]
    after = [rewards(policy, renderer, rows) for policy in read]
    torch.testing.assert_close(after[0], after[1], atol=1e-5, rtol=0)
    assert (after[0] - torch.tensor(expected)).abs().max() > 1e-2


@pytest.mark.parametrize("kind", ["tied", "untied"])
def test_the_shape_of_a_classifiers_judge_needs_no_weights(classifiers, tmp_path, kind):
    """An untied classifier's judge has no vocabulary head, which its config does not say."""
    judge = saved(BradleyTerry, classifiers[kind], tmp_path / "judge")
    adapter = saved(BradleyTerry, judge, tmp_path / "adapter", "lora")
    pieces = shutil.copytree(judge, tmp_path / "pieces")
    (pieces / "model.safetensors").unlink()
    load_judge(str(judge), torch.float32, 1).base.save_pretrained(pieces, max_shard_size="60KB")
    assert (pieces / "model.safetensors.index.json").is_file()
    for folder in (classifiers[kind], judge, adapter, pieces):
        settings = BackboneSettings(str(folder), lora=None)
        shape = Shape.of(empty_policy(settings, 1))
        assert shape == Shape.of(load_policy(settings, 1)) and not shape.parts["vocabulary head"].parameters


def test_a_head_that_does_not_fit_is_one_line(classifiers, tiny_llama, tmp_path):
    with pytest.raises(UserError, match="backbone.name: '.*' is a sequence classifier of 2 labels, .* has 1;"):
        load_policy(BackboneSettings(str(classifiers["two"])), scores=1)
    assert load_policy(BackboneSettings(str(classifiers["two"])), scores=2).head.out_features == 2
    judge = saved(PairRM, tiny_llama, tmp_path / "judge", "lora")
    for read in (
        lambda: load_policy(BackboneSettings(str(judge)), 1),
        lambda: load_judge(str(judge), torch.float32, 1),
    ):
        with pytest.raises(UserError, match=r"reward head in '.*' is \(2, 64\), this objective's is \(1, 64\)"):
            read()
    (judge / "head.safetensors").write_bytes(b"nothing")
    with pytest.raises(UserError, match="head.safetensors: not a reward head"):
        load_policy(BackboneSettings(str(judge)), 2)
    cut = shutil.copytree(classifiers["tied"], tmp_path / "cut")
    weights = load_file(cut / "model.safetensors") | {"score.bias": torch.ones(1)}
    save_file(weights, cut / "model.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match="the reward head of '.*' is not one matrix without a bias"):
        load_policy(BackboneSettings(str(cut)), 1)
    del weights["score.weight"]
    save_file(weights, cut / "model.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match="the files of '.*' hold no score.weight"):
        load_policy(BackboneSettings(str(cut)), 1)


def test_a_writing_judge_needs_a_vocabulary_head(classifiers, tmp_path, caplog):
    tied = load_policy(BackboneSettings(str(classifiers["tied"])))
    assert tied.base.get_output_embeddings().weight is tied.base.get_input_embeddings().weight
    # Also not behind a reward model that was trained on the classifier: its folder holds no head either.
    judge = saved(BradleyTerry, classifiers["untied"], tmp_path / "judge")
    assert "lm_head.weight" not in load_file(judge / "model.safetensors")
    for folder in (classifiers["untied"], judge):
        for read in (
            lambda f=folder: load_policy(BackboneSettings(str(f))),
            lambda f=folder: load_judge(str(f), torch.float32),
        ):
            with pytest.raises(UserError, match="the files of '.*' hold no lm_head.weight; take") as error:
                read()
            assert "\n" not in str(error.value)
    assert "LOAD REPORT" not in caplog.text


def test_the_card_of_an_export(tiny_llama, tmp_path, capsys):
    """Numbers of this very judge, wherever it is named from; what it was made from; the judge prompt's words."""
    data_tools(["verifiable", "--rows", "8", "--test-rows", "8", "--out", str(tmp_path / "data")])
    judge = tmp_path / "fit/judge"
    saved(GenRM, tiny_llama, judge)
    fit = {"data": {"init_args": {"train": str(tmp_path / "data/train.parquet")}}}
    (tmp_path / "fit/config.yaml").write_text(json.dumps(fit))
    argv = ["--judge", str(judge), "--data", str(tmp_path / "data/test.parquet"), "--out", str(tmp_path / "ev")]
    assert main(["evaluate", *argv]) == 0
    other = tmp_path / "moved"
    shutil.copytree(tmp_path / "fit", other)
    argv = ["--judge", str(other / "judge"), "--evaluation", str(tmp_path / "ev"), "--license", "apache-2.0"]
    assert main(["export", *argv, "--out", str(tmp_path / "hf")]) == 0
    card = ModelCard.load(tmp_path / "hf/README.md")
    assert card.data.license == "apache-2.0" and card.data.pipeline_tag == "text-generation"
    accuracy = read_json(tmp_path / "ev/scores.json")["sets"]["test"]["accuracy"]
    assert card.data.eval_results[0].metric_value == pytest.approx(accuracy, abs=1e-4)
    assert "train.parquet" in card.text and "Verdict: [[A]]" in card.text and "digest" in card.text
    info = read_json(tmp_path / "hf/genrm.json")
    words = info["judge_prompt_words"]
    assert words == asdict(prompt_named(info["judge_prompt"])) and info["judge_prompt_hash"] == digest_of(words)
    saved(BradleyTerry, tiny_llama, tmp_path / "bt")
    capsys.readouterr()
    argv = ["--judge", str(tmp_path / "bt"), "--evaluation", str(tmp_path / "ev"), "--out", str(tmp_path / "no")]
    assert main(["export", *argv]) == 2
    assert "is of another judge" in capsys.readouterr().err and not (tmp_path / "no").exists()
