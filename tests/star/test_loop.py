"""The loop in one process: variants, starts, raising N; the fit runs here too, instead of in a process of its own."""

import json
import os
import shutil
import time

import polars as pl
import pytest

from data_tools import ancestry, verifiable
from data_tools.artifact import write_table
from data_tools.errors import UserError
from data_tools.judging import Verdict, render_completion
from data_tools.order import chosen_is_a
from data_tools.schema import PREFERENCE
from genrm_lightning.__main__ import main
from genrm_lightning.backbone import judge_info
from genrm_lightning.commands import star_settings
from genrm_lightning.locking import only_one
from genrm_lightning.star import fitting, loop
from genrm_lightning.star.stage import identity, run_stage
from tests.star.common import fit_here, star  # noqa: F401
from tests.tiny_star import leftovers, scalars, star_config, star_fit, tables, write_yaml


def stamps(run):
    return {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.is_file()}


def test_a_second_call_does_nothing_and_a_third_goes_on(tmp_path, capsys, tiny_llama):
    run = tmp_path / "run"
    said, first = star(capsys, tmp_path, tiny_llama)
    assert "zero-shot" in said and "iteration 1" in said and "nothing to do" not in said
    assert [row["label"] for row in first["rows"]] == ["zero-shot", "iteration 1"]
    assert leftovers(run) == []
    before = stamps(run)

    again, second = star(capsys, tmp_path, tiny_llama)
    assert "nothing to do: 1 of 1 iterations" in again and second == first and stamps(run) == before
    table = again[: again.index("nothing to do")]
    assert table == said[: len(table)], "the same table"

    said, third = star(capsys, tmp_path, tiny_llama, "--iterations", 2)
    assert "nothing to do" not in said and third["rows"][:2] == first["rows"] and len(third["rows"]) == 3
    changed = {path.relative_to(run).parts[0] for path, stamp in before.items() if stamps(run).get(path) != stamp}
    assert changed <= {"summary.json", "tensorboard"}, "what was there is not touched"
    parts = [pl.read_parquet(run / f"iteration-{i}/sample/judgments.parquet")["pair_id"].unique() for i in (1, 2)]
    assert not set(parts[0]) & set(parts[1]) and len(parts[0]) + len(parts[1]) == 16, "each iteration has fresh pairs"

    # A smaller N takes nothing away.
    said, fourth = star(capsys, tmp_path, tiny_llama, "--iterations", 1)
    assert "nothing to do: 2 of 2" in said and fourth == third


def test_the_told_judge_teaches_the_untold_one(tmp_path, capsys, tiny_llama):
    """On its own samples, right and wrong; the second iteration's teacher is the first one's judge."""
    fit = star_fit()
    fit["model"]["init_args"]["backbone"]["lora"] = {"rank": 2}
    star(capsys, tmp_path, tiny_llama, "--iterations", 2, variant="star-rationalizer-kl", fit=fit)
    found = tables(tmp_path / "run")
    for iteration in (1, 2):
        folder = tmp_path / f"run/iteration-{iteration}"
        judge = judge_info(folder / "fit/judge")
        assert judge["objective"] == "OnPolicyRationalizer" and judge["adapter"]
        judgments, examples = (
            found[f"iteration-{iteration}/{name}.parquet"] for name in ("sample/judgments", "select/examples")
        )
        first = judgments.filter(sample_index=0).sort("pair_id", "swapped")
        assert examples["completion_ids"].to_list() == first["token_ids"].to_list(), "as they were drawn"
        right = ["A" if chosen_is_a(*row) else "B" for row in first.select("pair_id", "swapped").iter_rows()]
        assert 0 < sum(a == b for a, b in zip(right, first["vote"], strict=True)) < len(right)
        assert len(list((folder / "fit/judge").rglob("*.safetensors"))) == 1
    shown = scalars(tmp_path / "run/tensorboard/iteration-2")
    assert {"train/divergence", "train/verdict_divergence", "train/told_accuracy"} <= shown.keys()


