"""Each objective in Lightning: it learns eight rows by heart, trains every tensor it should, and saves just those."""

from __future__ import annotations

import math
from dataclasses import asdict, replace
from pathlib import Path

import polars as pl
import pytest
import torch

from data_tools.artifact import write_table
from data_tools.errors import UserError
from data_tools.judging import Verdict, render_completion, render_prompt
from data_tools.schema import EXAMPLE
from genrm_lightning.backbone import BackboneSettings, LoraSettings, Output, judge_info, load_renderer
from genrm_lightning.data import Tables
from genrm_lightning.objectives import (
    BradleyTerry,
    GenRM,
    Objective,
    OptimizerSettings,
    RationaleDPO,
    Rationalizer,
    STaRSFT,
)
from genrm_lightning.objectives.base import check_gradients, cosine
from genrm_lightning.prefix import collate
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
    "genrm": (GenRM, {"judge_prompt": "brief"}, 0.1),
    "star_sft": (STaRSFT, {"judge_prompt": "brief"}, 0.1),
    "dpo": (RationaleDPO, {"judge_prompt": "brief", "beta": 0.1, "nll_weight": 0.1}, 0.1),
    "dpo, direct": (
        RationaleDPO,
        {"judge_prompt": "brief", "beta": 0.1, "nll_weight": 0.1, "choice_weight": 1.0, "direct_weight": 1.0},
        0.1,
    ),
    "star_sft, direct": (STaRSFT, {"judge_prompt": "brief", "choice_weight": 1.0, "direct_weight": 1.0}, 0.1),
    "rationalizer": (Rationalizer, {"judge_prompt": "brief"}, 0.1),
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
    name = {"bradley_terry": "pairs", "genrm": "four"}
    return {kind: str(folder / f"{name.get(kind, 'examples')}.parquet") for kind in KINDS}


def fit_config(**chosen) -> dict:
    return {"model": {"init_args": {"backbone": chosen}}, "trainer": {"precision": "32-true"}}


def fit(objective: Objective, file: str, folder: Path, epochs: int = 1, **options) -> tuple[Steps, dict[str, float]]:
    steps = Steps()
    trainer = make_trainer(folder, steps, max_epochs=epochs, **options)
    trainer.fit(objective, Tables(file, batch_size=8))
    return steps, {name: float(value) for name, value in trainer.callback_metrics.items()}


@pytest.mark.parametrize("kind", KINDS)
def test_eight_rows_are_learned_by_heart(tiny_llama, tmp_path, files, kind):
    steps, metrics = fit(make(kind, tiny_llama), files[kind], tmp_path, epochs=50)
    assert len(steps.seen) == 50
    assert steps.losses[-1] < min(KINDS[kind][2], steps.losses[0] / 4)
    # DPO may tell right from wrong by the rationales alone.
    assert metrics["train/reward_accuracy" if kind == "dpo" else "train/accuracy"] == 1


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", KINDS)
def test_every_trainable_tensor_is_trained(tiny_llama, tmp_path, files, kind, way):
    """Three steps: the check in the first two of them does not raise, and every tensor has moved."""
    objective = make(kind, tiny_llama, way, rate=1e-3)
    objective.configure_model()
    before = {n: p.detach().clone() for n, p in objective.named_parameters()}
    steps, _ = fit(objective, files[kind], tmp_path, epochs=3)
    trained = 0
    for name, parameter in objective.named_parameters():
        assert torch.equal(parameter, before[name]) != parameter.requires_grad, name
        trained += parameter.requires_grad
    head = kind == "bradley_terry"
    assert trained == {"full": 20, "layers": 9}.get(way, 28 if "lora" in way else 20) + head
    assert steps.losses[-1] < steps.losses[0]


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("way", ["layers", "lora"])
@pytest.mark.parametrize("kind", KINDS)
def test_frozen_weights_in_bf16(tiny_llama, tmp_path, files, kind, way, precision):
    """As the shipped configs have it; what is trained stays float32."""
    objective = make(kind, tiny_llama, way, rate=1e-3)
    objective.backbone_settings.dtype = "bfloat16"
    steps, _ = fit(objective, files[kind], tmp_path, epochs=3, precision=precision)
    assert steps.losses[-1] < steps.losses[0]
    for name, parameter in objective.named_parameters():
        assert parameter.dtype == (torch.float32 if parameter.requires_grad else torch.bfloat16), name


def test_adapters_and_recomputing_change_no_loss(tiny_llama, tmp_path, files):
    """A new adapter says nothing yet, and recomputed activations are the same ones."""
    first = {way: fit(make("star_sft", tiny_llama, way), files["star_sft"], tmp_path)[0].losses[0] for way in WAYS}
    assert list(first.values()) == pytest.approx([first["full"]] * len(first), abs=1e-5)
    twice = [
        fit(make("dpo", tiny_llama, way), files["dpo"], tmp_path, 3)[0].losses for way in ("full", "checkpointing")
    ]
    assert twice[0] == pytest.approx(twice[1], abs=1e-4)


