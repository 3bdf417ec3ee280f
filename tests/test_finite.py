"""A loss, gradient or weight that is no number: one line, status 2, and what was good before stays."""

from __future__ import annotations

import math
import shutil
import sys

import lightning as L
import polars as pl
import pytest
import torch
from safetensors.torch import load_file, save_file

from data_tools.artifact import write_table
from data_tools.schema import PREFERENCE
from genrm_lightning.backbone import BackboneSettings, load_renderer
from genrm_lightning.batching import batch_plan
from genrm_lightning.callbacks import LastCheckpoint
from genrm_lightning.data import Tables
from genrm_lightning.errors import NotFinite
from genrm_lightning.finite import gradient_norm
from genrm_lightning.objectives import BradleyTerry, OptimizerSettings
from tests.tiny import make_trainer, preferences
from tests.tiny_star import python, write_yaml

POISONED = 4  # the pair whose response holds a word of its own
SEED = 2


def pairs() -> pl.DataFrame:
    poisoned = pl.col("pair_id") == f"pair-{POISONED}"
    return preferences(8).with_columns(chosen=pl.when(poisoned).then(pl.lit("a red fox Ω")).otherwise("chosen"))


@pytest.fixture(scope="module")
def backbone(tiny_llama, tmp_path_factory):
    """The tiny Llama with an embedding of NaN for a token that only the poisoned pair has."""
    folder = shutil.copytree(tiny_llama, tmp_path_factory.mktemp("poisoned") / "llama")
    renderer = load_renderer(str(tiny_llama))
    plain = {token for row in preferences(8).iter_rows() for token in renderer.text(str(row))}
    weights = load_file(folder / "model.safetensors")
    weights["model.embed_tokens.weight"][next(t for t in renderer.text("Ω") if t not in plain)] = math.nan
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    return folder


def fit(folder, backbone, **trainer):
    """A fit of one row a step in a process of its own, with a checkpoint after every step."""
    write_table(pairs(), folder / "pairs.parquet", PREFERENCE)
    clock = {"class_path": "genrm_lightning.callbacks.LastCheckpoint", "init_args": {"minutes": 1e-6}}
    config = {
        "model": {
            "class_path": "genrm_lightning.objectives.BradleyTerry",
            "init_args": {
                "backbone": {"name": str(backbone), "lora": None, "train_layers": 1},
                "optimizer": {"learning_rate": 1e-3},
            },
        },
        "data": {
            "class_path": "genrm_lightning.data.Tables",
            "init_args": {"train": str(folder / "pairs.parquet"), "batch_size": 1, "seed": SEED},
        },
        "trainer": {
            "accelerator": "cpu", "devices": 1, "precision": "32-true", "default_root_dir": str(folder / "out"),
            "callbacks": [clock], "enable_progress_bar": False, **trainer,
        },
    }  # fmt: skip
    return python("fit", "--config", write_yaml(folder / "fit.yaml", config), timeout=300)


def steps_before(backbone, rows: int) -> tuple[int, list[str]]:
    """(steps that end well, pairs of the one that does not)."""
    objective = BradleyTerry(BackboneSettings(str(backbone), lora=None))
    plan = batch_plan([len(tree) for tree in objective.trees(pairs(), objective.renderer)], rows, SEED, 0)
    step = next(i for i, own in enumerate(plan) if POISONED in own)
    return step, [f"pair-{i}" for i in plan[step]]


def test_a_poisoned_weight_stops_the_fit_and_the_last_checkpoint_is_good(tmp_path, backbone):
    done = fit(tmp_path, backbone)
    before, _ = steps_before(backbone, 1)
    last = tmp_path / "out/checkpoints/last.ckpt"
    assert before, "a step before it"
    assert (done.returncode, done.stderr) == (
        2,
        f"error: the loss is nan at pairs pair-{POISONED}; stopped after step {before} (the last good checkpoint: "
        f"{last}): begin anew with a lower optimizer.learning_rate, or without these pairs\n",
    )
    assert not (tmp_path / "out/judge").exists()
    checkpoint = torch.load(last, weights_only=True)
    assert checkpoint["global_step"] == before
    assert all(value.isfinite().all() for value in checkpoint["state_dict"].values())


