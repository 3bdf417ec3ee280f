"""Two real processes take the steps of one."""

import sys

import pytest
from safetensors.torch import load_file

from data_tools.artifact import write_table
from data_tools.schema import PREFERENCE
from tests.tiny import preferences
from tests.tiny_star import python, write_yaml


@pytest.mark.skipif(sys.platform != "linux", reason="gloo between processes is tried on Linux")
def test_two_processes_take_the_steps_of_one(tmp_path, tiny_llama):
    """11 pairs in both orders, steps of 8 rows: 8, 8 and 6, so one process has a row less at the end, and a filler."""
    write_table(preferences(11), tmp_path / "pairs.parquet", PREFERENCE)

    def weights(name: str, batch_size: int, **trainer):
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
                "init_args": {"train": str(tmp_path / "pairs.parquet"), "batch_size": batch_size},
            },
            "trainer": {
                "accelerator": "cpu", "precision": "32-true", "max_epochs": 2, "default_root_dir": str(root), **trainer,
            },
        }  # fmt: skip
        done = python("fit", "--config", write_yaml(tmp_path / f"{name}.yaml", config), timeout=300)
        assert done.returncode == 0, done.stderr
        assert "6 steps" in done.stderr
        return load_file(root / "judge/model.safetensors")

    one = weights("one", 8, devices=1)
    two = weights("two", 2, devices=2, strategy="ddp", accumulate_grad_batches=2)
    begun = load_file(tiny_llama / "model.safetensors")
    assert max(float((one[name] - begun[name]).abs().max()) for name in one) > 1e-3
    assert max(float((one[name] - two[name]).abs().max()) for name in one) < 1e-5
