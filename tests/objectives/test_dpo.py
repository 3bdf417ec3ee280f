"""Couples, right samples alone, direct verdicts; the reference's log-probabilities."""

from __future__ import annotations

import math

import polars as pl
import pytest
import torch

from data_tools.artifact import write_table
from data_tools.errors import UserError
from data_tools.judging import Verdict, tell
from data_tools.schema import EXAMPLE
from genrm_lightning.backbone import BackboneSettings, load_renderer
from genrm_lightning.objectives import IPORationalizer, OptimizerSettings, RationaleDPO
from genrm_lightning.prefix import Role, collate
from genrm_lightning.scoring import score_examples
from tests.objectives.common import WAYS, fit, fit_config, make
from tests.tiny import examples


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_dpo_starts_at_ln_2(tiny_llama, tmp_path, way, dtype):
    chosen = {**WAYS[way], "dtype": dtype}
    config = {**chosen, "lora": None if chosen["lora"] is None else {"rank": 4}}
    advanced = []
    scored = score_examples(examples(5), str(tiny_llama), fit_config(**config), advanced.append, batch_size=2)
    assert sum(advanced) == 5
    write_table(scored, tmp_path / "scored.parquet", EXAMPLE)
    settings = BackboneSettings(str(tiny_llama), **chosen)
    objective = RationaleDPO(settings, OptimizerSettings(1e-3), "brief", beta=1.0)
    steps, _ = fit(objective, str(tmp_path / "scored.parquet"), tmp_path)
    # Batches of other rows round differently in bf16.
    assert steps.losses[0] == pytest.approx(math.log(2), abs=1e-4 if dtype == "float32" else 0.1)


def test_the_ipo_rationalizer_starts_at_its_target_squared(tiny_llama, tmp_path):
    """(0 − 1/(2β))² where policy and reference are one; a prompt that tells the answer is refused."""
    table = score_examples(examples(4), str(tiny_llama), fit_config(lora=None))
    write_table(table, tmp_path / "scored.parquet", EXAMPLE)
    settings = BackboneSettings(str(tiny_llama), lora=None)
    objective = IPORationalizer(settings, OptimizerSettings(1e-3), "brief")
    steps, _ = fit(objective, str(tmp_path / "scored.parquet"), tmp_path)
    assert steps.losses[0] == pytest.approx((1 / (2 * 0.4)) ** 2, abs=1e-4)
    prompts = [tell(prompt, "brief", Verdict.A) for prompt in table["prompt"]]
    told = table.with_columns(pl.Series("prompt", prompts, dtype=EXAMPLE["prompt"]))
    with pytest.raises(UserError, match="the prompt of pair pair-0 tells the answer"):
        list(objective.trees(told, objective.renderer))


def test_scores_are_the_summed_log_probabilities(tiny_llama):
    table = examples(3)
    scored = score_examples(table, str(tiny_llama), fit_config(), batch_size=2)
    objective = make("star_sft", tiny_llama)
    objective.configure_model()
    renderer = objective.renderer
    lm = objective.policy.lm.eval()
    for row in scored.iter_rows(named=True):
        for text, score in (("completion", "ref_logp"), ("rejected_completion", "ref_rejected_logp")):
            prompt, ids = renderer.prompt(row["prompt"]), renderer.judgment(row[text]).ids
            with torch.no_grad():
                table = lm(input_ids=torch.tensor([prompt + ids])).logits[0].log_softmax(-1)
            expected = sum(float(table[len(prompt) + i - 1, token]) for i, token in enumerate(ids))
            assert row[score] == pytest.approx(expected, abs=1e-3)


def test_scoring_takes_examples_without_a_rejected_side_too(tiny_llama):
    table = examples(2).with_columns(pl.when(pl.col("pair_id") == "pair-1").then("rejected_completion"))
    scored = score_examples(table, str(tiny_llama), {})
    assert scored["ref_logp"].null_count() == 0
    assert scored["ref_rejected_logp"].is_null().to_list() == [True, False]
    assert score_examples(table[:0], str(tiny_llama), {}).height == 0


def test_dpo_names_what_a_row_lacks(tiny_llama, tmp_path):
    objective = make("dpo", tiny_llama)
    renderer = objective.renderer
    with pytest.raises(UserError, match=r"pair pair-0: 'ref_logp' is empty; .* genrm_lightning score"):
        list(objective.trees(examples(1), renderer))


@pytest.mark.parametrize(("kind", "rejected"), [("dpo", 1), ("star_sft", 0)])
def test_the_direct_verdict_is_the_second_branch(tiny_llama, files, kind, rejected):
    renderer = load_renderer(str(tiny_llama))
    rows = pl.read_parquet(files["dpo"])
    (plain, *_), (direct, *_) = (
        list(make(kind, tiny_llama, direct_weight=weight).trees(rows, renderer)) for weight in (0.0, 1.0)
    )
    assert len(plain.branches) == 1 + rejected
    chosen, verdict, *rest = direct.branches
    assert [chosen, *rest] == plain.branches
    assert verdict == renderer.completion("", renderer.verdict_of(chosen))


