"""The alarm for a collapse of both sides, by hand and in fits."""

from __future__ import annotations

import math

import polars as pl
import pytest
import torch

from data_tools.artifact import write_table
from data_tools.errors import UserError
from data_tools.schema import EXAMPLE
from genrm_lightning.backbone import BackboneSettings, LoraSettings
from genrm_lightning.objectives import OptimizerSettings, RationaleDPO, STaRSFT
from genrm_lightning.objectives.collapse import CollapseAlarm
from tests.objectives.common import fit
from tests.tiny import examples


def told(capsys) -> list[str]:
    return [line for line in capsys.readouterr().err.splitlines() if "collapsed" in line]


def test_both_sides_must_have_fallen(capsys):
    def after(chosen: float, rejected: float, steps: int = 10) -> tuple[bool, CollapseAlarm]:
        alarm = CollapseAlarm(0.5)
        values = [alarm(step, torch.tensor([chosen]), torch.tensor([rejected])) for step in range(steps)]
        return values[-1], alarm

    assert not after(-0.4, -9.0)[0] and not after(1.0, -9.0)[0] and not after(-9.0, -0.4)[0]
    assert not after(-0.6, -0.6, steps=9)[0], "not before ten steps"
    assert told(capsys) == []
    collapsed, alarm = after(-0.6, -1.2)
    assert collapsed and alarm(10, torch.tensor([-0.6]), torch.tensor([-1.2]))
    (said,) = told(capsys)
    assert said == (
        "warning: step 9: chosen and rejected judgments have both collapsed, to -0.60 and -1.20 nats a token against "
        "the reference; raise nll_weight or beta, or lower optimizer.learning_rate"
    )


def test_the_means_run_over_the_couples_of_ten_steps():
    """Step 0 weighs nothing any more at step 10; microbatches are of one step; rows without a couple do not count."""
    alarm = CollapseAlarm(0.5)
    alarm(0, torch.tensor([90.0]), torch.tensor([90.0]))
    for step in range(1, 10):
        assert not alarm(step, torch.tensor([-0.6, 7.0]), torch.tensor([-0.6, math.nan]))
    assert not alarm(9, torch.tensor([-0.6]), torch.tensor([-0.6])), "still step 9"
    assert not alarm(10, torch.tensor([7.0]), torch.tensor([math.nan])), "no couple: no step"
    assert alarm(11, torch.tensor([-0.6]), torch.tensor([-0.6]))


@pytest.fixture(scope="module")
def judge(tiny_llama, tmp_path_factory) -> str:
    """A judge that writes both sides of every couple: there is far to fall."""
    folder = tmp_path_factory.mktemp("judge")
    both = pl.concat([examples(8), examples(8).with_columns(completion="rejected_completion")])
    write_table(both, folder / "both.parquet", EXAMPLE)
    objective = STaRSFT(BackboneSettings(str(tiny_llama), lora=None), OptimizerSettings(5e-3), "brief")
    fit(objective, str(folder / "both.parquet"), folder, epochs=20)
    objective.save(folder / "judge")
    return str(folder / "judge")


@pytest.mark.parametrize(
    ("nll_weight", "rate", "collapses"), [(0.0, 1e-2, True), (1.0, 1e-2, False), (0.0, 1e-3, False)]
)
def test_fits(judge, tmp_path, capsys, nll_weight, rate, collapses):
    """A high rate without the anchor; with it, and at a lower rate, only the rejected side falls."""
    collapses = rate == 1e-2 and not nll_weight
    write_table(examples(8), tmp_path / "rows.parquet", EXAMPLE)
    lora = BackboneSettings(judge, lora=LoraSettings(rank=4))
    objective = RationaleDPO(lora, OptimizerSettings(rate), "brief", beta=0.1, nll_weight=nll_weight)
    _, metrics = fit(objective, str(tmp_path / "rows.parquet"), tmp_path, epochs=30)
    chosen, rejected = (metrics[f"train/{side}_log_ratio_per_token"] for side in ("chosen", "rejected"))
    assert rejected < -0.5 and (chosen < -0.5) == collapses
    assert metrics["train/collapsed"] == collapses and len(told(capsys)) == collapses
    assert metrics["train/chosen_reward"] > metrics["train/rejected_reward"], "the loss sees nothing wrong"


def test_the_alarm_is_switched_off(tiny_llama, tmp_path):
    write_table(examples(2), tmp_path / "rows.parquet", EXAMPLE)
    lora = BackboneSettings(str(tiny_llama), lora=LoraSettings(rank=4))
    objective = RationaleDPO(lora, OptimizerSettings(1e-3), "brief", collapse_alarm=None)
    _, metrics = fit(objective, str(tmp_path / "rows.parquet"), tmp_path)
    assert "train/collapsed" not in metrics and "train/chosen_log_ratio_per_token" in metrics


def test_a_threshold_out_of_its_range():
    for value in (0.0, -0.3, math.inf, math.nan):
        with pytest.raises(UserError, match="^collapse_alarm: "):
            RationaleDPO(collapse_alarm=value)
