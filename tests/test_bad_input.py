"""Bad input: one line that names file and line or key and says what to do, status 2, nothing half-written."""

import json
import shutil

import polars as pl
import pytest

from data_tools import verifiable
from data_tools.__main__ import main as data_tools
from data_tools.artifact import write_table
from data_tools.schema import PREFERENCE
from genrm_lightning.__main__ import main
from tests.tiny import tiny_tokenizer
from tests.tiny_star import star_config, star_fit, write_yaml


def refused(capfd, *argv, command=main):
    """Runs a command that should fail; its one line."""
    capfd.readouterr()
    assert command([str(argument) for argument in argv]) == 2
    said = capfd.readouterr()
    assert said.err.startswith("error: ") and said.err.count("\n") == 1 and said.out == "", said
    return said.err.removeprefix("error: ")


def refused_star(capfd, folder, backbone, *flags, trace=False, **changes):
    file = write_yaml(folder / "star.yaml", star_config(folder / "run", backbone, **changes))
    said = refused(capfd, "star", "--config", file, *flags)
    assert trace or not (folder / "run").exists(), sorted((folder / "run").rglob("*"))
    return said


@pytest.fixture(scope="module")
def made():
    return verifiable.build(8, 0, 4)


@pytest.fixture
def files(tmp_path, made):
    """train, test and ood as files."""
    paths = {name: tmp_path / f"{name}.parquet" for name in ("train", "test", "ood")}
    for name, path in paths.items():
        write_table(made[name], path, PREFERENCE)
    return paths


def as_data(files):
    return {name: str(path) for name, path in files.items()}


def test_a_broken_line(tmp_path, capfd):
    raw = tmp_path / "raw.jsonl"
    raw.write_text(json.dumps({"prompt": "a", "chosen": "b", "rejected": "c"}) + "\n{broken\n")
    said = refused(capfd, "ingest", raw, "--out", tmp_path / "out", command=data_tools)
    assert "raw.jsonl: line 2 is not valid JSON" in said and not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["train", "test", "ood"])
def test_a_missing_file(tmp_path, capfd, tiny_llama, files, name):
    files[name].unlink()
    said = refused_star(capfd, tmp_path, tiny_llama, data=as_data(files))
    assert said.startswith(f"data.{name}: {files[name]}: no such file; make it with: python -m data_tools ingest")


def test_two_of_three_files(tmp_path, capfd, tiny_llama, files):
    del files["ood"]
    assert "data.ood: no file given, but data.train is" in refused_star(
        capfd, tmp_path, tiny_llama, data=as_data(files)
    )


def test_a_wrong_column(tmp_path, capfd, tiny_llama, files, made):
    made["test"].drop("chosen").write_parquet(files["test"])
    said = refused_star(capfd, tmp_path, tiny_llama, data=as_data(files))
    assert f"{files['test']}: column 'chosen' is missing; a PREFERENCE table has" in said
    made["test"].with_columns(chosen=pl.lit(1)).write_parquet(files["test"])
    assert "column 'chosen' is Int32" in refused_star(capfd, tmp_path, tiny_llama, data=as_data(files))


def test_no_parquet(tmp_path, capfd, tiny_llama, files):
    files["ood"].write_text("{}")
    said = refused_star(capfd, tmp_path, tiny_llama, data=as_data(files))
    assert f"{files['ood']}: not a readable parquet file" in said and "python -m data_tools ingest" in said


@pytest.mark.parametrize("name", ["train", "test"])
def test_an_empty_split(tmp_path, capfd, tiny_llama, files, made, name):
    write_table(made[name].clear(), files[name], PREFERENCE)
    said = refused_star(capfd, tmp_path, tiny_llama, data=as_data(files))
    assert said.startswith(f"{files[name]}: no rows")
    arguments = {"train": str(files["train"]), "test": str(files["test"])}
    config = {
        "model": {"class_path": "GenRM", "init_args": {"backbone": {"name": str(tiny_llama)}}},
        "data": {"class_path": "genrm_lightning.data.Tables", "init_args": arguments},
        "trainer": {"default_root_dir": str(tmp_path / "out"), "accelerator": "cpu"},
    }
    file = write_yaml(tmp_path / "fit.yaml", config)
    assert f"{files[name]}: no rows for {name}" in refused(
        capfd, "fit" if name == "train" else "test", "--config", file
    )
    assert not (tmp_path / "out" / "judge").exists()
    argv = ["--judge", tiny_llama, "--data", files[name], "--out", tmp_path / "out2"]
    assert "no rows" in refused(capfd, "evaluate", *argv)
    assert not (tmp_path / "out2").exists()