def test_a_live_reference_needs_no_scores(tmp_path, capsys, tiny_llama):
    fit = star_fit()
    fit["model"]["init_args"] |= {"reference": "live", "backbone": {"lora": {"rank": 2}}}
    star(capsys, tmp_path, tiny_llama, "--iterations", 2, fit=fit)
    for iteration in (1, 2):
        assert not (tmp_path / f"run/iteration-{iteration}/score").exists()
        losses = scalars(tmp_path / f"run/tensorboard/iteration-{iteration}")["train/loss"]
        assert abs(losses[0][1] - 0.6931) < 1e-3


def test_the_previous_judge_is_where_the_next_fit_begins(tmp_path, capsys, tiny_llama):
    star(capsys, tmp_path, tiny_llama, "--iterations", 2, variant="star-sft")
    second = judge_info(tmp_path / "run/iteration-2/fit/judge")
    assert second["backbone"]["name"] == str(tmp_path / "run/iteration-1/fit/judge")


def test_adapters_go_on_over_iterations(tmp_path, capsys, tiny_llama):
    config = star_config(tmp_path, tiny_llama)
    config["fit"]["model"]["init_args"]["backbone"]["lora"] = {"rank": 2}
    star(capsys, tmp_path, tiny_llama, "--iterations", 2, fit=config["fit"])
    for iteration in (1, 2):
        info = judge_info(tmp_path / f"run/iteration-{iteration}/fit/judge")
        assert info["adapter"] and info["base"] == str(tiny_llama)


def test_a_warm_start_is_a_row_of_its_own(tmp_path, capsys, tiny_llama):
    warm = {"pairs": 5, "categories": ["copy", "topic", "start"], "fit": star_fit()}
    said, summary = star(capsys, tmp_path, tiny_llama, warm_start=warm, start="base")
    assert [row["kind"] for row in summary["rows"]] == ["zero_shot", "warm_start", "iteration"] and "warm start" in said
    run = tmp_path / "run"
    assert leftovers(run) == []
    assert judge_info(run / "warm-start/fit/judge")["objective"] == "STaRSFT"
    assert judge_info(run / "iteration-1/fit/judge")["backbone"]["name"] == str(run / "warm-start/fit/judge")
    found = tables(run)
    pairs = found["data/warm.parquet"]
    assert pairs.height == 5 and found["data/train.parquet"].height == 11
    assert set(pairs["category"]) <= {"copy", "topic", "start"}
    judgments, examples = (found[f"warm-start/{name}.parquet"] for name in ("sample/judgments", "select/examples"))
    assert judgments.height == examples.height == 10 and set(judgments["judge"]) == {str(tiny_llama)}
    right = {row: "A" if chosen_is_a(*row) else "B" for row in examples.select("pair_id", "swapped").iter_rows()}
    # The backbone's own words, and the label's verdict behind them.
    for written, trained in zip(judgments.iter_rows(named=True), examples.iter_rows(named=True), strict=True):
        place = (trained["pair_id"], trained["swapped"])
        assert place == (written["pair_id"], written["swapped"])
        assert trained["completion"] == render_completion(written["rationale"], Verdict(right[place]))
    sampled = set(found["iteration-1/sample/judgments.parquet"]["pair_id"])
    assert not sampled & set(pairs["pair_id"]), "no iteration samples a pair it was shown"
    before = stamps(run)
    again, _ = star(capsys, tmp_path, tiny_llama, warm_start=warm, start="base")
    assert "nothing to do" in again and stamps(run) == before
    # Another warm start is another run; one that another fit trained too.
    for name, changed in (("data", {"pairs": 4}), ("warm-start/fit", {"fit": star_fit(max_epochs=2)})):
        file = write_yaml(
            tmp_path / "other.yaml", star_config(run, tiny_llama, warm_start=warm | changed, start="base")
        )
        assert main(["star", "--config", str(file)]) == 2
        assert f"{name}/manifest.json: made with another" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("warm", "said"),
    [
        ({"pairs": 12}, "warm_start: 12 pairs are more than the 7 there are to take from"),
        ({"pairs": 2, "categories": ["poem"]}, "warm_start: no pair has category 'poem'; there are: case, copy"),
    ],
)
def test_a_warm_start_without_pairs(tmp_path, capsys, tiny_llama, warm, said):
    warm = {"categories": ["copy", "topic", "start"]} | warm | {"fit": star_fit()}
    file = write_yaml(tmp_path / "star.yaml", star_config(tmp_path / "run", tiny_llama, warm_start=warm))
    assert main(["star", "--config", str(file)]) == 2
    assert said in capsys.readouterr().err and not (tmp_path / "run").exists()


