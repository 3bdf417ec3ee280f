"""The choice between samplers: what is refused and when, and that only the chosen one is imported."""

from __future__ import annotations

import math
import subprocess
import sys

import pytest

from data_tools.artifact import write_table
from data_tools.errors import UserError
from data_tools.schema import PREFERENCE
from genrm_lightning.__main__ import main
from genrm_lightning.samplers.choice import OpenAISettings, SamplerSettings, VLLMSettings, chosen_sampler
from genrm_lightning.star.settings import StarSettings
from tests.tiny import preferences
from tests.tiny_star import star_config, write_yaml

URL = "http://127.0.0.1:1/v1"


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"url": "127.0.0.1:8000"}, "url"), ({"url": "ftp://a/v1"}, "url"), ({"url": "http://"}, "url"),
        ({"url": "http://a:port"}, "url"), ({"url": "http://me:secret@a/v1"}, "key_env"),
        ({"url": "http://a?b"}, "url"),
        ({"concurrency": 0}, "concurrency"), ({"patience": math.nan}, "patience"), ({"timeout": -1.0}, "timeout"),
        ({"requests_per_minute": 0.0}, "requests_per_minute"), ({"budget_tokens": 0}, "budget_tokens"),
        ({"budget_money": 1.0, "price_prompt": 1.0}, "budget_money: needs price_completion"),
        ({"price_prompt": -1.0}, "price_prompt"), ({"verdict": "prompt"}, "tokenizer"),
        ({"extra": {"seed": 1}}, "extra: 'seed'"),
    ],
)  # fmt: skip
def test_settings_of_a_server_that_mean_nothing(change, key):
    with pytest.raises(UserError) as error:
        OpenAISettings(**change)
    assert str(error.value).startswith("sampler.openai.") and key in str(error.value)
    assert "secret" not in str(error.value)


def test_settings_of_an_engine_that_mean_nothing():
    for change in ({"tensor_parallel": 0}, {"gpu_memory": 1.5}, {"max_model_len": -1}):
        with pytest.raises(UserError, match=f"sampler.vllm.{next(iter(change))}"):
            VLLMSettings(**change)


def test_a_server_has_an_address_and_a_model():
    with pytest.raises(UserError, match="sampler.openai.url: no address"):
        SamplerSettings("openai", openai=OpenAISettings(model="m"))
    with pytest.raises(UserError, match="sampler.openai.model: no name"):
        SamplerSettings("openai", openai=OpenAISettings(url=URL))
    with pytest.raises(UserError, match="sampler.openai.url: is given, but sampler.kind is local"):
        SamplerSettings(openai=OpenAISettings(url=URL))


def test_addresses():
    for url, base in (("http://a", "http://a/v1"), ("http://a/v1/", "http://a/v1"), ("https://a:1/x", "https://a:1/x")):
        assert OpenAISettings(url=url).base == base
    assert OpenAISettings(url=URL).is_local and not OpenAISettings(url="http://192.0.2.1").is_local


def test_keys_of_stages():
    """An address, a pace and a budget change no sample; the local sampler's stages are keyed as ever."""
    assert SamplerSettings().sampler_key() == {}

    def key(**changes):
        return SamplerSettings("openai", openai=OpenAISettings(**{"url": URL, "model": "m"} | changes)).sampler_key()

    assert key() == key(url="http://b/v1", concurrency=3, budget_tokens=9, patience=1.0)
    for change in ({"model": "n"}, {"extra": {"top_k": 5}}, {"verdict": "ask"}, {"together": True}):
        assert key() != key(**change)
    assert SamplerSettings("vllm").sampler_key() == {"sampler": {"kind": "vllm"}}
    fewer = VLLMSettings(max_model_len=9, gpu_memory=0.5)
    assert SamplerSettings("vllm", fewer).sampler_key() == {"sampler": {"kind": "vllm", "max_model_len": 9}}


