"""fit, validate, test and predict in this process, on the tiny Llama: what they write and how they go on."""

import os
import signal
import warnings

import polars as pl
import pytest
import torch

from data_tools.__main__ import main as data_tools
from data_tools.artifact import read_json
from data_tools.errors import UserError
from genrm_lightning.__main__ import main
from genrm_lightning.backbone import judge_info, load_judge
from genrm_lightning.callbacks import CheckpointFiles
from genrm_lightning.cli import parse
from genrm_lightning.objectives import GenRM
from tests.tiny_star import scalars, write_yaml

SCORES = {"BradleyTerry": 1, "PairRM": 2, "GenRM": 0}  # of the reward head


def run(command, folder, backbone, *flags, objective="GenRM", data=None, **trainer):
    """Run a LightningCLI command; its status."""
    config = {
        "model": {
            "class_path": f"genrm_lightning.objectives.{objective}",
            "init_args": {"backbone": {"name": str(backbone), "lora": None}, "optimizer": {"learning_rate": 1e-3}},
        },
        "data": data or embedded(),
        "trainer": {"accelerator": "cpu", "devices": 1, "default_root_dir": str(folder), **trainer},
    }
    folder.mkdir(parents=True, exist_ok=True)
    return main([command, "--config", str(write_yaml(folder / "given.yaml", config)), *map(str, flags)])


def embedded(**more):
    arguments = {"rows": 12, "test_rows": 5, "batch_size": 4, **more}
    return {"class_path": "genrm_lightning.data.EmbeddedPairs", "init_args": arguments}


@pytest.mark.parametrize("objective", SCORES)
def test_fit_validate_test_predict(tmp_path, capfd, tiny_llama, objective):
    out = tmp_path / "out"
    assert run("fit", out, tiny_llama, objective=objective, max_epochs=2) == 0
    said = capfd.readouterr()
    assert f"judge saved: {out / 'judge'}" in said.out
    # One line of progress where there is no terminal, and no chatter of libraries.
    lines = [line for line in said.err.splitlines() if line.strip()]
    assert len(lines) == 1 and lines[0].startswith("fit: ") and "steps/s" in lines[0], said.err
    assert (out / "config.yaml").is_file() and (out / "checkpoints/last.ckpt").is_file()
    assert judge_info(out / "judge")["objective"] == objective
    load_judge(str(out / "judge"), torch.float32, scores=SCORES[objective])
    curves = scalars(next((out / "tensorboard").glob("version_*")))
    steps = (12 if SCORES[objective] else 24) // 4 * 2
    assert [step for step, _ in curves["train/loss"]] == list(range(steps))
    assert {"train/accuracy", "val/loss", "val/accuracy"} <= curves.keys()

    checkpoint = out / "checkpoints/last.ckpt"
    assert run("validate", tmp_path / "v", tiny_llama, "--ckpt_path", checkpoint, objective=objective) == 0
    said = capfd.readouterr().out
    assert "val/loss" in said and "val/accuracy" in said
    assert run("test", tmp_path / "t", out / "judge", objective=objective) == 0
    assert "test/loss" in capfd.readouterr().out

    # The judge folder and the checkpoint are the same model.
    tables = []
    for name, backbone, flags in (("a", tiny_llama, ["--ckpt_path", checkpoint]), ("b", out / "judge", [])):
        assert run("predict", tmp_path / name, backbone, *flags, objective=objective) == 0
        assert "predictions" in capfd.readouterr().out
        tables.append(pl.read_parquet(tmp_path / name / "predictions.parquet"))
    assert tables[0].equals(tables[1])
    trees = 1 if SCORES[objective] else 2
    assert tables[0]["pair_id"].to_list() == [f"verifiable-0-test-{i}" for i in range(5) for _ in range(trees)]
    assert tables[0]["tree"].to_list() == list(range(trees)) * 5
    assert {"accuracy", "margin"} <= set(tables[0].columns) or objective == "GenRM"


def test_a_fit_goes_on_from_its_checkpoint(tmp_path, capfd, tiny_llama):
    """Two epochs in one go, or one and then another from ``--ckpt_path last``: the schedule alone knows the end."""
    assert run("fit", tmp_path / "a", tiny_llama, max_epochs=1) == 0
    first = torch.load(tmp_path / "a/checkpoints/last.ckpt", weights_only=True)
    assert run("fit", tmp_path / "a", tiny_llama, "--ckpt_path", "last", max_epochs=2) == 0
    second = torch.load(tmp_path / "a/checkpoints/last.ckpt", weights_only=True)
    assert (first["global_step"], second["global_step"]) == (6, 12)
    assert [p.name for p in (tmp_path / "a/checkpoints").iterdir()] == ["last.ckpt"], "no last-v1.ckpt"
    assert "fit: 6 steps" in capfd.readouterr().err