@pytest.mark.parametrize("kind", ["bradley_terry", "dpo"])
def test_microbatches_follow_the_trajectory_of_the_whole(tiny_llama, tmp_path, files, kind):
    """Batch 2 × accumulate 4 is batch 8."""

    def weights(batch_size: int) -> dict[str, torch.Tensor]:
        torch.manual_seed(0)  # of the reward head
        objective = make(kind, tiny_llama)
        trainer = make_trainer(tmp_path, max_epochs=3, accumulate_grad_batches=8 // batch_size)
        trainer.fit(objective, Tables(files[kind], batch_size=batch_size))
        assert trainer.global_step == 3
        return objective.state_dict()

    whole, parts = weights(8), weights(2)
    for name in whole:
        # AdamW divides a gradient of rounding errors by its own size: a few weights may move differently.
        close = torch.isclose(whole[name], parts[name], atol=1e-4, rtol=1e-3)
        assert close.float().mean() > 0.99, name


# DPO


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


# Trees


def test_trees_of_pairs_show_both_orders(tiny_llama):
    objective = make("genrm", tiny_llama)
    first, second = list(objective.trees(preferences(1), objective.renderer))
    assert {first.right, second.right} == {0, 1}
    for tree in (first, second):
        (branch,) = tree.branches
        text = objective.renderer.decode(tree.prefix)
        shown = {letter: text.split(f"[Response {letter}]\n")[1].split("\n")[0] for letter in "AB"}
        right = "AB"[tree.right]
        assert shown[right] == "a red fox 0"
        assert objective.renderer.verdict_of(branch) == right


def test_a_bradley_terry_tree_holds_the_preferred_response_first(tiny_llama):
    objective = make("bradley_terry", tiny_llama)
    (tree,) = objective.trees(preferences(1), objective.renderer)
    assert [objective.renderer.decode(b.ids) for b in tree.branches] == ["a red fox 0", "the blue sky 0"]
    assert all(b.ids[-1] == objective.renderer.end_id for b in tree.branches)


def test_the_rows_margin_is_asked_for(tiny_llama, tmp_path):
    """By hand: rewards 1 + ln 3 apart, margin 1, leave -ln σ(ln 3) = ln 4/3; a null margin counts as 0."""
    objective = make("bradley_terry", tiny_llama, use_margin=True, center=0.0)
    rows = preferences(2).with_columns(margin=pl.Series([1.0, None], dtype=pl.Float64))
    trees = list(objective.trees(rows, objective.renderer))
    assert [tree.extras for tree in trees] == [{"margin": [1.0]}, {"margin": [0.0]}]
    batch = collate(trees, 0, tuple(objective.renderer.letter_ids.values()))
    rewards = torch.tensor([1 + math.log(3), 0.0, math.log(3), 0.0])
    assert float(objective.loss(batch, Output(torch.zeros(0), rewards))[0]) == pytest.approx(math.log(4 / 3), abs=1e-6)
    plain = make("bradley_terry", tiny_llama, center=0.0)
    assert all(tree.extras == {} for tree in plain.trees(rows, plain.renderer))
    batch = collate(list(plain.trees(rows, plain.renderer)), 0, tuple(plain.renderer.letter_ids.values()))
    expected = (math.log(1 + math.exp(-1) / 3) + math.log(4 / 3)) / 2
    assert float(plain.loss(batch, Output(torch.zeros(0), rewards))[0]) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    "change",
    [
        {"learning_rate": 0.0}, {"learning_rate": math.nan}, {"betas": (0.9, 1.0)}, {"weight_decay": -0.1},
        {"warmup": 1.1}, {"warmup": -0.1}, {"final": 2.0},
    ],
)  # fmt: skip
def test_an_optimizer_out_of_range(change):
    with pytest.raises(UserError, match=f"optimizer.{next(iter(change))}: .* (not|below)"):
        OptimizerSettings(**change)


def test_a_fit_without_an_end_has_no_schedule(tiny_llama, tmp_path, files):
    with pytest.raises(UserError, match="trainer.max_epochs: the learning rate's schedule"):
        fit(make("genrm", tiny_llama), files["genrm"], tmp_path, epochs=-1, max_time="00:00:05:00")