@pytest.mark.skipif(sys.platform != "linux", reason="gloo between processes is tried on Linux")
def test_all_processes_stop_at_the_same_step(tmp_path, backbone):
    """One of the two finds it, the first one says it."""
    done = fit(tmp_path, backbone, devices=2, strategy="ddp", accumulate_grad_batches=2)
    before, _ = steps_before(backbone, 4)
    said = [line for line in done.stderr.splitlines() if line.startswith("error")]
    assert done.returncode == 2 and len(said) == 1, done.stderr
    assert f"the loss is nan at pairs pair-{POISONED}; stopped after step {before}:" in said[0]
    assert "Traceback" not in done.stderr and not (tmp_path / "out/judge").exists()


# In this process


def objective(folder) -> BradleyTerry:
    return BradleyTerry(BackboneSettings(str(folder), lora=None), OptimizerSettings(1e-3))


def test_a_gradient_that_is_no_number_stops_before_its_step(tiny_llama, tmp_path):
    """A finite loss with a gradient that is not: the weights stay what they were."""

    class Sharp(BradleyTerry):
        def loss(self, batch, output):
            loss, values = super().loss(batch, output)
            if "pair-4" in batch.pair_ids:
                loss = loss + (output.rewards * 0).sum().sqrt()  # 0 · ∞
            return loss, values

    write_table(pairs(), tmp_path / "pairs.parquet", PREFERENCE)
    sharp = Sharp(BackboneSettings(str(tiny_llama), lora=None), OptimizerSettings(1e-3))
    before, names = steps_before(tiny_llama, 2)
    trainer = make_trainer(tmp_path, accumulate_grad_batches=2, max_epochs=1)
    with pytest.raises(NotFinite, match=f"the gradient's norm is nan at pairs {', '.join(names)}; stopped after step"):
        trainer.fit(sharp, Tables(str(tmp_path / "pairs.parquet"), batch_size=1, seed=SEED))
    assert trainer.global_step == before
    assert all(p.isfinite().all() for p in sharp.parameters())


def test_weights_that_are_no_numbers_are_not_written(tiny_llama, tmp_path):
    """The last step's weights overflow: no later loss would tell."""

    class Overflow(L.Callback):
        def on_train_batch_end(self, trainer, module, *_) -> None:
            torch.nn.init.constant_(module.policy.head.weight, math.inf)

    write_table(pairs(), tmp_path / "pairs.parquet", PREFERENCE)
    keep = LastCheckpoint(minutes=60, dirpath=str(tmp_path / "ckpt"))
    trainer = make_trainer(tmp_path, Overflow(), keep, enable_checkpointing=True)
    with pytest.raises(NotFinite, match=r"policy.head.weight is not finite and was not written; stopped after step 1"):
        trainer.fit(objective(tiny_llama), Tables(str(tmp_path / "pairs.parquet"), batch_size=8))
    assert not list((tmp_path / "ckpt").glob("*"))


def test_a_validation_that_is_no_number_names_its_pairs(backbone, tmp_path):
    write_table(pairs(), tmp_path / "pairs.parquet", PREFERENCE)
    data = Tables(test=str(tmp_path / "pairs.parquet"), batch_size=2)
    with pytest.raises(NotFinite, match=r"^the loss is nan at pairs pair-4, pair-5$"):
        make_trainer(tmp_path).test(objective(backbone), data)


def test_the_norm_of_a_gradient_by_hand():
    parameters = [torch.nn.Parameter(torch.ones(2)) for _ in range(3)]
    assert gradient_norm(parameters) == 0
    parameters[0].grad, parameters[2].grad = torch.tensor([3.0, 0.0]), torch.tensor([0.0, 4.0])
    assert gradient_norm(parameters) == 5
