"""DPO's reference: stored in the rows or computed along the way, always the policy at the fit's start."""

from __future__ import annotations

import math
import re

import polars as pl
import pytest
import torch
from lightning.pytorch import Callback

from data_tools.artifact import write_table
from data_tools.errors import UserError
from data_tools.schema import EXAMPLE
from genrm_lightning.backbone import BackboneSettings, LoraSettings, load_judge, load_policy, load_renderer
from genrm_lightning.data import Tables
from genrm_lightning.objectives import OptimizerSettings, RationaleDPO, STaRSFT
from genrm_lightning.prefix import collate
from genrm_lightning.scoring import score_examples
from tests.objectives.common import fit, fit_config
from tests.tiny import Steps, examples, make_trainer

LORA = {"rank": 4}
# The loss before the first step, π = π_ref: −log σ(0), smoothed alike, and (1/(2β))².
STARTS = {
    "sigmoid": ({"beta": 0.5}, math.log(2)),
    "smoothed": ({"beta": 0.5, "label_smoothing": 0.2}, math.log(2)),
    "ipo": ({"beta": 1.0, "variant": "ipo"}, 0.25),
}


@pytest.fixture(scope="module")
def starts(tiny_llama, tmp_path_factory) -> dict[str, str]:
    """Where a fit under LoRA may begin: a plain model, and a judge whose adapter says something."""
    folder = tmp_path_factory.mktemp("judge")
    write_table(examples(8), folder / "rows.parquet", EXAMPLE)
    objective = STaRSFT(settings(tiny_llama), OptimizerSettings(2e-2), "brief")
    fit(objective, str(folder / "rows.parquet"), folder, epochs=3)
    objective.save(folder / "judge")
    return {"new": str(tiny_llama), "continued": str(folder / "judge")}


def settings(folder, **more) -> BackboneSettings:
    return BackboneSettings(str(folder), lora=LoraSettings(**LORA, **more))


def dpo(start, rate=1e-4, dropout=0.0, **more) -> RationaleDPO:
    return RationaleDPO(settings(start, dropout=dropout), OptimizerSettings(rate), "brief", **{"beta": 0.5, **more})


def rows(folder, start=None, n=8) -> str:
    """A file of examples, with the reference's log-probabilities where ``start`` is named."""
    table = examples(n) if start is None else score_examples(examples(n), start, fit_config(lora=LORA))
    path = folder / f"{'live' if start is None else 'stored'}.parquet"
    write_table(table, path, EXAMPLE)
    return str(path)


def trajectory(objective, file, folder, *callbacks) -> list[float]:
    steps = Steps()
    trainer = make_trainer(folder, steps, *callbacks, max_epochs=3)
    torch.manual_seed(0)  # of a new adapter
    trainer.fit(objective, Tables(file, batch_size=3))
    return steps.losses


@pytest.mark.parametrize("kind", STARTS)
@pytest.mark.parametrize("adapter", ["new", "continued"])
def test_live_follows_stored(starts, tmp_path, adapter, kind):
    options, first = STARTS[kind]
    start = starts[adapter]
    stored = trajectory(dpo(start, **options), rows(tmp_path, start), tmp_path)
    live = trajectory(dpo(start, **options), rows(tmp_path), tmp_path)
    named = trajectory(dpo(start, reference="live", **options), rows(tmp_path, start), tmp_path)
    assert stored[0] == pytest.approx(first, abs=1e-5) and live[0] == pytest.approx(first, abs=1e-5)
    assert live == pytest.approx(stored, abs=1e-5) and named == pytest.approx(stored, abs=1e-5)
    assert len(stored) == 9 and stored[-1] < 0.98 * first, "the policy has left the reference"


@pytest.mark.parametrize("adapter", ["new", "continued"])
def test_the_reference_is_the_policy_at_the_fits_start(starts, tmp_path, adapter):
    """Whatever the policy has become; trained tensors are the policy's alone, and none has changed its state."""
    objective = dpo(starts[adapter], rate=1e-2, dropout=0.5)
    file = rows(tmp_path)
    trajectory(objective, file, tmp_path)
    renderer = objective.renderer
    trees = list(objective.trees(pl.read_parquet(file), renderer))
    batch = collate(trees, renderer.pad_id, tuple(renderer.letter_ids.values()))
    before = {n: p.requires_grad for n, p in objective.named_parameters()}
    objective.policy.train()
    reference = objective.policy(batch, reference=True).logps
    assert not reference.requires_grad
    assert all(module.training for module in objective.policy.modules())
    assert before == {n: p.requires_grad for n, p in objective.named_parameters()}
    # An eval pass of a fresh one: no dropout, no training.
    fresh = load_policy(settings(starts[adapter])).eval()
    with torch.no_grad():
        torch.testing.assert_close(reference, fresh(batch).logps, atol=1e-5, rtol=0)
        assert (reference - objective.policy.eval()(batch).logps).abs().max() > 0.1
    assert {n for n, trained in before.items() if trained} == {n for n in before if ".default." in n}