def test_sampled_ids_are_trained_on_as_they_were_drawn(tiny_llama):
    objective = make("star_sft", tiny_llama)
    renderer = objective.renderer
    letters = [renderer.text(letter)[0] for letter in "it is short"]
    ids = renderer.completion(letters, Verdict.A).ids
    table = examples(1).with_columns(completion_ids=pl.lit(pl.Series([ids], dtype=EXAMPLE["completion_ids"])))
    (tree,) = objective.trees(table, renderer)
    assert tree.branches[0].ids == ids


def test_the_rationalizer_refuses_prompts_that_tell_the_answer(tiny_llama):
    objective = make("rationalizer", tiny_llama)
    list(objective.trees(examples(2), objective.renderer))
    prompt = [{"role": "user", "content": "Name an animal."}]
    for told in (Verdict.A, Verdict.B):
        messages = render_prompt(prompt, "a red fox", "the blue sky", "brief", told)
        row = {"pair_id": "p", "swapped": False, "prompt": messages, "completion": render_completion("r", told)}
        table = pl.DataFrame([row], schema={k: EXAMPLE[k] for k in row})
        with pytest.raises(UserError, match="pair p tells the answer"):
            list(objective.trees(table, objective.renderer))


def test_an_unknown_judge_prompt_fails_at_once(tiny_llama):
    with pytest.raises(UserError, match="judge prompt 'breif' is unknown"):
        make("genrm", tiny_llama, judge_prompt="breif")


# Guards


def test_a_loss_that_is_no_number_names_its_pairs(tiny_llama, tmp_path, files):
    objective = make("bradley_terry", tiny_llama)
    objective.configure_model()
    torch.nn.init.constant_(objective.policy.head.weight, math.nan)
    with pytest.raises(FloatingPointError, match="the loss is nan at pairs .*pair-3"):
        fit(objective, files["bradley_terry"], tmp_path)


def test_gradients_are_checked():
    names = ("idle", "trained")
    parameters = {name: torch.nn.Parameter(torch.ones(2)) for name in names}
    with pytest.raises(RuntimeError, match="idle is to be trained but has no gradient"):
        check_gradients(parameters.items(), zero_is_wrong=False)
    for p in parameters.values():
        p.grad = torch.zeros(2)
    check_gradients(parameters.items(), zero_is_wrong=False)
    with pytest.raises(RuntimeError, match="idle is to be trained but has a zero gradient"):
        check_gradients(parameters.items(), zero_is_wrong=True)
    parameters["idle"].requires_grad_(False)
    parameters["trained"].grad = torch.tensor([1.0, math.inf])
    with pytest.raises(RuntimeError, match="trained is to be trained but has a non-finite gradient"):
        check_gradients(parameters.items(), zero_is_wrong=False)
    parameters["trained"].grad = torch.tensor([0.0, 1.0])
    check_gradients(parameters.items(), zero_is_wrong=True)


def test_a_fit_that_trains_nothing_stops_at_its_first_steps(tiny_llama, tmp_path, files):
    """Detached states: what gradient checkpointing under peft once did to others."""
    objective = make("genrm", tiny_llama, "layers")
    objective.configure_model()
    layer = objective.policy.base.model.layers[-1]
    idle = torch.nn.Parameter(torch.ones(3))
    layer.register_parameter("idle", idle)
    with pytest.raises(RuntimeError, match="idle is to be trained but has no gradient"):
        fit(objective, files["genrm"], tmp_path)


# Checkpoints


@pytest.mark.parametrize("way, trained", [("full", 20), ("layers", 9), ("lora", 28)])
def test_a_checkpoint_holds_what_is_trained_and_no_code(tiny_llama, tmp_path, files, way, trained):
    objective = make("bradley_terry", tiny_llama, way)
    trainer = make_trainer(tmp_path)
    trainer.fit(objective, Tables(files["bradley_terry"], batch_size=8))
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    checkpoint = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert set(checkpoint["state_dict"]) == {n for n, p in objective.named_parameters() if p.requires_grad}
    assert len(checkpoint["state_dict"]) == trained + 1  # and the reward head
    assert checkpoint["genrm"]["template_hash"] == objective.renderer.template_hash
    again = make("bradley_terry", tiny_llama, way)
    rows = Tables(test=files["bradley_terry"], batch_size=8)
    said = [
        make_trainer(tmp_path).predict(model, rows, ckpt_path=path, weights_only=path and True)[0]["margin"]
        for model, path in ((objective, None), (again, tmp_path / "last.ckpt"))
    ]
    torch.testing.assert_close(*said)


