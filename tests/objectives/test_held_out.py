"""What validation and test say of a judge, against the same from its predictions, row by row."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
import torch

from data_tools.artifact import write_table
from data_tools.order import chosen_is_a
from data_tools.schema import PREFERENCE
from genrm_lightning.data import Tables
from genrm_lightning.objectives import GenRM
from tests.objectives.common import make
from tests.tiny import make_trainer, preferences

PAIRS = 7


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> str:
    """Pairs of which the tiny Llama is not always sure, and not always right."""
    path = tmp_path_factory.mktemp("held-out") / "pairs.parquet"
    rows = preferences(PAIRS).with_columns(
        chosen=pl.col("chosen") + pl.int_range(PAIRS).map_elements(lambda i: " fox" * i, return_dtype=pl.String)
    )
    write_table(rows, path, PREFERENCE)
    return str(path)


def said_and_margins(objective, file, folder, batch_size) -> tuple[dict[str, float], np.ndarray]:
    data = Tables(validation=file, test=file, batch_size=batch_size)
    validated = make_trainer(folder).validate(objective, data, verbose=False)[0]
    tested = make_trainer(folder).test(objective, data, verbose=False)[0]
    said = {name.removeprefix("val/"): value for name, value in validated.items()}
    assert {name.removeprefix("test/"): value for name, value in tested.items()} == pytest.approx(said)
    return said, torch.cat([b["accuracy"] for b in make_trainer(folder).predict(objective, data)]).double().numpy()


@pytest.mark.parametrize("kind", ["bradley_terry", "pairrm", "genrm"])
def test_calibration(tiny_llama, tmp_path, file, kind):
    torch.manual_seed(5)
    objective = make(kind, tiny_llama)
    objective.configure_model()
    if objective.scores:
        torch.nn.init.normal_(objective.policy.head.weight, std=0.3)  # a new head hardly tells responses apart
    said, margins = said_and_margins(objective, file, tmp_path, batch_size=3)
    p = 1 / (1 + np.exp(-margins))
    assert p.std() > 0.05
    assert said["accuracy"] == pytest.approx((margins > 0).mean())
    assert said["brier"] == pytest.approx(((1 - p) ** 2).mean(), abs=1e-6)
    sure, right = np.maximum(p, 1 - p), p > 0.5
    bins = np.digitize(sure, np.arange(11, 20) / 20)
    gaps = [abs((right[bins == b] - sure[bins == b]).sum()) for b in range(10)]
    assert said["ece"] == pytest.approx(sum(gaps) / len(p), abs=1e-6)


@pytest.mark.parametrize("sizes", [{"batch_size": 1}, {"batch_size": 3}, {"batch_size": 8}])
def test_both_orders_of_a_judge_meet_again(tiny_llama, tmp_path, file, sizes):
    """Batches of an odd number of rows show a pair's two orders in different ones."""
    objective = make("genrm", tiny_llama)
    objective.configure_model()
    said, margins = said_and_margins(objective, file, tmp_path, **sizes)
    own = margins.reshape(PAIRS, 2)  # not swapped, swapped
    says_a = [
        (own[i, swapped] > 0) == chosen_is_a(f"pair-{i}", bool(swapped)) for i in range(PAIRS) for swapped in range(2)
    ]
    agreed = ((own > 0).all(1) | (own < 0).all(1)).mean()
    assert said["position_consistency"] == pytest.approx(agreed)
    assert said["position_bias"] == pytest.approx(np.mean(says_a) - 0.5, abs=1e-6)
    assert said["position_bias"] != 0


def test_training_says_none_of_them(tiny_llama, tmp_path, file):
    trainer = make_trainer(tmp_path)
    trainer.fit(make("genrm", tiny_llama), Tables(train=file, validation=file, batch_size=8))
    held_out = set(GenRM.held_out)
    names = {name for name in trainer.callback_metrics if name.split("/")[1] in held_out}
    assert names == {f"val/{name}" for name in held_out}


def test_an_order_without_the_other_is_left_out(tiny_llama, tmp_path, file):
    """``limit_val_batches`` ends in the middle of the second pair."""
    objective = make("genrm", tiny_llama)
    data = Tables(validation=file, test=file, batch_size=3)
    said = make_trainer(tmp_path, limit_val_batches=1).validate(objective, data, verbose=False)[0]
    margins = make_trainer(tmp_path).predict(objective, data)[0]["accuracy"]
    first = margins[:2]
    assert said["val/position_consistency"] == float((first > 0).all() | (first < 0).all())
