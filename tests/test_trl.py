"""Our losses beside TRL's own: the same rows and weights through its real trainers and collators.

Where TRL defines a loss otherwise on purpose, the test states the exact relation.
"""

from __future__ import annotations

from dataclasses import replace

import polars as pl
import pytest
import torch
from torch import Tensor

from benchmarks.peer import couple_row, make_trainer, pair_row, sft_row
from data_tools.judging import Verdict, render_completion
from genrm_lightning.backbone import load_renderer
from genrm_lightning.prefix import Role, Tree, collate
from genrm_lightning.scoring import score_examples
from tests.objectives.common import fit_config, make
from tests.tiny import examples, preferences

CLOSE = {"rel": 1e-5, "abs": 1e-5}  # float32, other order of summation
BETA = 0.5


def pairs() -> pl.DataFrame:
    """Pairs of other lengths on both sides, with margins."""
    numbers = pl.int_range(pl.len())
    return preferences(4).with_columns(
        chosen=pl.concat_str("chosen", pl.lit(" and a hen")),
        margin=numbers / 4,
    )


@pytest.fixture(scope="module")
def couples(tiny_llama) -> pl.DataFrame:
    """Judgments of several lengths, scored by a reference that is not the policy."""
    scored = score_examples(_uneven(examples(4)), str(tiny_llama), fit_config(lora=None))
    shift = pl.int_range(pl.len()).cast(pl.Float32)
    return scored.with_columns(ref_logp=pl.col("ref_logp") - shift, ref_rejected_logp=pl.col("ref_rejected_logp") + 0.7)


def _uneven(table: pl.DataFrame) -> pl.DataFrame:
    rows = []
    for number, row in enumerate(table.iter_rows(named=True)):
        right = Verdict.A if "[[A]]" in row["completion"] else Verdict.B
        rows.append({**row, "completion": render_completion("It names an animal." * (number + 1), right)})
    return pl.DataFrame(rows, schema=table.schema)


def ours(kind: str, folder, table: pl.DataFrame, **options) -> tuple[float, dict[str, Tensor], list[Tree]]:
    """(mean loss, gradients by the backbone's own names and "head", trees) of the table as one batch."""
    torch.manual_seed(0)  # of the reward head
    objective = make(kind, folder, **options)
    objective.configure_model()
    renderer = objective.renderer
    trees = list(objective.trees(table, renderer))
    batch = collate(trees, renderer.pad_id, tuple(renderer.letter_ids.values()))
    loss, _ = objective.loss(batch, objective(batch))
    loss.backward()
    policy = objective.policy
    gradients = {name: p.grad for name, p in policy.lm.named_parameters() if p.grad is not None}
    if policy.head is not None:
        gradients["head"] = policy.head.weight.grad
        gradients["head weight"] = policy.head.weight.detach()
    return loss.item(), gradients, trees


def theirs(
    kind: str, folder, rows: list[dict], tmp_path, head: Tensor | None = None, **settings
) -> tuple[float, dict[str, Tensor]]:
    """(loss of the rows as one batch, gradients) by TRL's trainer; ``head``: weights of the reward head."""
    tokenizer = load_renderer(str(folder)).tokenizer
    trainer = make_trainer(
        kind, str(folder), rows, tokenizer, tmp_path, bf16=False,
        per_device_train_batch_size=len(rows), **settings,
    )  # fmt: skip
    model = trainer.model.train()
    if head is not None:
        model.score.weight.data.copy_(head)
    loss = trainer.compute_loss(model, next(iter(trainer.get_train_dataloader())))
    loss.backward()
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    if head is not None:
        gradients["head"] = gradients.pop("score.weight")
    return loss.item(), gradients


def same_gradients(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    found.pop("head weight", None)
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-6 + 1e-4 * gradient.abs().max().item())


# Bradley-Terry


@pytest.mark.parametrize(
    ("options", "settings"),
    [
        ({"center": 0.0}, {}),
        ({"center": 0.0, "use_margin": True}, {}),
        ({"center": 0.01}, {"center_rewards_coefficient": 0.01}),
        ({"center": 0.3, "use_margin": True}, {"center_rewards_coefficient": 0.3}),
    ],
    ids=["plain", "margin", "centred", "margin, centred"],
)
def test_bradley_terry(tiny_llama, tmp_path, options, settings):
    loss, gradients, trees = ours("bradley_terry", tiny_llama, pairs(), **options)
    rows = [pair_row(tree) for tree in trees]
    assert ("margin" in rows[0]) == options.get("use_margin", False)
    other, others = theirs("reward", tiny_llama, rows, tmp_path, gradients["head weight"], **settings)
    assert loss == pytest.approx(other, **CLOSE)
    same_gradients(gradients, others)


