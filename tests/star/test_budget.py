"""Pairs that do not fit, through a whole STaR run and an evaluation: shortened or dropped, counted, and said."""

import json

import polars as pl
import pytest

from data_tools import verifiable
from data_tools.artifact import write_table
from data_tools.schema import EXAMPLE, JUDGMENT, PREFERENCE
from genrm_lightning.__main__ import main
from genrm_lightning.budget import MARK
from tests.tiny_star import star_config, star_fit, write_yaml


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """train: every conversation is long; ood: the first response is."""
    folder = tmp_path_factory.mktemp("pairs")
    made = verifiable.build(16, 0, 4)
    first = pl.int_range(pl.len()) == 0
    turns = [{"role": "user", "content": "the old tale " * 900}, {"role": "assistant", "content": "I see."}]
    long = pl.concat_list(pl.lit(turns, dtype=PREFERENCE["prompt"]), "prompt")
    made["train"] = made["train"].with_columns(prompt=long)
    made["ood"] = made["ood"].with_columns(chosen=pl.when(first).then(pl.lit("long " * 3000)).otherwise("chosen"))
    paths = {name: str(folder / f"{name}.parquet") for name in ("train", "test", "ood")}
    for name, path in paths.items():
        write_table(made[name], path, PREFERENCE)
    return paths


def test_a_run_with_pairs_that_do_not_fit(tmp_path, capfd, tiny_llama, files):
    """Sampled, scored and fitted on shortened prompts; the held-out pair without room is in no number but its own."""
    run = tmp_path / "run"
    fit = star_fit()
    fit["data"]["init_args"]["max_tokens"] = 600
    data = {**files, "decontaminate": False}  # embedded tasks of one kind are alike
    config = star_config(run, tiny_llama, data=data, fit=fit)
    assert main(["star", "--config", str(write_yaml(tmp_path / "star.yaml", config))]) == 0
    said = capfd.readouterr()
    lines = said.err.splitlines()
    assert "iteration 1: sample: 8 of 8 rows shortened, 0 dropped (the model's context of 2048 leaves" in said.err
    assert sum(line.startswith("zero-shot: evaluate ood: 0 of 4 rows shortened, 1 dropped") for line in lines) == 1
    scored = pl.read_parquet(run / "iteration-1/score/examples.parquet", schema=EXAMPLE)
    assert all(MARK in prompt[-1]["content"] for prompt in scored["prompt"])
    assert f"examples: {len(scored)} of {len(scored)} rows shortened, 0 dropped (data.max_tokens is 600" in said.err
    assert "rows shortened" not in said.err.split("iteration 1: fit")[-1].split("iteration 1: evaluate")[0]
    for row in json.loads((run / "summary.json").read_text())["rows"]:
        assert (row["n_pairs_id"], row["n_dropped_id"], row["n_pairs_ood"], row["n_dropped_ood"]) == (4, 0, 3, 1)
    assert "3 pairs (1 more did not fit the context)" in " ".join(said.out.split())
    facts = json.loads((run / "iteration-1/evaluate/manifest.json").read_text())["facts"]
    gone = pl.read_parquet(files["ood"])["pair_id"][0]
    assert facts["dropped"] == {"id": [], "ood": [gone]}
    assert main(["star", "--config", str(tmp_path / "star.yaml")]) == 0
    assert "nothing to do" in capfd.readouterr().out


def test_an_evaluation_counts_what_it_drops(tmp_path, capfd, tiny_llama, files):
    argv = ["evaluate", "--judge", str(tiny_llama), "--data", files["ood"], "--out", str(tmp_path / "out")]
    argv += ["--dtype", "float32", "--judge_prompt", "brief", "--sampling.rationale_tokens", "4"]
    assert main(argv) == 0
    said = capfd.readouterr()
    assert f"{files['ood']}: 0 of 4 rows shortened, 1 dropped (the model's context of 2048 leaves" in said.err
    assert said.out.rstrip().endswith("3       1")  # pairs, and those that did not fit
    scores = json.loads((tmp_path / "out/scores.json").read_text())["sets"]["ood"]
    assert (scores["n_pairs"], scores["n_dropped"]) == (3, 1)
    assert pl.read_parquet(tmp_path / "out/sets/ood/judgments.parquet", schema=JUDGMENT)["pair_id"].n_unique() == 3
