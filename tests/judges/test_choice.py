"""From a name to a judge."""

import json
import shutil

import pytest

from data_tools.errors import UserError
from genrm_lightning.judges.choice import judge_of, kind_of
from genrm_lightning.samplers.base import SamplingSettings
from genrm_lightning.samplers.choice import OpenAISettings, SamplerSettings


def folder(place, tiny_llama, **facts):
    shutil.copytree(tiny_llama, place)
    (place / "genrm.json").write_text(json.dumps({"adapter": False, "base": str(tiny_llama), **facts}))
    return str(place)


@pytest.mark.parametrize(
    ("objective", "kind"),
    [
        ("BradleyTerry", "reward"),
        ("PairRM", "reward"),
        ("GenRM", "direct"),
        ("STaRSFT", "cot"),
        ("RationaleDPO", "cot"),
    ],
)
def test_a_judge_is_read_as_it_was_trained(tmp_path, tiny_llama, objective, kind):
    name = folder(tmp_path / "judge", tiny_llama, objective=objective, judge_prompt="brief")
    judge = judge_of(name)
    assert (kind_of(name), judge.kind, judge.name) == (kind, kind, name)
    assert judge.judge_prompt == (None if kind == "reward" else "brief")
    assert judge.objective == (objective if kind != "cot" else None)


def test_models_that_are_no_judges(tiny_llama, tmp_path):
    assert kind_of(str(tiny_llama)) == kind_of("embedded") == "cot"
    direct = judge_of(str(tiny_llama), read_as="direct", judge_prompt="brief")
    assert (direct.kind, direct.objective, direct.judge_prompt) == ("direct", "GenRM", "brief")
    classifier = tmp_path / "classifier"
    shutil.copytree(tiny_llama, classifier)
    config = json.loads((classifier / "config.json").read_text())
    config |= {"architectures": ["LlamaForSequenceClassification"], "id2label": {"0": "x"}, "label2id": {"x": 0}}
    (classifier / "config.json").write_text(json.dumps(config))
    assert kind_of(str(classifier)) == "reward" and judge_of(str(classifier)).objective == "BradleyTerry"


def test_what_cannot_be(tmp_path, tiny_llama):
    reward = folder(tmp_path / "bt", tiny_llama, objective="BradleyTerry")
    direct = folder(tmp_path / "direct", tiny_llama, objective="GenRM", judge_prompt="brief")
    for name, flags, said in [
        (reward, {"read_as": "cot"}, "--read_as: cot: .* is a reward model"),
        (str(tiny_llama), {"read_as": "reward"}, "--read_as: reward: .* no reward model"),
        (reward, {"judge_prompt": "brief"}, "--judge_prompt: brief: the reward model"),
        (direct, {"judge_prompt": "mt_bench"}, "--judge_prompt: mt_bench: .* trained with 'brief'"),
        (direct, {"sampling": SamplingSettings(n_samples=2)}, "--votes, sampling.n_samples: 2: .* read as direct"),
        (None, {}, "--judge: none is given"),
        (str(tmp_path / "no.parquet"), {}, "no.parquet: no such file"),
    ]:
        with pytest.raises(UserError, match=said):
            judge_of(name, **flags)


def test_a_served_model(tiny_llama):
    served = SamplerSettings("openai", openai=OpenAISettings(url="http://127.0.0.1:9/v1", model="m"))
    judge = judge_of(None, sampler=served)
    assert (judge.kind, judge.name, judge.judge_prompt) == ("cot", "m", "mt_bench")
    assert judge.key()["judge"] == "m" and "dtype" not in judge.key()
    with pytest.raises(UserError, match="a served model is asked for rationales"):
        judge_of(None, sampler=served, read_as="direct")
    with pytest.raises(UserError, match="the model that the server serves is the judge"):
        judge_of(str(tiny_llama), sampler=served)
