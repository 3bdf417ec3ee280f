"""What a checkpoint holds and refuses; what a saved judge says it is."""

from __future__ import annotations

from dataclasses import asdict, replace

import pytest
import torch

from data_tools.errors import UserError
from genrm_lightning.backbone import LoraSettings, judge_info, load_renderer
from genrm_lightning.data import Tables
from tests.objectives.common import backbone, make
from tests.tiny import make_trainer


@pytest.mark.parametrize("way, trained", [("full", 20), ("layers", 9), ("lora", 28)])
def test_a_checkpoint_holds_what_is_trained_and_no_code(tiny_llama, tmp_path, files, way, trained):
    objective = make("bradley_terry", tiny_llama, way)
    trainer = make_trainer(tmp_path)
    trainer.fit(objective, Tables(files["bradley_terry"], batch_size=8))
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    checkpoint = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert set(checkpoint["state_dict"]) == {n for n, p in objective.named_parameters() if p.requires_grad}
    assert len(checkpoint["state_dict"]) == trained + 1  # and the reward head
    assert checkpoint["genrm"]["template_hash"] == objective.renderer.template_hash
    again = make("bradley_terry", tiny_llama, way)
    rows = Tables(test=files["bradley_terry"], batch_size=8)
    said = [
        make_trainer(tmp_path).predict(model, rows, ckpt_path=path, weights_only=path and True)[0]["margin"]
        for model, path in ((objective, None), (again, tmp_path / "last.ckpt"))
    ]
    torch.testing.assert_close(*said)


def test_a_checkpoint_of_another_kind_is_refused(tiny_llama, tmp_path, files):
    trainer = make_trainer(tmp_path)
    trainer.fit(make("genrm", tiny_llama, "lora"), Tables(files["genrm"], batch_size=8))
    trainer.save_checkpoint(tmp_path / "lora.ckpt")
    data = Tables(files["genrm"], batch_size=8)
    with pytest.raises(UserError, match="backbone.lora: the checkpoint was made with .* this config says None"):
        make_trainer(tmp_path, max_epochs=2).fit(
            make("genrm", tiny_llama), data, ckpt_path=tmp_path / "lora.ckpt", weights_only=True
        )
    other = make("genrm", tiny_llama, "lora")
    other.renderer.__dict__["template_hash"] = "another"
    with pytest.raises(UserError, match="was trained with chat template .* this backbone's is another"):
        make_trainer(tmp_path, max_epochs=2).fit(other, data, ckpt_path=tmp_path / "lora.ckpt", weights_only=True)


@pytest.mark.parametrize(
    ("key", "way", "other"),
    [
        ("lora", "lora", {"lora": LoraSettings(rank=4, alpha=8)}),  # the same tensors, scaled otherwise
        ("train_layers", "full", {"train_layers": 1}),  # fewer are trained, the rest would be the backbone's
        ("name", "layers", {"name": "another"}),
    ],
)
def test_a_checkpoint_of_another_backbone_is_refused(tiny_llama, tmp_path, files, key, way, other):
    objective = make("genrm", tiny_llama, way)
    checkpoint = {"genrm": {"template_hash": objective.renderer.template_hash}, "state_dict": {}}
    checkpoint["genrm"]["backbone"] = asdict(backbone(tiny_llama, way))
    now = make("genrm", tiny_llama, way)
    now.backbone_settings = replace(now.backbone_settings, **other)
    now.renderer = objective.renderer
    with pytest.raises(UserError, match=f"backbone.{key}: the checkpoint was made with .*; resume with the config"):
        now.on_load_checkpoint(checkpoint)


def test_a_backbone_folder_is_the_same_however_it_is_written(tiny_llama, monkeypatch):
    objective = make("genrm", tiny_llama)
    checkpoint = {"genrm": {"template_hash": objective.renderer.template_hash}, "state_dict": {}}
    checkpoint["genrm"]["backbone"] = asdict(backbone(tiny_llama)) | {"name": f"./{tiny_llama.name}"}
    monkeypatch.chdir(tiny_llama.parent)
    objective.on_load_checkpoint(checkpoint)


def test_a_saved_judge_says_what_it_is(tiny_llama, tmp_path):
    objective = make("genrm", tiny_llama)
    objective.configure_model()
    objective.save(tmp_path / "judge")
    info = judge_info(tmp_path / "judge")
    assert (info["objective"], info["judge_prompt"]) == ("GenRM", "brief")
    assert load_renderer(str(tmp_path / "judge")).template_hash == info["template_hash"]
