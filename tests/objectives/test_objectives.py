"""Each objective in Lightning: it learns eight rows by heart, trains every tensor it should, and guards its numbers."""

from __future__ import annotations

import math

import polars as pl
import pytest
import torch
from lightning.pytorch.callbacks import GradientAccumulationScheduler

from data_tools.artifact import write_table
from data_tools.errors import UserError
from data_tools.judging import Verdict, render_completion, render_prompt
from data_tools.schema import EXAMPLE
from genrm_lightning.backbone import load_renderer
from genrm_lightning.batching import token_plan
from genrm_lightning.data import Tables
from genrm_lightning.errors import NotFinite
from genrm_lightning.objectives import (
    BradleyTerry,
    GenRM,
    OnPolicyRationalizer,
    OptimizerSettings,
    PairRM,
    RationaleDPO,
    Rationalizer,
    STaRSFT,
)
from genrm_lightning.objectives.base import check_gradients, cosine
from genrm_lightning.policy import Output
from genrm_lightning.prefix import collate
from genrm_lightning.scoring import score_examples
from tests.objectives.common import KINDS, WAYS, fit, fit_config, make
from tests.tiny import examples, make_trainer, preferences


@pytest.mark.parametrize("kind", KINDS)
def test_eight_rows_are_learned_by_heart(tiny_llama, tmp_path, files, kind):
    steps, metrics = fit(make(kind, tiny_llama), files[kind], tmp_path, epochs=50)
    assert len(steps.seen) == 50
    assert steps.losses[-1] < min(KINDS[kind][2], steps.losses[0] / 4)
    # DPO may tell right from wrong by the rationales alone.
    assert metrics["train/reward_accuracy" if kind in ("dpo", "ipo_rationalizer") else "train/accuracy"] == 1


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", KINDS)
def test_every_trainable_tensor_is_trained(tiny_llama, tmp_path, files, kind, way):
    """Three steps: the check in the first two of them does not raise, and every tensor has moved."""
    objective = make(kind, tiny_llama, way, rate=2e-4)
    objective.configure_model()
    before = {n: p.detach().clone() for n, p in objective.named_parameters()}
    steps, _ = fit(objective, files[kind], tmp_path, epochs=3)
    trained = 0
    for name, parameter in objective.named_parameters():
        assert torch.equal(parameter, before[name]) != parameter.requires_grad, name
        trained += parameter.requires_grad
    head = objective.scores > 0
    assert trained == {"full": 20, "layers": 9}.get(way, 28 if "lora" in way else 20) + head
    assert steps.losses[-1] < steps.losses[0]


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("way", ["layers", "lora"])
@pytest.mark.parametrize("kind", KINDS)
def test_frozen_weights_in_bf16(tiny_llama, tmp_path, files, kind, way, precision):
    """As the shipped configs have it; what is trained stays float32."""
    objective = make(kind, tiny_llama, way, rate=2e-4)
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


def trajectory(folder, objective, data: Tables, accumulate: int) -> tuple[int, dict[str, torch.Tensor]]:
    """(steps taken, weights) after three epochs."""
    trainer = make_trainer(folder, max_epochs=3, accumulate_grad_batches=accumulate, gradient_clip_val=1.0)
    trainer.fit(objective, data)
    assert trainer.global_step == trainer.estimated_stepping_batches
    return trainer.global_step, objective.state_dict()