# STaR-SFT and direct GenRM


def test_star_sft(tiny_llama, tmp_path, couples):
    """Row by row the same; over a batch TRL takes the mean over all tokens, we that over judgments."""
    alone, sizes = [], []
    for number in range(len(couples)):
        loss, _, (tree,) = ours("star_sft", tiny_llama, couples[number])
        other, _ = theirs("sft", tiny_llama, [sft_row(tree)], tmp_path)
        assert loss == pytest.approx(other, **CLOSE)
        alone.append(loss)
        sizes.append(len(tree.branches[0].ids))
    loss, _, trees = ours("star_sft", tiny_llama, couples)
    other, _ = theirs("sft", tiny_llama, [sft_row(tree) for tree in trees], tmp_path)
    assert len(set(sizes)) > 1
    assert loss == pytest.approx(sum(alone) / len(alone), **CLOSE)
    assert other == pytest.approx(sum(x * n for x, n in zip(alone, sizes, strict=True)) / sum(sizes), **CLOSE)


@pytest.mark.parametrize("format_weight", [0.0, 0.1])
def test_genrm_is_sft_of_the_verdict(tiny_llama, tmp_path, format_weight):
    """The letter's loss, and ``format_weight`` times the mean loss of the tokens around it: two sets of labels."""
    loss, _, trees = ours("genrm", tiny_llama, preferences(3), format_weight=format_weight)
    assert len(trees) == 6
    letter, around = [], []
    for tree in trees:
        (branch,) = tree.branches
        roles = [Role.RATIONALE if i == branch.letter_at else Role.VERDICT for i in range(len(branch.ids))]
        marked = replace(tree, branches=[replace(branch, roles=roles)])
        letter.append(sft_row(marked, [Role.RATIONALE]))
        around.append(sft_row(marked, [Role.VERDICT]))
    expected = theirs("sft", tiny_llama, letter, tmp_path)[0]
    if format_weight:  # every verdict has as many tokens: the mean over tokens is the mean over rows
        expected += format_weight * theirs("sft", tiny_llama, around, tmp_path)[0]
    assert loss == pytest.approx(expected, **CLOSE)


# STaR-DPO


def dpo(folder, table: pl.DataFrame, kind: str = "dpo", **options) -> tuple[float, dict[str, Tensor], list[dict]]:
    """Ours, and the rows for TRL with the same reference."""
    plain = {"beta": BETA, "nll_weight": 0.0}
    loss, gradients, trees = ours(kind, folder, table, **{**plain, **options})
    rows = []
    for tree in trees:
        chosen, rejected = tree.extras["ref_logp"]
        rows.append({**couple_row(tree), "ref_chosen_logps": chosen, "ref_rejected_logps": rejected})
    return loss, gradients, rows


def trl_dpo(folder, rows: list[dict], tmp_path, **settings) -> tuple[float, dict[str, Tensor]]:
    return theirs("dpo", folder, rows, tmp_path, **{"beta": BETA, "precompute_ref_log_probs": True, **settings})


def test_dpo(tiny_llama, tmp_path, couples):
    loss, gradients, rows = dpo(tiny_llama, couples)
    other, others = trl_dpo(tiny_llama, rows, tmp_path)
    assert abs(loss - 0.6931) > 0.05  # the reference is another model
    assert loss == pytest.approx(other, **CLOSE)
    same_gradients(gradients, others)


def test_reference_log_probabilities(tiny_llama, tmp_path, couples):
    """Those that ``score`` writes are those that TRL computes before it trains."""
    scored = score_examples(couples, str(tiny_llama), fit_config(lora=None))
    _, _, rows = dpo(tiny_llama, scored)
    bare = [{k: v for k, v in row.items() if not k.startswith("ref_")} for row in rows]
    trainer = make_trainer(
        "dpo", str(tiny_llama), bare, load_renderer(str(tiny_llama)).tokenizer, tmp_path, bf16=False,
        precompute_ref_log_probs=True,
    )  # fmt: skip
    for name, column in (("ref_chosen_logps", "ref_logp"), ("ref_rejected_logps", "ref_rejected_logp")):
        assert trainer.train_dataset[name] == pytest.approx(scored[column].to_list(), abs=1e-3)