def test_right_samples_alone_are_trained_on_where_asked_for(tmp_path, capsys, tiny_llama):
    fit = star_fit()
    fit["model"]["init_args"]["choice_weight"] = 1.0
    _, summary = star(capsys, tmp_path, tiny_llama, uncoupled="keep", fit=fit)
    examples = tables(tmp_path / "run")["iteration-1/score/examples.parquet"]
    alone = examples["rejected_completion"].is_null()
    assert 0 < alone.sum() < len(alone) and summary["rows"][1]["kept"] == len(alone)
    assert (examples["ref_rejected_logp"].is_null() == alone).all()
    assert summary["rows"][1]["couples"] == len(alone) - alone.sum()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "uncoupled: keep trains on right samples without a preference; give fit.model.init_args nll_weight"),
        ({"variant": "star-sft"}, "uncoupled: keep is for star-dpo and star-ipo-rationalizer, not for star-sft"),
    ],
)
def test_right_samples_alone_need_a_loss(tmp_path, capsys, tiny_llama, changes, said):
    config = star_config(tmp_path / "run", tiny_llama, uncoupled="keep", **changes)
    assert main(["star", "--config", str(write_yaml(tmp_path / "star.yaml", config))]) == 2
    assert said in capsys.readouterr().err and not (tmp_path / "run").exists()


def test_what_the_run_decides_is_not_for_the_config(tmp_path, capsys, tiny_llama):
    for section, name, key, value in (
        ("model", "class_path", "model.class_path", "genrm_lightning.objectives.STaRSFT"),
        ("trainer", "default_root_dir", "trainer.default_root_dir", "elsewhere"),
    ):
        fit = star_fit()
        fit[section][name] = value
        file = write_yaml(tmp_path / "star.yaml", star_config(tmp_path / "run", tiny_llama, fit=fit))
        assert main(["star", "--config", str(file)]) == 2
        assert f"fit.{key}: the run decides it" in capsys.readouterr().err


def test_the_seed_reaches_the_fit(tmp_path, tiny_llama):
    for seed in (0, 5):
        settings = star_settings(["--config", str(write_yaml(tmp_path / "s.yaml", star_config(tmp_path, tiny_llama)))])
        settings.seed = seed
        config = fitting.fit_config(settings, tmp_path, "start", tmp_path, tmp_path, "iteration-1")
        assert config["seed_everything"] == config["data"]["init_args"]["seed"] == seed


def test_a_judge_is_known_by_its_weights(tmp_path, tiny_llama):
    """A judge that was fitted anew in the same folder has files of the same names and sizes."""
    shutil.copytree(tiny_llama, tmp_path / "judge")
    before = identity(str(tmp_path / "judge"))
    weights = tmp_path / "judge/model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    after = identity(str(tmp_path / "judge"))
    assert before != after
    # An adapter's base is part of it.
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter/genrm.json").write_text(json.dumps({"adapter": True, "base": str(tmp_path / "judge")}))
    first = identity(str(tmp_path / "adapter"))
    weights.write_bytes(weights.read_bytes()[::-1])
    assert identity(str(tmp_path / "adapter")) != first


def test_what_tensorboard_shows(tmp_path, capsys, tiny_llama):
    star(capsys, tmp_path, tiny_llama)
    shown = scalars(tmp_path / "run/tensorboard/star")
    assert [step for step, _ in shown["star/accuracy_id"]] == [0, 1]
    fit = scalars(tmp_path / "run/tensorboard/iteration-1")
    assert {"train/loss", "train/reward_margin"} <= fit.keys() and len(fit["train/loss"]) > 1
    assert abs(fit["train/loss"][0][1] - 0.6931) < 1e-3, "DPO begins at ln 2: the reference is the policy's start"


