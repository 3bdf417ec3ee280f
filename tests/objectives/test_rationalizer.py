"""Trees with a told prompt, the Rationalizer's second task, and token targets of a told teacher."""

from __future__ import annotations

import itertools

import polars as pl
import pytest
import torch
from torch import Tensor

from data_tools.artifact import write_table
from data_tools.errors import UserError
from data_tools.judging import Verdict, rationale_of, render_completion, render_prompt, tell
from data_tools.order import responses
from data_tools.schema import EXAMPLE
from genrm_lightning.backbone import BackboneSettings, LoraSettings, load_policy
from genrm_lightning.objectives import OnPolicyRationalizer, OptimizerSettings, STaRSFT
from genrm_lightning.policy import Policy
from genrm_lightning.prefix import PrefixBatch, Tree, collate
from tests.objectives.common import fit, make
from tests.test_distillation import plain as plain_divergence
from tests.tiny import examples, preferences

KINDS = [("forward", 0.5), ("reverse", 0.5), ("jsd", 0.3)]


def own(n: int) -> pl.DataFrame:
    """Judgments as a judge writes them, in both orders: every other one with the wrong verdict."""
    rows = []
    for number, row in enumerate(preferences(n).iter_rows(named=True)):
        for swapped in (False, True):
            a, b, right = responses(row["pair_id"], swapped, row["chosen"], row["rejected"])
            voted = right if number % 2 else {"A": "B", "B": "A"}[right]
            text = render_completion(f"It is short {number}.", Verdict(voted))
            prompt = render_prompt(row["prompt"], a, b, "brief")
            rows.append({"pair_id": row["pair_id"], "swapped": swapped, "prompt": prompt, "completion": text})
    return pl.concat([EXAMPLE.to_frame(), pl.DataFrame(rows)], how="diagonal")


def told_prompts(table: pl.DataFrame, renderer) -> list[list[int]]:
    """Prompts with the answer told, rendered from the pairs."""
    pairs = {row["pair_id"]: row for row in preferences(99).iter_rows(named=True)}
    prompts = []
    for row in table.iter_rows(named=True):
        pair = pairs[row["pair_id"]]
        a, b, right = responses(row["pair_id"], row["swapped"], pair["chosen"], pair["rejected"])
        prompts.append(renderer.prompt(render_prompt(pair["prompt"], a, b, "brief", Verdict(right))))
    return prompts


def states(policy: Policy, prompt: list[int], completion: list[int]) -> Tensor:
    """Of the plain model where the completion's tokens are predicted: (tokens, H)."""
    ids = torch.tensor([prompt + completion])
    hidden = policy.lm.eval()(input_ids=ids, output_hidden_states=True).hidden_states[-1][0]
    return hidden[len(prompt) - 1 : -1]


def batch_of(objective, table: pl.DataFrame) -> PrefixBatch:
    renderer = objective.renderer
    trees = list(objective.trees(table, renderer))
    return collate(trees, renderer.pad_id, tuple(renderer.letter_ids.values()))


def lora(folder, **more) -> BackboneSettings:
    return BackboneSettings(str(folder), lora=LoraSettings(rank=4, **more))


@pytest.mark.parametrize("direct", [0.0, 1.0])
def test_the_told_branch_is_the_told_prompt(tiny_llama, direct):
    """Prefix and branch together are the whole prompt and judgment, and what they share stands once."""
    objective = make("rationalizer", tiny_llama, told_weight=1.0, direct_weight=direct)
    renderer = objective.renderer
    table = examples(3)
    plain = list(make("rationalizer", tiny_llama, direct_weight=direct).trees(table, renderer))
    for tree, before, told in zip(objective.trees(table, renderer), plain, told_prompts(table, renderer), strict=True):
        *untold, hinted = tree.branches
        assert [tree.prefix + b.ids for b in untold] == [before.prefix + b.ids for b in before.branches]
        assert tree.prefix + hinted.ids == told + before.branches[0].ids
        assert renderer.verdict_of(hinted) == renderer.verdict_of(before.branches[0])
        assert len(tree.prefix) > 0.7 * len(before.prefix)
        for branch, alone in zip([*untold, hinted], [*before.branches, before.branches[0]], strict=True):
            assert [role for role in branch.roles if role is not None] == list(alone.roles)


