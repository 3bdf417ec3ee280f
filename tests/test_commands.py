"""sample -> data_tools star -> score -> fit, evaluate: the stages of a run by hand."""

import polars as pl
import pytest
import torch

from data_tools.__main__ import main as data_tools
from data_tools.artifact import read_json, read_table
from data_tools.schema import EXAMPLE, JUDGMENT
from genrm_lightning.__main__ import main
from genrm_lightning.backbone import judge_info, load_judge
from tests.tiny_star import write_yaml

OBJECTIVES = {"sft": "STaRSFT", "dpo": "RationaleDPO", "rationalizer": "Rationalizer"}
DRAW = ["--sampling.rationale_tokens", "6", "--dtype", "float32", "--judge_prompt", "brief", "--shard", "5"]


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pairs")
    data_tools(["verifiable", "--rows", "12", "--test-rows", "6", "--out", str(folder)])
    return folder


def sampled(out, backbone, pairs, *flags):
    argv = ["sample", "--judge", str(backbone), "--pairs", str(pairs / "train.parquet"), "--out", str(out), *DRAW]
    assert main([*argv, *map(str, flags)]) == 0
    return read_table(out / "judgments.parquet", JUDGMENT)


def selected(folder, pairs, objective):
    argv = ["star", "--judgments", str(folder / "judgments.parquet"), "--preferences", str(pairs / "train.parquet")]
    out = folder / f"{objective}.parquet"
    assert data_tools([*argv, "--objective", objective, "--template", "brief", "--out", str(out)]) == 0
    return out


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_from_pairs_to_a_judge(tmp_path, capfd, tiny_llama, pairs, objective):
    told = ["--told", "true"] if objective == "rationalizer" else []
    table = sampled(tmp_path / "sample", tiny_llama, pairs, *told)
    assert table.height == 12 * 2 * 4 and set(table["judge"]) == {str(tiny_llama)}
    examples = selected(tmp_path / "sample", pairs, objective)
    fit = {
        "model": {
            "class_path": f"genrm_lightning.objectives.{OBJECTIVES[objective]}",
            "init_args": {"judge_prompt": "brief", "backbone": {"name": str(tiny_llama), "lora": None}},
        },
        "data": {"class_path": "genrm_lightning.data.Tables", "init_args": {"train": str(examples), "batch_size": 4}},
        "trainer": {"accelerator": "cpu", "devices": 1, "default_root_dir": str(tmp_path / "fit")},
    }
    if objective == "dpo":
        config = write_yaml(tmp_path / "fit.yaml", fit)
        assert main(["fit", "--config", str(config)]) == 2, "without the reference's log-probabilities"
        assert "ref_logp" in capfd.readouterr().err
        scored = tmp_path / "scored.parquet"
        argv = ["score", "--examples", str(examples), "--reference", str(tiny_llama), "--fit", str(config)]
        assert main([*argv, "--out", str(scored)]) == 0
        assert read_table(scored, EXAMPLE)["ref_rejected_logp"].null_count() == 0
        fit["data"]["init_args"]["train"] = str(scored)
    for part in ("validation", "test"):
        fit["data"]["init_args"][part] = fit["data"]["init_args"]["train"]
    config = write_yaml(tmp_path / "fit.yaml", fit)
    assert main(["fit", "--config", str(config)]) == 0
    assert judge_info(tmp_path / "fit/judge")["objective"] == OBJECTIVES[objective]
    load_judge(str(tmp_path / "fit/judge"), torch.float32)
    for command in ("validate", "test", "predict"):
        assert main([command, "--config", str(config), "--ckpt_path", str(tmp_path / "fit/checkpoints/last.ckpt")]) == 0
    predictions = pl.read_parquet(tmp_path / "fit/predictions.parquet")
    assert predictions["pair_id"].to_list() == pl.read_parquet(examples)["pair_id"].to_list()


def test_a_second_call_draws_nothing_and_a_third_with_other_settings_is_refused(tmp_path, capsys, tiny_llama, pairs):
    first = sampled(tmp_path, tiny_llama, pairs)
    stamp = (tmp_path / "judgments.parquet").stat().st_mtime_ns
    assert sampled(tmp_path, tiny_llama, pairs).equals(first)
    assert (tmp_path / "judgments.parquet").stat().st_mtime_ns == stamp
    capsys.readouterr()
    argv = ["sample", "--judge", str(tiny_llama), "--pairs", str(pairs / "train.parquet"), "--out", str(tmp_path)]
    assert main([*argv, *DRAW, "--seed", "1"]) == 2
    assert "made with another 'seed'" in capsys.readouterr().err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["judgments.parquet", "manifest.json"]


def test_a_sample_that_lost_its_end_goes_on_from_its_shards(tmp_path, tiny_llama, pairs, monkeypatch):
    from genrm_lightning import commands

    whole = sampled(tmp_path / "whole", tiny_llama, pairs)

    def dies(*_):
        raise KeyboardInterrupt

    argv = ["sample", "--judge", str(tiny_llama), "--pairs", str(pairs / "train.parquet"), "--out", str(tmp_path / "b")]
    with monkeypatch.context() as patch:
        patch.setattr(commands, "write_table", dies)
        assert main([*argv, *DRAW]) == 130
    (tmp_path / "b/shard-00001.parquet").unlink()
    before = (tmp_path / "b/shard-00000.parquet").stat().st_mtime_ns
    assert before and sampled(tmp_path / "b", tiny_llama, pairs).equals(whole)


def test_evaluate(tmp_path, capsys, tiny_llama, pairs):
    argv = ["evaluate", "--judge", str(tiny_llama), "--pairs", str(pairs / "test.parquet"), "--out", str(tmp_path)]
    assert main([*argv, *DRAW, "--rows", "4"]) == 0
    said = capsys.readouterr().out
    assert "accuracy" in said and "free" in said
    scores = read_json(tmp_path / "scores.json")
    assert scores["n_pairs"] == 4 and scores["n_presentations"] == 8
    assert f"{scores['accuracy']:.1%}" in said


def test_settings_by_file(tmp_path, tiny_llama, pairs):
    config = {
        "judge": str(tiny_llama),
        "pairs": str(pairs / "test.parquet"),
        "out": str(tmp_path / "out"),
        "dtype": "float32",
        "judge_prompt": "brief",
        "sampling": {"n_samples": 2, "rationale_tokens": 4},
    }
    assert main(["sample", "--config", str(write_yaml(tmp_path / "c.yaml", config)), "--sampling.n_samples", "1"]) == 0
    table = read_table(tmp_path / "out/judgments.parquet", JUDGMENT)
    assert table.height == 12 and table["n_tokens"].max() <= 4
