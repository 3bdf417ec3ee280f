"""Rows of a served model have neither token ids nor log-probabilities, and are trained on all the same."""

import polars as pl
import pytest

from data_tools.__main__ import main as data_tools
from data_tools.artifact import read_table, write_table
from data_tools.schema import EXAMPLE, JUDGMENT, PREFERENCE
from genrm_lightning.__main__ import main
from genrm_lightning.evaluation.scores import set_scores
from tests.test_commands import DRAW
from tests.tiny import preferences
from tests.tiny_star import write_yaml


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tiny_llama):
    """Pairs and the judgments on them, as a server that tells nothing would have given them."""
    folder = tmp_path_factory.mktemp("served")
    write_table(preferences(4), folder / "pairs.parquet", PREFERENCE)
    argv = ["sample", "--judge", tiny_llama, "--pairs", folder / "pairs.parquet", "--out", folder / "drawn", *DRAW]
    assert main([*map(str, argv), "--sampling.n_samples", "5"]) == 0
    table = read_table(folder / "drawn/judgments.parquet", JUDGMENT)
    unknown = {name: pl.lit(None, JUDGMENT[name]) for name in ("token_ids", "logp", "mean_token_prob")}
    table = table.with_columns(p_a=(pl.col("vote") == "A").cast(pl.Float32), **unknown)
    write_table(table, folder / "judgments.parquet", JUDGMENT)
    return folder


def test_from_served_rows_to_a_judge(folder, tmp_path, tiny_llama):
    examples, scored = tmp_path / "examples.parquet", tmp_path / "scored.parquet"
    argv = ["star", "--judgments", folder / "judgments.parquet", "--preferences", folder / "pairs.parquet"]
    assert data_tools([*map(str, argv), "--objective", "dpo", "--template", "brief", "--out", str(examples)]) == 0
    table = read_table(examples, EXAMPLE)
    for column in ("completion_ids", "rejected_ids"):
        assert table.height and table[column].null_count() == table.height
    fit = {
        "model": {
            "class_path": "genrm_lightning.objectives.RationaleDPO",
            "init_args": {"judge_prompt": "brief", "backbone": {"name": str(tiny_llama), "lora": None}},
        },
        "data": {"class_path": "genrm_lightning.data.Tables", "init_args": {"train": str(scored), "batch_size": 4}},
        "trainer": {"accelerator": "cpu", "devices": 1, "default_root_dir": str(tmp_path / "fit")},
    }
    config = write_yaml(tmp_path / "fit.yaml", fit)
    argv = ["score", "--examples", examples, "--reference", tiny_llama, "--fit", config, "--out", scored]
    assert main(list(map(str, argv))) == 0
    assert main(["fit", "--config", str(config)]) == 0
    assert (tmp_path / "fit/judge/genrm.json").exists()


def test_scores_of_letters_alone(folder):
    scores = set_scores(read_table(folder / "judgments.parquet", JUDGMENT), preferences(4), set())
    assert 0 <= scores.accuracy <= 1 and scores.accuracy_low <= scores.accuracy <= scores.accuracy_high