@pytest.mark.parametrize("kind", ["bradley_terry", "genrm", "dpo"])
def test_microbatches_of_tokens_follow_the_trajectory_of_the_whole(tiny_llama, tmp_path, kind):
    """B × accumulate 8, 2B × 4 and 8B × 1, unequal rows, a step of fewer rows than pieces among them."""
    rows = preferences(11).with_columns(
        chosen=pl.when(pl.col("pair_id").is_in(["pair-3", "pair-7"]))
        .then(pl.col("chosen") + " that jumps")
        .otherwise("chosen")
    )
    if kind == "dpo":
        rows = score_examples(
            examples(11).with_columns(
                completion=pl.when(pl.col("pair_id") == "pair-3")
                .then("It names one. " + pl.col("completion"))
                .otherwise("completion")
            ),
            str(tiny_llama),
            fit_config(lora=None),
        )
    file = tmp_path / "rows.parquet"
    write_table(rows, file, rows.schema)
    lengths = [len(tree) for tree in make(kind, tiny_llama).trees(rows, load_renderer(str(tiny_llama)))]
    least = max(lengths)  # a microbatch holds the longest tree

    def fitted(share: int) -> tuple[int, dict[str, torch.Tensor]]:
        torch.manual_seed(0)  # of the reward head
        data = Tables(str(file), batch_tokens=least * share)
        return trajectory(tmp_path, make(kind, tiny_llama, rate=1e-3), data, 8 // share)

    steps, whole = fitted(8)
    assert steps == 3 * -(-sum(lengths) // (8 * least)) > 3
    assert any(len(step) < 8 for step in token_plan(lengths, 8 * least, 0, 0)), "fillers"
    for share in (1, 2):
        same, parts = fitted(share)
        assert same == steps
        for name in whole:
            close = torch.isclose(whole[name], parts[name], atol=1e-4, rtol=1e-3)
            assert close.float().mean() > 0.99, (share, name)


@pytest.mark.parametrize("kind", KINDS)
def test_microbatches_follow_the_trajectory_of_the_whole(tiny_llama, tmp_path, files, kind):
    """1 × accumulate 6, 2 × 3 and 3 × 2 take the steps of batch 6, the last of an epoch with its two rows of eight."""

    def fitted(batch_size: int, accumulate: int) -> tuple[int, dict[str, torch.Tensor]]:
        torch.manual_seed(0)  # of the reward head
        data = Tables(files[kind], batch_size=batch_size)
        return trajectory(tmp_path, make(kind, tiny_llama, rate=1e-3), data, accumulate)

    steps, whole = fitted(6, 1)
    assert steps == 6  # two an epoch, the second of two rows
    for share in ((1, 6), (2, 3), (3, 2)):
        same, parts = fitted(*share)
        assert same == steps
        for name in whole:
            # AdamW divides a gradient of rounding errors by its own size: a few weights may move differently.
            close = torch.isclose(whole[name], parts[name], atol=1e-4, rtol=1e-3)
            assert close.float().mean() > 0.99, (share, name)


def test_a_step_of_changing_length_is_refused(tiny_llama, tmp_path, files):
    changing = GradientAccumulationScheduler({0: 2, 1: 4})
    with pytest.raises(UserError, match="trainer.callbacks: GradientAccumulationScheduler .*accumulate_grad_batches"):
        make_trainer(tmp_path, changing).fit(make("dpo", tiny_llama), Tables(files["dpo"]))


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


def test_centring_and_smoothing_are_terms_of_the_loss(tiny_llama):
    """By hand: rewards ln 3 and 0 cost ln 4/3, the labels flipped ln 4, their sum squared (ln 3)²."""
    rewards = torch.tensor([math.log(3), 0.0])[:, None]
    for center, smoothing in ((0.0, 0.0), (0.5, 0.0), (0.0, 0.25), (2.0, 0.1)):
        objective = make("bradley_terry", tiny_llama, center=center, label_smoothing=smoothing)
        trees = list(objective.trees(preferences(1), objective.renderer))
        batch = collate(trees, 0, tuple(objective.renderer.letter_ids.values()))
        loss, values = objective.loss(batch, Output(torch.zeros(0), rewards))
        expected = (1 - smoothing) * math.log(4 / 3) + smoothing * math.log(4) + center * math.log(3) ** 2
        assert float(loss) == pytest.approx(expected, abs=1e-6)
        assert values["margin"].tolist() == pytest.approx([math.log(3)])


@pytest.mark.parametrize("kind", ["bradley_terry", "pairrm"])
def test_rewards_are_float32_under_bf16(tiny_llama, kind):
    """The head's product too: in bf16, rewards around 5 would lie a thirty-second apart."""
    objective = make(kind, tiny_llama, "layers")
    objective.configure_model()
    objective.policy.lm.bfloat16()
    trees = list(objective.trees(preferences(4), objective.renderer))
    batch = collate(trees, 0, tuple(objective.renderer.letter_ids.values()))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        rewards = objective(batch).rewards
    assert rewards.dtype == objective.policy.head.weight.dtype == torch.float32
    assert not torch.equal(rewards, rewards.bfloat16().float())


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
    with pytest.raises(NotFinite, match="the loss is nan at pairs .*pair-3"):
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


@pytest.mark.parametrize(
    ("cls", "key", "values"),
    [
        (BradleyTerry, "center", (-1, math.inf, math.nan)),
        (BradleyTerry, "label_smoothing", (0.6, -0.1)),
        (PairRM, "label_smoothing", (0.6, -0.1)),
        (GenRM, "label_smoothing", (-0.1, 0.6, math.nan)),
        (GenRM, "format_weight", (-1, math.nan)),
        (STaRSFT, "choice_weight", (-1, math.nan)),
        (Rationalizer, "direct_weight", (-1,)),
        (RationaleDPO, "beta", (0, -0.1, math.nan, math.inf)),
        (RationaleDPO, "label_smoothing", (3,)),
        (RationaleDPO, "nll_weight", (-1,)),
        (Rationalizer, "told_weight", (-1, math.inf)),
        (OnPolicyRationalizer, "choice_weight", (-1,)),
        (OnPolicyRationalizer, "mix", (0, 1, math.nan)),
    ],
)
def test_numbers_out_of_their_range(cls, key, values):
    for value in values:
        with pytest.raises(UserError, match=f"^{key}: "):
            cls(**{key: value})


def test_precisions_that_round_trained_weights_are_refused(tiny_llama, tmp_path, files):
    for precision in ("bf16-true", "16-true"):
        with pytest.raises(UserError, match=f"trainer.precision: {precision} rounds trained weights"):
            make_trainer(tmp_path, precision=precision).fit(make("dpo", tiny_llama), Tables(files["dpo"]))