def test_shared_prompts(tmp_path, capfd, tiny_llama, files, made):
    write_table(pl.concat([made["test"], made["train"].head(2)]), files["test"], PREFERENCE)
    data = as_data(files) | {"decontaminate": False}
    said = refused_star(capfd, tmp_path, tiny_llama, data=data)
    assert said.startswith(f"{files['test']}: 2 of its prompts also occur in {files['train']}; separate them with")


def test_every_training_prompt_is_held_out(tmp_path, capfd, tiny_llama, files, made):
    write_table(pl.concat([made["test"], made["train"]]), files["test"], PREFERENCE)
    said = refused_star(capfd, tmp_path, tiny_llama, data=as_data(files))
    assert said.startswith(f"{files['train']}: each of its {len(made['train'])} prompts overlaps a held-out one; ")


def test_no_chat_template(tmp_path, capfd, tiny_llama):
    plain = tmp_path / "plain"
    shutil.copytree(tiny_llama, plain)
    (plain / "chat_template.jinja").unlink(missing_ok=True)
    tiny_tokenizer(template=None).save_pretrained(plain)
    assert f"the tokenizer of '{plain}' has no chat template" in refused_star(capfd, tmp_path, plain)


def test_no_model(tmp_path, capfd, tiny_llama):
    said = refused_star(capfd, tmp_path, tmp_path / "nowhere")
    assert "nowhere" in said and "give a hub id or a HF folder" in said
    argv = ["--pairs", tmp_path / "none.parquet", "--out", tmp_path / "out"]
    assert "none.parquet: no such file" in refused(capfd, "sample", "--judge", tiny_llama, *argv)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["train", "ood"])
def test_a_pair_longer_than_the_context(tmp_path, capfd, tiny_llama, files, made, name):
    long = (
        made[name]
        .with_row_index()
        .with_columns(chosen=pl.when(pl.col("index") == 1).then(pl.lit("long " * 3000)).otherwise("chosen"))
    )
    write_table(long.drop("index"), files[name], PREFERENCE)
    said = refused_star(capfd, tmp_path, tiny_llama, data=as_data(files), too_long="error")
    assert f"pair '{made[name]['pair_id'][1]}'" in said and "context of 2048" in said and "--max-chars" in said
    argv = ["--judge", tiny_llama, "--data", files[name], "--out", tmp_path / "out", "--dtype", "float32"]
    assert made[name]["pair_id"][1] in refused(capfd, "evaluate", *argv, "--too_long", "error")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["train", "test"])
def test_pairs_of_which_none_fits(tmp_path, capfd, tiny_llama, files, made, name):
    """A policy that leaves nothing is said before anything is sampled."""
    write_table(made[name].with_columns(chosen=pl.lit("long " * 3000)), files[name], PREFERENCE)
    said = refused_star(capfd, tmp_path, tiny_llama, data=as_data(files))
    shown = "id" if name == "test" else name
    assert said.startswith(f"{shown}: none of {len(made[name])} pairs fits, the model's context of 2048 leaves ")
    argv = ["--judge", tiny_llama, "--data", files[name], "--out", tmp_path / "out", "--dtype", "float32"]
    assert f"{files[name]}: no row fits: 0 of {len(made[name])} rows shortened" in refused(capfd, "evaluate", *argv)
    assert not (tmp_path / "out").exists()


def test_an_unknown_policy(tmp_path, capfd, tiny_llama, files):
    assert "too_long" in refused_star(capfd, tmp_path, tiny_llama, too_long="cut")
    argv = ["--judge", tiny_llama, "--data", files["test"], "--out", tmp_path / "out", "--too_long", "cut"]
    assert "too_long" in refused(capfd, "evaluate", *argv)


