"""Two real processes take the steps of one."""

import sys

import polars as pl
import pytest
from safetensors.torch import load_file

from data_tools.artifact import write_table
from data_tools.schema import PREFERENCE
from tests.tiny import preferences
from tests.tiny_star import python, scalars, write_yaml


@pytest.mark.skipif(sys.platform != "linux", reason="gloo between processes is tried on Linux")
@pytest.mark.parametrize(
    ("size", "one", "share"), [("batch_size", 8, 2), ("batch_tokens", 936, 234)], ids=["rows", "tokens"]
)
def test_two_processes_take_the_steps_of_one(tmp_path, tiny_llama, size, one, share):
    """11 pairs in both orders, steps of 8 rows: 8, 8 and 6, so one process has a row less at the end, and a filler.

    Or of 936 tokens, one response being long: three steps of 7 or 8 rows.
    """
    rows = preferences(11)
    if size == "batch_tokens":
        long = pl.col("chosen") + " that jumps over the lazy dog"
        rows = rows.with_columns(chosen=pl.when(pl.col("pair_id") == "pair-3").then(long).otherwise("chosen"))
    write_table(rows, tmp_path / "pairs.parquet", PREFERENCE)

    files = {part: str(tmp_path / "pairs.parquet") for part in ("train", "validation")}

    def fitted(name: str, value: int, **trainer):
        root = tmp_path / name
        config = {
            "model": {
                "class_path": "genrm_lightning.objectives.GenRM",
                "init_args": {
                    "judge_prompt": "brief",
                    "backbone": {"name": str(tiny_llama), "lora": None},
                    "optimizer": {"learning_rate": 1e-3},
                },
            },
            "data": {
                "class_path": "genrm_lightning.data.Tables",
                "init_args": {**files, size: value},
            },
            "trainer": {
                "accelerator": "cpu", "precision": "32-true", "max_epochs": 2, "default_root_dir": str(root), **trainer,
            },
        }  # fmt: skip
        done = python("fit", "--config", write_yaml(tmp_path / f"{name}.yaml", config), timeout=300)
        assert done.returncode == 0, done.stderr
        assert "6 steps" in done.stderr
        said = scalars(next((root / "tensorboard").glob("version_*")))
        held_out = {tag: value for tag, ((_, value), *_) in said.items() if tag.startswith("val/")}
        return load_file(root / "judge/model.safetensors"), held_out

    one, said = fitted("one", one, devices=1)
    two, said_by_two = fitted("two", share, devices=2, strategy="ddp", accumulate_grad_batches=2)
    begun = load_file(tiny_llama / "model.safetensors")
    assert max(float((one[name] - begun[name]).abs().max()) for name in one) > 1e-3
    assert max(float((one[name] - two[name]).abs().max()) for name in one) < 1e-5
    assert said_by_two == pytest.approx(said, abs=1e-4)
    assert said.keys() >= {"val/accuracy", "val/ece", "val/brier", "val/position_consistency", "val/position_bias"}
