"""What the tests of objectives share: each objective on eight rows of the tiny Llama."""

from __future__ import annotations

from pathlib import Path

import pytest

from data_tools.artifact import write_table
from data_tools.schema import EXAMPLE
from genrm_lightning.backbone import BackboneSettings, LoraSettings
from genrm_lightning.data import Tables
from genrm_lightning.objectives import (
    BradleyTerry,
    GenRM,
    IPORationalizer,
    Objective,
    OnPolicyRationalizer,
    OptimizerSettings,
    PairRM,
    RationaleDPO,
    Rationalizer,
    STaRSFT,
)
from genrm_lightning.scoring import score_examples
from tests.tiny import Steps, examples, make_trainer, preferences

# What a backbone trains: everything, one layer, adapters; with recomputed activations.
WAYS = {
    "full": {"lora": None},
    "layers": {"lora": None, "train_layers": 1},
    "lora": {"lora": LoraSettings(rank=4)},
    "lora, checkpointing": {"lora": LoraSettings(rank=4), "gradient_checkpointing": True},
    "checkpointing": {"lora": None, "gradient_checkpointing": True},
}
# Class, its arguments, and what its last loss must be below: near the least it can be.
KINDS = {
    "bradley_terry": (BradleyTerry, {"center": 0.001}, 0.05),
    "pairrm": (PairRM, {}, 0.05),
    "genrm": (GenRM, {"judge_prompt": "brief"}, 0.1),
    "star_sft": (STaRSFT, {"judge_prompt": "brief"}, 0.1),
    "dpo": (RationaleDPO, {"judge_prompt": "brief", "beta": 0.1, "nll_weight": 0.1}, 0.1),
    "dpo, direct": (
        RationaleDPO,
        {"judge_prompt": "brief", "beta": 0.1, "nll_weight": 0.1, "choice_weight": 1.0, "direct_weight": 1.0},
        0.1,
    ),
    "ipo_rationalizer": (IPORationalizer, {"judge_prompt": "brief"}, 0.3),
    "star_sft, direct": (STaRSFT, {"judge_prompt": "brief", "choice_weight": 1.0, "direct_weight": 1.0}, 0.1),
    "rationalizer": (Rationalizer, {"judge_prompt": "brief"}, 0.1),
    "rationalizer, told": (Rationalizer, {"judge_prompt": "brief", "told_weight": 0.5, "direct_weight": 0.5}, 0.2),
    "on_policy": (OnPolicyRationalizer, {"judge_prompt": "brief", "teacher": "current", "choice_weight": 1.0}, 0.1),
}


def backbone(folder: Path, way: str = "full") -> BackboneSettings:
    return BackboneSettings(str(folder), **WAYS[way])


def make(kind: str, folder: Path, way: str = "full", rate: float = 5e-3, **changes) -> Objective:
    cls, options, _ = KINDS[kind]
    return cls(backbone(folder, way), OptimizerSettings(rate, warmup=0.1), **{**options, **changes})


@pytest.fixture(scope="module")
def files(tiny_llama, tmp_path_factory) -> dict[str, str]:
    """Eight rows for each objective; the examples with their reference's log-probabilities."""
    folder = tmp_path_factory.mktemp("rows")
    scored = score_examples(examples(8), str(tiny_llama), fit_config(lora=None))
    tables = {"pairs": preferences(8), "four": preferences(4), "examples": scored}
    for name, table in tables.items():
        write_table(table, folder / f"{name}.parquet", EXAMPLE if name == "examples" else table.schema)
    name = {"bradley_terry": "pairs", "pairrm": "pairs", "genrm": "four"}
    return {kind: str(folder / f"{name.get(kind, 'examples')}.parquet") for kind in KINDS}


def fit_config(**chosen) -> dict:
    return {"model": {"init_args": {"backbone": chosen}}, "trainer": {"precision": "32-true"}}


def fit(objective: Objective, file: str, folder: Path, epochs: int = 1, **options) -> tuple[Steps, dict[str, float]]:
    steps = Steps()
    trainer = make_trainer(folder, steps, max_epochs=epochs, **options)
    trainer.fit(objective, Tables(file, batch_size=8))
    return steps, {name: float(value) for name, value in trainer.callback_metrics.items()}