def test_label_smoothing(tiny_llama, tmp_path, couples):
    """Ours is cDPO's, (1−ε)·l(h) + ε·l(−h). TRL has that as ``aot`` on one couple, where there is nothing to sort;
    its ``robust`` is the unbiased ((1−ε)·l(h) − ε·l(−h)) / (1−2ε)."""
    epsilon = 0.2
    for number in range(len(couples)):
        couple = couples[number]
        smoothed, _, rows = dpo(tiny_llama, couple, label_smoothing=epsilon)
        plain, _, _ = dpo(tiny_llama, couple)
        aot, _ = trl_dpo(tiny_llama, rows, tmp_path, loss_type=["aot"], label_smoothing=epsilon)
        assert smoothed == pytest.approx(aot, **CLOSE)
        robust, _ = trl_dpo(tiny_llama, rows, tmp_path, loss_type=["robust"], label_smoothing=epsilon)
        flipped = (smoothed - (1 - epsilon) * plain) / epsilon
        assert robust == pytest.approx(((1 - epsilon) * plain - epsilon * flipped) / (1 - 2 * epsilon), **CLOSE)
        assert abs(smoothed - robust) > 0.01


def test_ipo(tiny_llama, tmp_path, couples):
    """Ours is eq. 17 of arXiv 2310.12036 on summed log-probabilities, (h_c − h_r − 1/(2β))², TRL's has each h divided
    by its completion's tokens, (h_c/n_c − h_r/n_r − 1/(2β))²: ours at β is n² times TRL's at n·β where both have n."""
    now = score_examples(couples, str(tiny_llama), fit_config(lora=None))
    chosen, rejected = (now[name] - couples[name] for name in ("ref_logp", "ref_rejected_logp"))
    for number in range(len(couples)):
        loss, _, (row,) = dpo(tiny_llama, couples[number], variant="ipo")
        assert loss == pytest.approx((chosen[number] - rejected[number] - 1 / (2 * BETA)) ** 2, rel=1e-3, abs=1e-3)
        other, _ = trl_dpo(tiny_llama, [row], tmp_path, loss_type=["ipo"])
        per_token = chosen[number] / len(row["chosen_ids"]) - rejected[number] / len(row["rejected_ids"])
        assert other == pytest.approx((per_token - 1 / (2 * BETA)) ** 2, rel=1e-4, abs=1e-4)

    # The STaR-IPO Rationalizer is this loss on other couples, at the paper's β.
    (rationalizer, _, _), (plain, _, _) = (
        dpo(tiny_llama, couples, kind, beta=0.4, **more)
        for kind, more in (("ipo_rationalizer", {}), ("dpo", {"variant": "ipo"}))
    )
    assert rationalizer == plain

    even = couples.with_columns(rejected_completion=pl.col("completion").map_elements(_other_letter, pl.String))
    for number in range(len(even)):
        loss, _, (row,) = dpo(tiny_llama, even[number], variant="ipo")
        n = len(row["chosen_ids"])
        assert n == len(row["rejected_ids"])
        other, _ = trl_dpo(tiny_llama, [row], tmp_path, loss_type=["ipo"], beta=n * BETA)
        assert loss == pytest.approx(n**2 * other, rel=1e-4, abs=1e-4)


def _other_letter(judgment: str) -> str:
    letter = "B" if judgment.endswith("[[A]]") else "A"
    return f"{judgment[:-5]}[[{letter}]]"


@pytest.mark.parametrize("weight", [0.3, 1.0])
def test_nll_anchor(tiny_llama, tmp_path, couples, weight):
    """TRL's ``sft`` beside ``sigmoid``, which is the mean over all chosen tokens: the same row by row."""
    for number in range(len(couples)):
        loss, gradients, rows = dpo(tiny_llama, couples[number], nll_weight=weight)
        other, others = trl_dpo(tiny_llama, rows, tmp_path, loss_type=["sigmoid", "sft"], loss_weights=[1.0, weight])
        assert loss == pytest.approx(other, **CLOSE)
    same_gradients(gradients, others)