def losses_of(objective, rows) -> tuple[float, dict]:
    """Loss and values of the rows as one batch, before any step."""
    objective.configure_model()
    renderer = objective.renderer
    letters = tuple(renderer.letter_ids.values())
    batch = collate(list(objective.trees(rows, renderer)), renderer.pad_id, letters)
    with torch.no_grad():
        total, values = objective.loss(batch, objective(batch))
    return float(total), values


@pytest.mark.parametrize("kind", ["dpo", "dpo, direct"])
def test_a_row_without_a_rejected_judgment(tiny_llama, files, kind):
    """It has no preference; couples beside it lose and gain nothing by it."""
    rows = pl.read_parquet(files["dpo"])[:4]
    alone = pl.col("pair_id") == rows["pair_id"][1]
    mixed = rows.with_columns(
        pl.when(~alone).then(name) for name in ("rejected_completion", "rejected_ids", "ref_rejected_logp")
    )
    options = {"beta": 0.5, "nll_weight": 0.25, "choice_weight": 2.0}
    couples, of_couples = losses_of(make(kind, tiny_llama, **options), rows)
    found, values = losses_of(make(kind, tiny_llama, **options), mixed)
    assert torch.isnan(values["dpo_loss"]).tolist() == torch.isnan(values["reward_margin"]).tolist() == [0, 1, 0, 0]
    for name in ("choice_nll", "chosen_logp_per_token", "accuracy"):
        assert values[name].tolist() == pytest.approx(of_couples[name].tolist(), abs=1e-5)
    # The sum over the rows lacks one row's preference, ln 2 before the first step.
    assert 4 * (couples - found) == pytest.approx(math.log(2), abs=1e-4)


def test_the_terms_of_a_small_judges_loss(tiny_llama, files):
    """Weights multiply what the log calls choice_nll, chosen_logp_per_token, …; a direct verdict is a term more."""
    rows = pl.read_parquet(files["dpo"])
    plain, values = losses_of(make("dpo", tiny_llama, nll_weight=0.0), rows)
    assert plain == pytest.approx(float(values["dpo_loss"].mean()))
    weighted, _ = losses_of(make("dpo", tiny_llama, nll_weight=0.5, choice_weight=3.0), rows)
    extra = -0.5 * values["chosen_logp_per_token"].mean() + 3 * values["choice_nll"].mean()
    assert weighted - plain == pytest.approx(float(extra), abs=1e-4)
    with_direct, _ = losses_of(make("dpo", tiny_llama, nll_weight=0.0, direct_weight=2.0), rows)
    _, of_direct = losses_of(make("star_sft", tiny_llama, direct_weight=1.0), rows)
    by_margin = torch.nn.functional.softplus(-of_direct["direct_accuracy"])
    assert with_direct - plain == pytest.approx(2 * float(by_margin.mean()), abs=1e-4)
    assert with_direct - plain != pytest.approx(2 * float(values["choice_nll"].mean()), abs=1e-3), "another branch"
    sft, values = losses_of(make("star_sft", tiny_llama), rows)
    branches = [tree.branches[0] for tree in make("star_sft", tiny_llama).trees(rows, load_renderer(str(tiny_llama)))]
    for part, role in (("rationale", Role.RATIONALE), ("verdict", Role.VERDICT)):
        weights = {"rationale_weight": 0.0, "verdict_weight": 0.0, f"{part}_weight": 1.0}
        found, _ = losses_of(make("star_sft", tiny_llama, **weights), rows)
        shares = torch.tensor([branch.roles.count(role) / len(branch.ids) for branch in branches])
        assert found == pytest.approx(float((shares * values[f"{part}_nll"]).mean()), abs=1e-4), part
    weighted, _ = losses_of(make("star_sft", tiny_llama, choice_weight=3.0), rows)
    assert weighted - sft == pytest.approx(3 * float(values["choice_nll"].mean()), abs=1e-4)
    direct, both = losses_of(make("star_sft", tiny_llama, direct_weight=2.0), rows)
    margin = both["direct_accuracy"]
    assert direct - sft == pytest.approx(2 * float(torch.nn.functional.softplus(-margin).mean()), abs=1e-4)
    assert both["accuracy"].tolist() == pytest.approx(values["accuracy"].tolist(), abs=1e-4)


def test_values_that_no_example_has_are_not_logged(tiny_llama, tmp_path, files):
    """A fit on right samples alone goes on, says so once, and shows no preference."""
    rows = pl.read_parquet(files["dpo"]).with_columns(rejected_completion=pl.lit(None, pl.String))
    write_table(rows, tmp_path / "alone.parquet", EXAMPLE)
    with pytest.warns(UserWarning, match="no row has a rejected judgment"):
        steps, metrics = fit(make("dpo, direct", tiny_llama), str(tmp_path / "alone.parquet"), tmp_path, epochs=30)
    assert steps.losses[-1] < steps.losses[0]
    assert "train/choice_nll" in metrics and "train/dpo_loss" not in metrics
    with pytest.raises(UserError, match=r"pair pair-1: 'rejected_completion' is empty, .* --objective dpo"):
        some = rows.with_columns(rejected_completion=pl.when(pl.col("pair_id") != "pair-1").then(pl.lit("x [[A]]")))
        list(make("dpo", tiny_llama, nll_weight=0.0).trees(some, load_renderer(str(tiny_llama))))