def test_a_run_samples_what_it_has_trained(tmp_path, capfd, tiny_llama):
    served = {"kind": "openai", "openai": {"url": URL, "model": "m"}}
    file = write_yaml(tmp_path / "star.yaml", star_config(tmp_path / "run", tiny_llama, sampler=served))
    assert main(["star", "--config", str(file)]) == 2
    said = capfd.readouterr().err
    assert said.startswith("error: sampler.kind: openai samples one model, 'm', but a run samples the judge")
    assert said.count("\n") == 1 and not (tmp_path / "run").exists()
    assert StarSettings(sampler=SamplerSettings("vllm")).sampler_key(StarSettings().sampling)["sampler"]


@pytest.fixture
def pairs(tmp_path):
    write_table(preferences(2), tmp_path / "pairs.parquet", PREFERENCE)
    return tmp_path / "pairs.parquet"


def refused(capfd, command, *argv):
    capfd.readouterr()
    assert main([command, *map(str, argv)]) == 2
    said = capfd.readouterr().err
    assert said.startswith("error: ") and said.count("\n") == 1, said
    return said


def test_flags(tmp_path, capfd, tiny_llama, pairs):
    out = ["--out", tmp_path / "out"]
    server = ["--sampler.kind", "openai", "--sampler.openai.url", URL, "--sampler.openai.model", "m"]
    assert "--judge: none is given" in refused(capfd, "evaluate", "--data", pairs, *out)
    for command, flag in (("evaluate", "--data"), ("sample", "--pairs")):
        out = [flag, pairs, "--out", tmp_path / "out"]
        assert "leave the flag out" in refused(capfd, command, "--judge", tiny_llama, *out, *server)
        assert "sampler.openai.model: no name" in refused(capfd, command, *out, *server[:4])
        assert "name sampler.openai.tokenizer" in refused(capfd, command, *out, *server, "--too_long", "drop")
        assert "'sampler.kind': Expected" in refused(capfd, command, *out, "--sampler.kind", "other")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("kind", "package"), [("vllm", "vllm"), ("openai", "httpx2")])
def test_a_missing_package_names_the_extra(tmp_path, capfd, monkeypatch, tiny_llama, pairs, kind, package):
    monkeypatch.setitem(sys.modules, package, None)
    argv = ["--pairs", pairs, "--out", tmp_path / "out", "--sampler.kind", kind]
    argv += (
        ["--sampler.openai.url", URL, "--sampler.openai.model", "m"] if kind == "openai" else ["--judge", tiny_llama]
    )
    said = refused(capfd, "sample", *argv)
    assert f"sampler.kind: {kind} needs the package {package}" in said
    assert f"pip install 'genrm-lightning[{kind}]'" in said and not (tmp_path / "out").exists()


def test_only_the_chosen_one_is_imported():
    code = (
        "import sys; import genrm_lightning.commands; "
        "print([m for m in sys.modules if m in ('vllm', 'httpx2', 'torch') or m.startswith('genrm_lightning.sampl')])"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert set(eval(said)) == {f"genrm_lightning.samplers{name}" for name in ("", ".base", ".choice")}


def test_the_local_sampler_is_the_default(tiny_llama):
    from genrm_lightning.samplers.local import LocalSampler

    with chosen_sampler(SamplerSettings(), str(tiny_llama), "float32") as make:
        assert isinstance(make(), LocalSampler)


def test_no_server_at_all_is_one_line(tmp_path, capfd, pairs):
    argv = ["--pairs", pairs, "--out", tmp_path / "out", "--sampler.kind", "openai", "--sampler.openai.url", URL]
    assert main(["sample", *map(str, argv), "--sampler.openai.model", "m", "--sampler.openai.patience", "0.5"]) == 2
    said = capfd.readouterr().err.splitlines()
    assert sum(line.startswith("error: ") for line in said) == 1
    assert f"{URL}: All connection attempts failed; no answer for 0.5 s" in said[-1]
    assert not (tmp_path / "out").exists()
