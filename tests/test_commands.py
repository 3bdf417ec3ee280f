"""sample -> data_tools star -> score -> fit, evaluate: the stages of a run by hand."""

import json
import shutil

import polars as pl
import pytest
import torch

from data_tools.__main__ import main as data_tools
from data_tools.artifact import read_json, read_table, write_table
from data_tools.schema import EXAMPLE, JUDGMENT, PREFERENCE
from genrm_lightning.__main__ import main
from genrm_lightning.backbone import judge_info, load_judge
from genrm_lightning.judges.choice import judge_prompt_of
from genrm_lightning.locking import only_one
from tests.tiny_star import write_yaml

OBJECTIVES = {"sft": "STaRSFT", "dpo": "RationaleDPO", "rationalizer": "Rationalizer", "own": "OnPolicyRationalizer"}
DRAW = ["--sampling.rationale_tokens", "6", "--dtype", "float32", "--judge_prompt", "brief", "--shard_size", "5"]


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
    told = ["--told", "right"] if objective == "rationalizer" else []
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
    if objective == "own":
        fit["model"]["init_args"]["backbone"]["lora"] = {"rank": 2}
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
    from genrm_lightning.judges import stage

    whole = sampled(tmp_path / "whole", tiny_llama, pairs)

    def dies(*_):
        raise KeyboardInterrupt

    argv = ["sample", "--judge", str(tiny_llama), "--pairs", str(pairs / "train.parquet"), "--out", str(tmp_path / "b")]
    with monkeypatch.context() as patch:
        patch.setattr(stage, "write_table", dies)
        assert main([*argv, *DRAW]) == 130
    (tmp_path / "b/shard-00001.parquet").unlink()
    before = (tmp_path / "b/shard-00000.parquet").stat().st_mtime_ns
    assert before and sampled(tmp_path / "b", tiny_llama, pairs).equals(whole)


def test_evaluate(tmp_path, capsys, tiny_llama, pairs):
    argv = ["evaluate", "--judge", str(tiny_llama), "--data", str(pairs / "test.parquet"), "--out", str(tmp_path)]
    assert main([*argv, *DRAW, "--rows", "4"]) == 0
    said = capsys.readouterr().out
    assert "accuracy" in said and "free" in said
    scores = read_json(tmp_path / "scores.json")["sets"]["test"]
    assert scores["n_pairs"] == 4 and scores["n_presentations"] == 8
    assert f"{100 * scores['accuracy']:.1f} (" in said


def judged(folder, tiny_llama, **facts):
    """A folder that says it is a judge; its weights are the tiny model's."""
    shutil.copytree(tiny_llama, folder)
    (folder / "genrm.json").write_text(json.dumps({"adapter": False, "base": str(tiny_llama), **facts}))
    return folder


def test_a_judge_is_shown_the_prompt_it_was_trained_with(tmp_path, capsys, tiny_llama, pairs):
    judge = judged(tmp_path / "judge", tiny_llama, objective="STaRSFT", judge_prompt="brief")
    draw = DRAW[: DRAW.index("--judge_prompt")]
    argv = ["--rows", "2", *draw]
    flag = {"evaluate": "--data", "sample": "--pairs"}
    table = str(pairs / "test.parquet")
    assert main(["evaluate", "--data", table, "--judge", str(judge), "--out", str(tmp_path / "a"), *argv]) == 0
    assert read_json(tmp_path / "a/sets/test/manifest.json")["key"]["judge_prompt"] == "brief"
    capsys.readouterr()
    for command in ("evaluate", "sample"):
        flags = ["--out", str(tmp_path / "b"), "--judge_prompt", "mt_bench"]
        assert main([command, flag[command], table, "--judge", str(judge), *flags, *argv]) == 2
        said = capsys.readouterr().err
        assert said.startswith("error: --judge_prompt: mt_bench: the judge '") and "trained with 'brief'" in said
        assert said.count("\n") == 1 and not (tmp_path / "b").exists()


def test_the_prompt_of_a_model_that_is_no_judge(tiny_llama):
    assert judge_prompt_of(str(tiny_llama), None) == judge_prompt_of("embedded", None) == "mt_bench"
    assert judge_prompt_of(str(tiny_llama), "brief") == "brief"