def test_the_saved_judge_has_one_adapter(starts, tmp_path):
    objective = dpo(starts["continued"])
    file = rows(tmp_path)
    trajectory(objective, file, tmp_path)
    assert sum(".reference." in name for name, _ in objective.named_parameters()) == 28
    objective.save(tmp_path / "judge")
    assert [path.name for path in (tmp_path / "judge").rglob("*.safetensors")] == ["adapter_model.safetensors"]
    renderer = load_renderer(str(tmp_path / "judge"))
    trees = list(objective.trees(pl.read_parquet(file), renderer))
    batch = collate(trees, renderer.pad_id, tuple(renderer.letter_ids.values()))
    judge = load_judge(str(tmp_path / "judge"), torch.float32)
    with torch.no_grad():
        torch.testing.assert_close(judge(batch).logps, objective.policy.eval()(batch).logps, atol=1e-4, rtol=1e-5)
    assert not [name for name, _ in judge.named_parameters() if "reference" in name]


@pytest.mark.parametrize("adapter", ["new", "continued"])
def test_a_resumed_fit_keeps_its_reference(starts, tmp_path, adapter):
    file, part = rows(tmp_path), tmp_path / "part.ckpt"

    class Stop(Callback):
        def on_train_batch_end(self, trainer, *_):
            if trainer.global_step == 4:  # in the middle of the second epoch
                trainer.save_checkpoint(part)

    whole = trajectory(dpo(starts[adapter], rate=1e-3), file, tmp_path, Stop())
    held = torch.load(part, weights_only=True)["state_dict"]
    assert len(held) == 28 and all(".default." in name for name in held)
    steps = Steps()
    again = make_trainer(tmp_path, steps, max_epochs=3)
    again.fit(dpo(starts[adapter], rate=1e-3), Tables(file, batch_size=3), ckpt_path=part, weights_only=True)
    assert steps.losses == pytest.approx(whole[4:], abs=1e-6) and len(steps.losses) == 5
    changed = make_trainer(tmp_path, max_epochs=3)
    with pytest.warns(UserWarning, match="optimizer.learning_rate: the checkpoint's 0.001 is gone on with, not 0.002"):
        changed.fit(dpo(starts[adapter], rate=2e-3), Tables(file, batch_size=3), ckpt_path=part, weights_only=True)


def test_a_reference_in_some_rows(starts, tmp_path):
    table = pl.read_parquet(rows(tmp_path, starts["new"], n=3))
    some = table.with_columns(pl.when(pl.col("pair_id") != "pair-1").then("ref_rejected_logp"))
    objective = dpo(starts["new"])
    with pytest.raises(UserError, match="pair pair-1: 'ref_logp' is empty where other rows have it; .* score"):
        list(objective.trees(some, objective.renderer))
    # A right sample alone needs none.
    alone = some.with_columns(pl.when(pl.col("pair_id") != "pair-1").then("rejected_completion"))
    trees = list(dpo(starts["new"], nll_weight=1.0).trees(alone, objective.renderer))
    assert [len(tree.extras["ref_logp"]) for tree in trees] == [2, 0, 2]
    live = dpo(starts["new"], reference="live")
    assert [tree.extras for tree in live.trees(some, live.renderer)] == [{}] * 3


def test_where_a_reference_cannot_be_had(tiny_llama):
    plain = BackboneSettings(str(tiny_llama), lora=None)
    for reference, said in (
        ("live", "reference: live needs adapters (backbone.lora), .* python -m genrm_lightning score"),
        ("auto", "pair pair-0: 'ref_logp' is empty; write it with: python -m genrm_lightning score"),
        ("stored", "pair pair-0: 'ref_logp' is empty; write it with: python -m genrm_lightning score"),
    ):
        objective = RationaleDPO(plain, OptimizerSettings(), "brief", reference=reference)
        with pytest.raises(UserError, match=said.replace("(", r"\(").replace(")", r"\)")):
            list(objective.trees(examples(2), objective.renderer))
    stored = RationaleDPO(settings(tiny_llama), OptimizerSettings(), "brief", reference="stored")
    with pytest.raises(UserError, match="pair pair-0: 'ref_logp' is empty"):
        list(stored.trees(examples(2), stored.renderer))
    with pytest.raises(ValueError, match=re.escape("cannot be had")):
        load_policy(plain)(None, reference=True)


def test_a_frozen_copy_is_not_rounded(starts):
    """Frozen weights take the settings' dtype; the adapter was trained in float32 and its copy is the same."""
    chosen = settings(starts["continued"])
    chosen.dtype = "bfloat16"
    policy = load_policy(chosen, reference=True)
    named = dict(policy.named_parameters())
    copies = [name for name in named if ".reference." in name]
    assert len(copies) == 28
    for name in copies:
        torch.testing.assert_close(named[name], named[name.replace(".reference.", ".default.")], rtol=0, atol=0)