def test_what_a_fit_took(tmp_path, tiny_llama):
    """Counted once where it goes on; also from a checkpoint of its last step, where nothing is left to do."""
    limits = {"data": embedded(rows=4), "max_epochs": -1, "max_steps": 2, "limit_val_batches": 0}
    found = []
    for flags in ([], ["--ckpt_path", "last"]):
        assert run("fit", tmp_path, tiny_llama, *flags, **limits) == 0
        found.append(read_json(tmp_path / "spent.json"))
        (tmp_path / "spent.json").unlink()
    assert found[0] == found[1] and found[0]["steps"] == 2 and found[0]["trees"] == 8 and found[0]["tokens"] > 8


@pytest.mark.parametrize("flag", ["--ckpt_path"])
def test_a_checkpoint_that_is_none(tmp_path, capsys, tiny_llama, flag):
    assert run("validate", tmp_path, tiny_llama, flag, tmp_path / "none.ckpt") == 2
    assert "none.ckpt: no such file" in capsys.readouterr().err
    (tmp_path / "bad.ckpt").write_text("nothing")
    assert run("validate", tmp_path, tiny_llama, flag, tmp_path / "bad.ckpt") == 2
    said = capsys.readouterr().err
    assert "bad.ckpt: not a readable checkpoint" in said and said.count("\n") == 1


@pytest.mark.parametrize("command", ["validate", "test", "predict"])
def test_the_last_checkpoint_where_there_is_none(tmp_path, capsys, tiny_llama, command):
    """The untrained model's numbers would pass for the fit's."""
    assert run(command, tmp_path, tiny_llama, "--ckpt_path", "last") == 2
    said = capsys.readouterr()
    assert f"--ckpt_path: last: {tmp_path}/checkpoints/last.ckpt: no such file" in said.err and said.out == ""


@pytest.mark.parametrize("word", ["best", "registry"])
def test_words_for_a_checkpoint_that_mean_nothing_here(tmp_path, capsys, tiny_llama, word):
    assert run("test", tmp_path, tiny_llama, "--ckpt_path", word) == 2
    assert f"--ckpt_path: {word}: no such file; name a checkpoint" in capsys.readouterr().err


def test_a_file_that_is_no_checkpoint_of_a_fit(tmp_path, capsys, tiny_llama):
    for content in ({"weights": torch.ones(1)}, [1], {"state_dict": {}}):
        torch.save(content, tmp_path / "other.ckpt")
        assert run("test", tmp_path, tiny_llama, "--ckpt_path", tmp_path / "other.ckpt") == 2
        said = capsys.readouterr().err
        assert "other.ckpt: not a checkpoint of a fit (it holds no '" in said and said.count("\n") == 1


@pytest.mark.parametrize("saved", [True, False])
def test_ctrl_c(tmp_path, capfd, tiny_llama, monkeypatch, saved):
    before = signal.getsignal(signal.SIGINT)
    step = GenRM.training_step

    def interrupted(self, batch, batch_idx):
        if batch_idx == 3:
            raise KeyboardInterrupt
        return step(self, batch, batch_idx)

    monkeypatch.setattr(GenRM, "training_step", interrupted)
    callback = {"class_path": "genrm_lightning.callbacks.LastCheckpoint", "init_args": {"minutes": 1e-6}}
    try:
        assert run("fit", tmp_path, tiny_llama, **({"callbacks": [callback]} if saved else {})) == 130
    finally:
        signal.signal(signal.SIGINT, before)  # Lightning has switched it off
    said = capfd.readouterr().err
    last = tmp_path / "checkpoints/last.ckpt"
    assert last.exists() == saved
    expected = f"interrupted; go on with the same command and --ckpt_path {last}\n" if saved else "interrupted\n"
    assert said.endswith(expected) and "the same command goes on from here" not in said
    assert not (tmp_path / "judge").exists()