@pytest.mark.parametrize("objective", ["BradleyTerry", "PairRM"])
def test_a_reward_model_writes_no_rationales(tmp_path, capsys, tiny_llama, pairs, objective):
    judge = judged(tmp_path / "judge", tiny_llama, objective=objective, judge_prompt="mt_bench")
    argv = ["sample", "--judge", str(judge), "--pairs", str(pairs / "test.parquet"), "--out", str(tmp_path / "out")]
    assert main(argv) == 2
    said = capsys.readouterr().err
    assert f"a reward model ({objective})" in said and "python -m genrm_lightning evaluate" in said
    assert not (tmp_path / "out").exists()


def test_a_pair_id_twice_is_found_before_anything_is_drawn(tmp_path, capsys, tiny_llama, pairs):
    table = read_table(pairs / "test.parquet", PREFERENCE)
    write_table(pl.concat([table, table[2:3]]), tmp_path / "twice.parquet", PREFERENCE)
    argv = ["sample", "--judge", str(tiny_llama), "--pairs", str(tmp_path / "twice.parquet")]
    assert main([*argv, "--out", str(tmp_path / "out"), *DRAW]) == 2
    said = capsys.readouterr().err
    assert f"{tmp_path / 'twice.parquet'}: id '{table['pair_id'][2]}' stands for 2 rows" in said
    assert not (tmp_path / "out").exists()


def test_a_folder_that_another_command_works_in_is_refused(tmp_path, capsys, tiny_llama, pairs):
    argv = ["--judge", str(tiny_llama), "--out", str(tmp_path), *DRAW]
    with only_one(tmp_path):
        for command, flag in (("sample", "--pairs"), ("evaluate", "--data")):
            assert main([command, flag, str(pairs / "test.parquet"), *argv]) == 2
            assert "another command is at work in this folder" in capsys.readouterr().err


def scored_with(monkeypatch, tmp_path, *configs):
    """The ``fit`` that score hands on after reading these configs, and its status."""
    seen = []

    def score_examples(table, reference, fit, advance):
        seen.append(fit)
        return table

    monkeypatch.setattr("genrm_lightning.scoring.score_examples", score_examples)
    write_table(pl.DataFrame(schema=EXAMPLE), tmp_path / "examples.parquet", EXAMPLE)
    files = [str(write_yaml(tmp_path / f"{i}.yaml", c) if isinstance(c, dict) else c) for i, c in enumerate(configs)]
    argv = ["score", "--examples", str(tmp_path / "examples.parquet"), "--reference", "unread"]
    return main([*argv, *(["--fit", *files] if files else []), "--out", str(tmp_path / "out.parquet")]), seen


def test_score_reads_configs_as_the_fit_does(tmp_path, monkeypatch):
    one = {"model": {"class_path": "RationaleDPO", "init_args": {"backbone": {"lora": None, "dtype": "bfloat16"}}}}
    two = {"model": {"init_args": {"beta": 0.1}}, "trainer": {"precision": "32-true"}}
    status, (fit,) = scored_with(monkeypatch, tmp_path, one, two)
    assert status == 0
    backbone = fit["model"]["init_args"]["backbone"]
    assert (backbone["lora"], backbone["dtype"], fit["trainer"]["precision"]) == (None, "bfloat16", "32-true")
    assert scored_with(monkeypatch, tmp_path) == (0, [{}])


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("- a\n- b\n", "--fit: "),
        ("words\n", "--fit: "),
        ("{model", "--fit: "),
        ("model: {init_args: {backbone: {nam: x}}}", "nam"),
        ("model: {init_args: {backbone: embedded}}", "backbone"),
        ("model: {init_args: {backbone: {lora: {rank: 0}}}}", "backbone.lora.rank: 0"),
        ("trainr: {precision: 32}", "trainr"),
    ],
)
def test_score_of_a_wrong_config(tmp_path, capsys, monkeypatch, content, named):
    (tmp_path / "wrong.yaml").write_text(content)
    status, seen = scored_with(monkeypatch, tmp_path, tmp_path / "wrong.yaml")
    said = capsys.readouterr().err
    assert (status, seen) == (2, []) and said.startswith("error: --fit: ") and said.count("\n") == 1
    assert named in said and "Traceback" not in said


@pytest.mark.parametrize(("command", "more"), [("star", True), ("sample", True), ("fit", False), ("score", False)])
def test_an_interrupt_promises_only_what_is_true(capsys, monkeypatch, command, more):
    def dies(argv):
        raise KeyboardInterrupt

    monkeypatch.setattr("genrm_lightning.__main__._dispatch", dies)
    assert main([command]) == 130
    assert capsys.readouterr().err == f"interrupted{'; the same command goes on from here' if more else ''}\n"


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