def test_a_checkpoint_of_another_kind_is_refused(tiny_llama, tmp_path, files):
    trainer = make_trainer(tmp_path)
    trainer.fit(make("genrm", tiny_llama, "lora"), Tables(files["genrm"], batch_size=8))
    trainer.save_checkpoint(tmp_path / "lora.ckpt")
    data = Tables(files["genrm"], batch_size=8)
    with pytest.raises(UserError, match="backbone.lora: the checkpoint was made with .* this config says None"):
        make_trainer(tmp_path, max_epochs=2).fit(
            make("genrm", tiny_llama), data, ckpt_path=tmp_path / "lora.ckpt", weights_only=True
        )
    other = make("genrm", tiny_llama, "lora")
    other.renderer.__dict__["template_hash"] = "another"
    with pytest.raises(UserError, match="was trained with chat template .* this backbone's is another"):
        make_trainer(tmp_path, max_epochs=2).fit(other, data, ckpt_path=tmp_path / "lora.ckpt", weights_only=True)


@pytest.mark.parametrize(
    ("key", "way", "other"),
    [
        ("lora", "lora", {"lora": LoraSettings(rank=4, alpha=8)}),  # the same tensors, scaled otherwise
        ("train_layers", "full", {"train_layers": 1}),  # fewer are trained, the rest would be the backbone's
        ("name", "layers", {"name": "another"}),
    ],
)
def test_a_checkpoint_of_another_backbone_is_refused(tiny_llama, tmp_path, files, key, way, other):
    objective = make("genrm", tiny_llama, way)
    checkpoint = {"genrm": {"template_hash": objective.renderer.template_hash}, "state_dict": {}}
    checkpoint["genrm"]["backbone"] = asdict(backbone(tiny_llama, way))
    now = make("genrm", tiny_llama, way)
    now.backbone_settings = replace(now.backbone_settings, **other)
    now.renderer = objective.renderer
    with pytest.raises(UserError, match=f"backbone.{key}: the checkpoint was made with .*; resume with the config"):
        now.on_load_checkpoint(checkpoint)


def test_a_backbone_folder_is_the_same_however_it_is_written(tiny_llama, monkeypatch):
    objective = make("genrm", tiny_llama)
    checkpoint = {"genrm": {"template_hash": objective.renderer.template_hash}, "state_dict": {}}
    checkpoint["genrm"]["backbone"] = asdict(backbone(tiny_llama)) | {"name": f"./{tiny_llama.name}"}
    monkeypatch.chdir(tiny_llama.parent)
    objective.on_load_checkpoint(checkpoint)


def test_a_saved_judge_says_what_it_is(tiny_llama, tmp_path):
    objective = make("genrm", tiny_llama)
    objective.configure_model()
    objective.save(tmp_path / "judge")
    info = judge_info(tmp_path / "judge")
    assert (info["objective"], info["judge_prompt"]) == ("GenRM", "brief")
    assert load_renderer(str(tmp_path / "judge")).template_hash == info["template_hash"]


def test_the_learning_rate_by_hand():
    assert [cosine(s, 10, 0.2, 0.0) for s in (0, 1, 2, 6, 10)] == pytest.approx([0.5, 1, 1, 0.5, 0])
    assert [cosine(s, 4, 0.0, 0.1) for s in (0, 2, 4, 9)] == pytest.approx([1, 0.55, 0.1, 0.1])


def test_norms_are_not_decayed(tiny_llama, tmp_path, files):
    objective = make("bradley_terry", tiny_llama)
    fit(objective, files["bradley_terry"], tmp_path)
    decayed, rest = objective.optimizers().param_groups
    names = {id(p): n for n, p in objective.named_parameters()}
    assert (decayed["weight_decay"], rest["weight_decay"]) == (0.1, 0)
    assert all("norm" in names[id(p)] for p in rest["params"])
    assert (len(decayed["params"]), len(rest["params"])) == (16, 5)


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
    sft, values = losses_of(make("star_sft", tiny_llama), rows)
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
    with pytest.raises(UserError, match=r"pair pair-0: 'rejected_completion' is empty, as in every row; .* dpo"):
        list(make("dpo", tiny_llama, nll_weight=0.0).trees(rows, load_renderer(str(tiny_llama))))


@pytest.mark.parametrize(
    ("cls", "key", "values"),
    [
        (BradleyTerry, "center", (-1, math.inf, math.nan)),
        (BradleyTerry, "label_smoothing", (0.6, -0.1)),
        (GenRM, "label_smoothing", (-0.1, 0.6, math.nan)),
        (GenRM, "format_weight", (-1, math.nan)),
        (STaRSFT, "choice_weight", (-1, math.nan)),
        (Rationalizer, "direct_weight", (-1,)),
        (RationaleDPO, "beta", (0, -0.1, math.nan, math.inf)),
        (RationaleDPO, "label_smoothing", (3,)),
        (RationaleDPO, "nll_weight", (-1,)),
    ],
)
def test_numbers_out_of_their_range(cls, key, values):
    for value in values:
        with pytest.raises(UserError, match=f"^{key}: "):
            cls(**{key: value})