@pytest.mark.parametrize(
    ("path", "value", "named"),
    [
        ("model.init_args.optimizer.learning_rate", 0, "optimizer.learning_rate: 0"),
        ("model.init_args.optimizer.warmup", 2, "optimizer.warmup: 2"),
        ("model.init_args.backbone.lora.rank", 0, "backbone.lora.rank: 0"),
        ("model.init_args.backbone.train_layers", 1, "backbone.train_layers: adapters are trained instead"),
        ("data.init_args.batch_size", 0, "data.batch_size: 0"),
    ],
)
def test_numbers_out_of_range(tmp_path, capsys, tiny_llama, path, value, named):
    """Said by the command, and by what reads a config before anything is loaded (a STaR run)."""
    config = {
        "model": {"class_path": "genrm_lightning.objectives.GenRM", "init_args": {"backbone": {"lora": {"rank": 4}}}},
        "data": embedded(),
    }
    at = config
    for step in path.split(".")[:-1]:
        at = at.setdefault(step, {})
    at[path.split(".")[-1]] = value
    with pytest.raises(UserError, match=f"here: {named}"):
        parse("fit", config, "here")
    file = write_yaml(tmp_path / "fit.yaml", config)
    assert main(["fit", "--config", str(file), "--trainer.default_root_dir", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: {named}") and said.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_checkpoint_runs_no_code(tmp_path):
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    torch.save({"state_dict": Evil()}, tmp_path / "evil.ckpt")
    with pytest.raises(Exception, match="not a readable checkpoint"):
        CheckpointFiles().load_checkpoint(tmp_path / "evil.ckpt", weights_only=False)
    assert not (tmp_path / "ran").exists()


def test_a_checkpoint_is_whole_or_absent(tmp_path):
    class Dies:
        def __reduce__(self):
            raise KeyboardInterrupt

    files = CheckpointFiles()
    whole = {"state_dict": {}, "loops": {}, "global_step": 1, "pytorch-lightning_version": "2"}
    files.save_checkpoint(whole, tmp_path / "last.ckpt")
    with pytest.raises(KeyboardInterrupt):
        files.save_checkpoint({"step": Dies()}, tmp_path / "last.ckpt")
    assert files.load_checkpoint(tmp_path / "last.ckpt") == whole
    assert [p.name for p in tmp_path.iterdir()] == ["last.ckpt"]


def test_ones_own_callbacks_and_logger_stay(tmp_path, capfd, tiny_llama):
    checkpoints = {"class_path": "lightning.pytorch.callbacks.ModelCheckpoint", "init_args": {"save_top_k": -1}}
    more = {"callbacks": checkpoints, "logger": False, "enable_progress_bar": False}
    assert run("fit", tmp_path, tiny_llama, **more) == 0
    assert [p.suffix for p in (tmp_path / "checkpoints").iterdir()] == [".ckpt"], "where a resume looks for it"
    assert not (tmp_path / "tensorboard").exists() and capfd.readouterr().err == ""


def test_no_warnings(tmp_path, capfd, tiny_llama):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert run("fit", tmp_path, tiny_llama) == 0
    ours = [str(w.message) for w in caught if "genrm" in w.filename]
    assert ours == []


def test_a_fit_on_tables_without_validation(tmp_path, capfd, tiny_llama):
    data_tools(["verifiable", "--rows", "8", "--test-rows", "4", "--out", str(tmp_path / "data")])
    tables = {"class_path": "genrm_lightning.data.Tables"}
    tables["init_args"] = {"train": str(tmp_path / "data/train.parquet"), "batch_size": 4}
    capfd.readouterr()
    assert run("fit", tmp_path / "out", tiny_llama, data=tables) == 0
    said = capfd.readouterr()
    assert said.err.count("\n") == 1, said.err
    assert run("validate", tmp_path / "out", tiny_llama, data=tables) == 2
    assert capfd.readouterr().err == "error: data.validation: no file given\n"


@pytest.mark.parametrize("objective", SCORES)
def test_real_pairs(tmp_path, capfd, tiny_llama, pairs_folder, objective):
    raw = pairs_folder / "hh_helpful.jsonl.gz"
    argv = ["ingest", str(raw), "--out", str(tmp_path / "data"), "--rows", "24", "--max-chars", "600", "--redo"]
    assert data_tools(argv) == 0
    files = {split: str(tmp_path / f"data/{split}.parquet") for split in ("train", "validation", "test")}
    data = {"class_path": "genrm_lightning.data.Tables", "init_args": {**files, "batch_size": 4}}
    assert run("fit", tmp_path / "out", tiny_llama, objective=objective, data=data) == 0
    assert judge_info(tmp_path / "out/judge")["objective"] == objective
    assert run("predict", tmp_path / "p", tmp_path / "out/judge", objective=objective, data=data) == 0
    assert pl.read_parquet(tmp_path / "p/predictions.parquet")["pair_id"].n_unique() == 24