def test_the_told_judgment_is_a_loss_more(tiny_llama):
    """As STaR-SFT on told prompts would have it; a row's own terms stay what they were."""
    table = examples(4)
    weights = {"rationale_weight": 0.5, "verdict_weight": 2.0, "choice_weight": 1.0, "direct_weight": 1.0}
    losses = {}
    for weight in (0.0, 0.25):
        objective = make("rationalizer", tiny_llama, told_weight=weight, **weights)
        objective.configure_model()
        batch = batch_of(objective, table)
        losses[weight], values = objective.loss(batch, objective(batch))
    renderer = objective.renderer
    told = zip(told_prompts(table, renderer), batch_of(objective, table).pair_ids, strict=True)
    plain = make("star_sft", tiny_llama, rationale_weight=0.5, verdict_weight=2.0)
    plain.policy = objective.policy
    trees = [
        Tree(pair, prompt, [renderer.judgment(text)])
        for (prompt, pair), text in zip(told, table["completion"], strict=True)
    ]
    batch = collate(trees, renderer.pad_id, tuple(renderer.letter_ids.values()))
    expected, _ = STaRSFT.loss(plain, batch, plain(batch))
    torch.testing.assert_close(losses[0.25] - losses[0.0], 0.25 * expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(values["told_nll"].mean(), expected, atol=1e-5, rtol=0)


def test_prompts_of_another_template_are_refused(tiny_llama):
    for kind in ("rationalizer, told", "on_policy"):
        objective = make(kind, tiny_llama, judge_prompt="mt_bench")
        with pytest.raises(
            UserError, match="pair pair-0: the prompt does not end in the question of judge prompt 'mt_b"
        ):
            list(objective.trees(examples(1), objective.renderer))


# On-policy


@pytest.mark.parametrize(("kind", "mix"), KINDS)
@pytest.mark.parametrize("teacher", ["reference", "current"])
def test_the_loss_is_that_of_two_plain_forwards(tiny_llama, teacher, kind, mix):
    """Student behind its prompt, teacher behind the told one, each alone; values and gradients."""
    table = own(2)
    settings = lora(tiny_llama, dropout=0.5 if teacher == "reference" else 0.0)
    objective = OnPolicyRationalizer(settings, OptimizerSettings(), "brief", teacher, kind, mix)
    objective.configure_model()
    torch.manual_seed(0)
    for name, parameter in objective.named_parameters():
        if "lora_B" in name:  # an adapter that has learned something
            torch.nn.init.normal_(parameter, std=0.1)
    objective.policy.lm.eval()  # the student's dropout; the teacher's is off all the same
    batch = batch_of(objective, table)
    loss, values = objective.loss(batch, objective(batch))
    loss.backward()
    found = {n: p.grad.clone() for n, p in objective.named_parameters() if p.requires_grad}
    objective.zero_grad()

    renderer, policy = objective.renderer, objective.policy
    start = load_policy(BackboneSettings(str(tiny_llama), lora=None)) if teacher == "reference" else policy
    weight = policy.base.get_output_embeddings().weight
    means = []
    for row, told in zip(table.iter_rows(named=True), told_prompts(table, renderer), strict=True):
        ids = renderer.judgment(row["completion"]).ids
        student = states(policy, renderer.prompt(row["prompt"]), ids)
        means.append(plain_divergence(student, states(start, told, ids).detach(), weight, kind, mix).mean())
    expected = torch.stack(means)
    torch.testing.assert_close(values["divergence"].double(), expected.detach(), atol=1e-5, rtol=1e-4)
    expected.mean().backward()
    for name, parameter in objective.named_parameters():
        if parameter.requires_grad:
            torch.testing.assert_close(found[name], parameter.grad, atol=1e-5, rtol=1e-3)
    n = batch.counts()[batch.first]
    parts = sum(
        values[f"{part}_divergence"] * batch.counts([role])[batch.first]
        for role, part in enumerate(("rationale", "verdict"))
    )
    torch.testing.assert_close(parts / n, values["divergence"], atol=1e-6, rtol=1e-5)


def test_the_right_letter_is_the_labels_whatever_the_sample_says(tiny_llama):
    table = own(4)
    objective = make("on_policy", tiny_llama)
    renderer = objective.renderer
    for row, tree, told in zip(
        table.iter_rows(named=True), objective.trees(table, renderer), told_prompts(table, renderer), strict=True
    ):
        student, teacher = tree.branches
        assert tree.prefix + teacher.ids == told + renderer.judgment(row["completion"]).ids
        assert renderer.verdict_of(student) == renderer.verdict_of(teacher) == row["completion"][-3]
        *_, right = responses(row["pair_id"], row["swapped"], "", "")
        assert "AB"[tree.right] == right
    assert {len(set(table.filter(pair_id=pair)["completion"])) for pair in table["pair_id"]} == {2}, "both letters"
    with pytest.raises(UserError, match="pair pair-0: 'swapped' is empty"):
        list(objective.trees(table.with_columns(swapped=pl.lit(None, pl.Boolean)), renderer))


def test_a_prompt_that_tells_nothing_teaches_nothing(tiny_llama, monkeypatch):
    """Teacher and student read the same: no divergence, no gradient."""
    monkeypatch.setattr("genrm_lightning.objectives.rationalizer.tell", lambda messages, *_: messages)
    objective = OnPolicyRationalizer(lora(tiny_llama), OptimizerSettings(), "brief")
    objective.configure_model()
    batch = batch_of(objective, own(2))
    loss, values = objective.loss(batch, objective(batch))
    loss.backward()
    assert values["divergence"].abs().max() < 1e-6
    assert all(p.grad.abs().max() < 1e-6 for p in objective.parameters() if p.requires_grad)


@pytest.fixture(scope="module")
def follower(tiny_llama, tmp_path_factory) -> str:
    """A judge that gives the verdict it is told, be it right or wrong, and without a hint knows nothing."""
    folder = tmp_path_factory.mktemp("follower")
    told = [
        table.with_columns(
            prompt=pl.Series([tell(prompt, "brief", letter) for prompt in table["prompt"]], dtype=EXAMPLE["prompt"]),
            completion=pl.Series([render_completion(rationale_of(text), letter) for text in table["completion"]]),
        )
        for table, letter in itertools.product([own(4)], (Verdict.A, Verdict.B))
    ]
    write_table(pl.concat(told), folder / "told.parquet", EXAMPLE)
    settings = BackboneSettings(str(tiny_llama), lora=None)
    objective = STaRSFT(settings, OptimizerSettings(5e-3), "brief", choice_weight=3.0)
    _, metrics = fit(objective, str(folder / "told.parquet"), folder, epochs=40)
    assert metrics["train/accuracy"] == 1
    objective.save(folder / "judge")
    return str(folder / "judge")


@pytest.mark.parametrize("kind", ["forward", "reverse"])
def test_the_student_learns_what_the_told_teacher_says(follower, tmp_path, kind):
    """It begins at even odds beside a teacher that is told, and ends where it needs no hint."""
    table = own(4)
    write_table(table, tmp_path / "own.parquet", EXAMPLE)
    objective = OnPolicyRationalizer(lora(follower), OptimizerSettings(1e-2), "brief", divergence=kind)
    objective.configure_model()
    batch = batch_of(objective, table)
    with torch.no_grad():
        _, before = objective.loss(batch, objective(batch))
    assert (before["told_accuracy"] > 0).all() and 0.2 < (before["accuracy"] > 0).float().mean() < 0.8
    fit(objective, str(tmp_path / "own.parquet"), tmp_path, epochs=60)
    with torch.no_grad():
        _, after = objective.loss(batch, objective(batch))
    assert after["divergence"].mean() < before["divergence"].mean() / 5
    assert (after["accuracy"] > 0).float().mean() > 0.8, "right where the sample itself was wrong, too"


def test_where_a_teacher_cannot_be_had(tiny_llama):
    plain = BackboneSettings(str(tiny_llama), lora=None)
    objective = OnPolicyRationalizer(plain, OptimizerSettings(), "brief")
    with pytest.raises(UserError, match=r"teacher: reference needs adapters \(backbone.lora\).*set teacher: current"):
        list(objective.trees(own(1), objective.renderer))