def test_a_tree_longer_than_max_tokens_is_found_before_sampling(tmp_path, capfd, tiny_llama):
    fit = star_fit()
    fit["data"]["init_args"]["max_tokens"] = 50
    said = refused_star(capfd, tmp_path, tiny_llama, fit=fit)
    assert "fit.data.init_args.max_tokens of 50 leaves" in said


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"iterations": 0}, "iterations: 0 is not above 0"),
        ({"iterations": 3}, "iterations: 3 is more than parts (2)"),
        ({"parts": 9}, "parts=9"),
        ({"shard_size": 0}, "shard_size: 0 is not above 0"),
        ({"sampling": {"n_samples": 0}}, "sampling.n_samples: 0 is not above 0"),
        ({"data": {"embedded": {"rows": 0}}}, "rows is 0"),
    ],
)
def test_numbers_out_of_range(tmp_path, capfd, tiny_llama, changes, named):
    changes = {"data": {"embedded": {"rows": 8, "test_rows": 2}}} | changes
    assert named in refused_star(capfd, tmp_path, tiny_llama, **changes)


@pytest.mark.parametrize(("flag", "value"), [("--rows", 0), ("--shard_size", 0), ("--sampling.n_samples", 0)])
def test_numbers_out_of_range_by_hand(tmp_path, capfd, tiny_llama, files, flag, value):
    argv = ["sample", "--judge", tiny_llama, "--pairs", files["train"], "--out", tmp_path / "out"]
    assert flag.removeprefix("--") in refused(capfd, *argv, flag, value)
    assert not (tmp_path / "out").exists()


def test_an_empty_selection(tmp_path, capfd, tiny_llama):
    """A verdict that never varies: no prompt has a right and a wrong sample, and the line says what to do."""
    file = write_yaml(tmp_path / "star.yaml", cold(tmp_path, tiny_llama, verdict_temperature=1e-6))
    assert main(["star", "--config", str(file)]) == 2
    said = capfd.readouterr().err.splitlines()[-1]
    assert said.startswith("error: no dpo example is left of 64 judgments (right ")
    assert "sample more a prompt, at a higher temperature" in said
    run = tmp_path / "run/iteration-1"
    assert (run / "sample/manifest.json").exists() and not (run / "select").exists() and not (run / "fit").exists()
    # The remedy is another folder, or this stage anew.
    file = write_yaml(tmp_path / "star.yaml", cold(tmp_path, tiny_llama, verdict_temperature=1.0))
    assert "sample/manifest.json: made with another 'sampling'" in refused(capfd, "star", "--config", file)


def cold(folder, backbone, verdict_temperature):
    sampling = {"n_samples": 4, "rationale_tokens": 6, "verdict_temperature": verdict_temperature, "temperature": 1e-3}
    return star_config(folder / "run", backbone, sampling=sampling)


def test_a_corrupted_manifest(tmp_path, capfd, tiny_llama):
    manifest = tmp_path / "run/data/manifest.json"
    manifest.parent.mkdir(parents=True)
    manifest.write_text("{")
    said = refused_star(capfd, tmp_path, tiny_llama, trace=True)
    assert f"{manifest}: not valid JSON" in said and "remove it and run the command again" in said


def test_a_run_is_a_file(tmp_path, capfd, tiny_llama):
    (tmp_path / "run").write_text("")
    assert str(tmp_path / "run") in refused_star(capfd, tmp_path, tiny_llama, trace=True)
    assert (tmp_path / "run").read_text() == ""


def test_score_of_no_file(tmp_path, capfd, tiny_llama):
    argv = ["score", "--reference", tiny_llama, "--out", tmp_path / "out.parquet"]
    assert "none.parquet: no such file" in refused(capfd, *argv, "--examples", tmp_path / "none.parquet")
    argv += ["--examples", tmp_path / "none.parquet", "--fit", tmp_path / "none.yaml"]
    assert "none.yaml: no such file" in refused(capfd, *argv)


def test_embedded_pairs_cannot_train_rationales(tmp_path, capfd, tiny_llama):
    argv = ["fit", "--model", "STaRSFT", "--model.init_args.backbone.name", tiny_llama]
    argv += ["--data.init_args.rows", 4, "--trainer.default_root_dir", tmp_path / "out"]
    assert "STaRSFT trains on sampled rationales" in refused(capfd, *argv)
    assert not (tmp_path / "out").exists()