def test_files_of_ones_own(tmp_path, capsys, tiny_llama):
    assert main(["star", "--help"]) == 0
    from data_tools.__main__ import main as data_tools

    data_tools(["verifiable", "--rows", "12", "--test-rows", "6", "--out", str(tmp_path / "data")])
    files = {name: str(tmp_path / f"data/{name}.parquet") for name in ("train", "test", "ood")}
    capsys.readouterr()
    _, summary = star(capsys, tmp_path, tiny_llama, data={**files, "test_rows": 4})
    assert summary["rows"][0]["n_pairs_id"] == 4 and len(summary["rows"]) == 2
    judge = ancestry.trace(tmp_path / "run" / "iteration-1" / "fit" / "judge", check=True)
    way = [node.command for node in judge if node.command and not node.again]
    assert way == ["fit", "score", "select", "sample", "data", "verifiable"]
    assert [str(node.path) for node in judge if node.digest and not node.inputs][:3] == list(files.values())
    assert not any(node.state for node in judge)


@pytest.mark.parametrize("name", ["train", "test"])
def test_an_id_that_stands_for_two_pairs_is_found_before_anything_is_sampled(tmp_path, capsys, tiny_llama, name):
    made = verifiable.build(12, 0, 6)
    files = {}
    for part, table in (("train", made["train"]), ("test", made["test"]), ("ood", made["ood"])):
        if part == name:
            table = table.with_columns(pair_id=pl.lit("same"))
        files[part] = str(tmp_path / f"{part}.parquet")
        write_table(table, files[part], PREFERENCE)
    file = write_yaml(tmp_path / "star.yaml", star_config(tmp_path / "run", tiny_llama, data=files))
    assert main(["star", "--config", str(file)]) == 2
    said = capsys.readouterr().err
    assert f"{name}.parquet" in said and "'same'" in said and not (tmp_path / "run").exists()


def test_other_settings_are_refused_in_the_same_folder(tmp_path, capsys, tiny_llama):
    star(capsys, tmp_path, tiny_llama)
    file = write_yaml(tmp_path / "star.yaml", star_config(tmp_path / "run", tiny_llama, seed=1))
    assert main(["star", "--config", str(file)]) == 2
    said = capsys.readouterr().err
    assert "zero-shot/manifest.json: made with another 'seed' (0, now 1); use another output folder" in said


def test_a_stage_that_was_begun_with_other_settings(tmp_path):
    def dies(folder):
        (folder / "shard-00000.parquet").write_text("left")
        raise KeyboardInterrupt  # what a kill leaves

    with pytest.raises(KeyboardInterrupt):
        run_stage(tmp_path / "s", {"k": 1}, lambda: dies(tmp_path / "s"))
    with pytest.raises(UserError, match="begun with another 'k'"):
        run_stage(tmp_path / "s", {"k": 2}, dict)
    stage = run_stage(tmp_path / "s", {"k": 1}, dict)
    assert stage.made and not run_stage(tmp_path / "s", {"k": 1}, dict).made


def test_a_stage_that_failed_before_it_made_anything_leaves_no_trace(tmp_path):
    def fails():
        raise UserError("no")

    with pytest.raises(UserError, match="no"):
        run_stage(tmp_path / "s", {"k": 1}, fails)
    assert not (tmp_path / "s").exists()


def test_seconds_hold_what_killed_attempts_worked(tmp_path):
    folder = tmp_path / "s"
    folder.mkdir()
    now = time.time()
    (folder / "started.json").write_text(json.dumps({"key": {"k": 1}, "began": now - 100, "seconds": 7.0}))
    shard = folder / "shard-00000.parquet"
    shard.write_text("")
    os.utime(folder / "started.json", (now - 100, now - 100))
    os.utime(shard, (now - 60, now - 60))  # 40 seconds of work that lasts, then up to 60 that are lost
    assert 47 <= run_stage(folder, {"k": 1}, dict).facts["seconds"] < 50


def test_one_run_at_a_time(tmp_path, capsys, tiny_llama, monkeypatch):
    monkeypatch.setattr(loop, "_PATIENCE", 0.0)
    file = write_yaml(tmp_path / "star.yaml", star_config(tmp_path / "run", tiny_llama))
    with only_one(tmp_path / "run"):
        assert main(["star", "--config", str(file)]) == 2
    assert "another command is at work in this folder; wait for it, or name another one with --run" in (
        capsys.readouterr().err
    )
