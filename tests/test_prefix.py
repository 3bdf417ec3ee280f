"""Trees: the mask and the batch by hand and by brute force, and the one forward against each branch alone."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from data_tools.errors import UserError
from genrm_lightning import attention
from genrm_lightning.backbone import BackboneSettings, LoraSettings, load_policy
from genrm_lightning.policy import Output, Policy
from genrm_lightning.prefix import Branch, PrefixBatch, Role, Tree, collate, tree_mask

PAD, LETTERS = 0, (35, 36)
RATIONALE, VERDICT = Role.RATIONALE, Role.VERDICT
IMPLEMENTATIONS = [attention.NAME, "sdpa"]


def trees(seed: int = 0) -> list[Tree]:
    """Uneven prefixes and branches, one to three a row, with and without verdicts and looked-at tokens."""
    draw = torch.Generator().manual_seed(seed)

    def ids(n: int) -> list[int]:
        return torch.randint(3, 600, (n,), generator=draw).tolist()

    return [
        Tree("a", ids(11), [Branch(ids(5), [RATIONALE] * 2 + [VERDICT] * 3, 3), Branch(ids(1), [VERDICT], 0)]),
        Tree("b", ids(3), [Branch(ids(7), [RATIONALE] * 4 + [VERDICT] * 3, 5)]),
        Tree(
            "c", ids(1),
            [Branch(ids(4), [None] * 2 + [RATIONALE] * 2), Branch.scored(ids(6)), Branch(ids(2), [VERDICT] * 2, 1)],
        ),
    ]  # fmt: skip


def policy(folder, lora: bool = False, checkpointing: bool = False, implementation: str = attention.NAME) -> Policy:
    torch.manual_seed(1)
    settings = BackboneSettings(
        str(folder), lora=LoraSettings(rank=4) if lora else None, gradient_checkpointing=checkpointing
    )
    made = load_policy(settings, scores=1).train()
    if lora:  # a new adapter changes nothing: give it something to say
        for name, parameter in made.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, std=0.1)
    made.base.set_attn_implementation(implementation)
    return made


def alone(model: Policy, forest: list[Tree]) -> tuple[Tensor, Tensor]:
    """What the batch's forward should give, from transformers' own forward of each branch behind its prefix."""
    logps, rewards = [], []
    for tree in forest:
        for branch in tree.branches:
            ids = torch.tensor([tree.prefix + branch.ids])
            out = model.lm(input_ids=ids, use_cache=False, output_hidden_states=True)
            table = out.logits[0].log_softmax(-1)
            for i, (token, role) in enumerate(zip(branch.ids, branch.roles, strict=True)):
                where = len(tree.prefix) + i - 1
                wanted = [token] if role is not None else []
                wanted += LETTERS if i == branch.letter_at else []
                logps += [table[where, target] for target in wanted]
            rewards.append(model.head(out.hidden_states[-1][0, -1]).squeeze())
    return torch.stack(logps), torch.stack(rewards)


def flat(output: Output) -> tuple[Tensor, Tensor]:
    return output.logps, output.rewards.squeeze(1)


def gradients(model: Policy, logps: Tensor, rewards: Tensor) -> dict[str, Tensor]:
    """Of a sum with uneven weights, so that errors cannot cancel."""
    model.zero_grad()
    weights = torch.linspace(-1, 1, len(logps) + len(rewards))
    (torch.cat([logps, rewards]) * weights).sum().backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.requires_grad}


@pytest.mark.parametrize("whole, queries", [(0, 256), (0, 3), (15, 4)])
def test_attention_in_blocks_is_attention_in_one(tiny_llama, monkeypatch, whole, queries):
    """Long trees go in blocks of queries, their prefixes through the fused kernel; here short ones do."""
    model, batch = policy(tiny_llama), collate(trees(), PAD, LETTERS)
    expected, of_expected = model(batch), gradients(model, *flat(model(batch)))
    monkeypatch.setattr(attention, "_WHOLE", whole)
    monkeypatch.setattr(attention, "_QUERIES", queries)
    found, of_found = model(batch), gradients(model, *flat(model(batch)))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    for name in of_found:
        torch.testing.assert_close(of_found[name], of_expected[name], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("lora, checkpointing", [(False, False), (False, True), (True, False), (True, True)])
def test_the_tree_forward_equals_that_of_each_branch_alone(tiny_llama, lora, checkpointing, implementation):
    forest = trees()
    model = policy(tiny_llama, lora, checkpointing, implementation)
    output = model(collate(forest, PAD, LETTERS))
    found = gradients(model, *flat(output))
    model.base.set_attn_implementation("eager")  # transformers' plain attention with its own causal mask
    logps, rewards = alone(model, forest)
    expected = gradients(model, logps, rewards)
    torch.testing.assert_close(output.logps, logps, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(output.rewards.squeeze(1), rewards, atol=1e-5, rtol=1e-5)
    assert found.keys() == expected.keys()
    for name in found:
        torch.testing.assert_close(found[name], expected[name], atol=1e-5, rtol=1e-4, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize("gradient", [False, True])
def test_both_attentions_agree_to_rounding(tiny_llama, gradient):
    """Both kernels of genrm_tree (with gradients and without) against sdpa, in float64."""
    results = []
    for implementation in IMPLEMENTATIONS:
        model = policy(tiny_llama, implementation=implementation).double()
        batch = collate(trees(), PAD, LETTERS)
        with torch.set_grad_enabled(gradient):
            states = model.base.get_decoder()(
                input_ids=batch.input_ids,
                attention_mask=tree_mask(batch.segments),
                position_ids=batch.position_ids,
                use_cache=False,
            ).last_hidden_state
        results.append(states[batch.segments >= 0])
    torch.testing.assert_close(*results, atol=1e-9, rtol=0)


def test_neither_padding_nor_company_changes_a_row(tiny_llama):
    model, forest = policy(tiny_llama).eval(), trees()
    with torch.no_grad():
        together = model(collate(forest, PAD, LETTERS))
        by_itself = [model(collate([tree], PAD, LETTERS)) for tree in forest]
        reverse = model(collate(forest[::-1], PAD, LETTERS))
        wide = collate(forest, PAD, LETTERS)
        for name, fill in (("input_ids", 99), ("position_ids", 5), ("segments", -1)):
            value = getattr(wide, name)
            setattr(wide, name, torch.cat([value, torch.full((len(value), 9), fill)], 1))
        padded = model(wide)
    alone = [torch.cat([getattr(output, name) for output in by_itself]) for name in ("logps", "rewards")]
    for logps, rewards in ((padded.logps, padded.rewards), alone):
        torch.testing.assert_close(together.logps, logps, atol=1e-5, rtol=0)
        torch.testing.assert_close(together.rewards, rewards, atol=1e-5, rtol=0)
    torch.testing.assert_close(reverse.rewards[:3], by_itself[2].rewards, atol=1e-5, rtol=0)
    torch.testing.assert_close(reverse.logps[: len(by_itself[2].logps)], by_itself[2].logps, atol=1e-5, rtol=0)


def test_the_vocabulary_head_in_pieces_is_the_head_in_one(tiny_llama, monkeypatch):
    model, batch = policy(tiny_llama), collate(trees(), PAD, LETTERS)
    whole = gradients(model, *flat(model(batch)))
    monkeypatch.setattr("genrm_lightning.logprobs._PIECE", 4)
    pieces = gradients(model, *flat(model(batch)))
    for name in whole:
        torch.testing.assert_close(whole[name], pieces[name], atol=1e-5, rtol=1e-5)


def test_a_models_own_attention_dropout_is_kept(tiny_llama):
    model = policy(tiny_llama)
    batch = collate(trees(), PAD, LETTERS)
    exact = model(batch).logps
    for layer in model.base.get_decoder().layers:
        layer.self_attn.attention_dropout = 0.5
    model.base.config.attention_dropout = 0.5
    first, second = model(batch).logps, model(batch).logps
    assert not torch.allclose(first, second, atol=1e-3) and not torch.allclose(first, exact, atol=1e-3)
    torch.testing.assert_close(model.eval()(batch).logps, exact)


def test_an_attention_that_cannot_read_the_mask_is_refused(tiny_llama):
    model = policy(tiny_llama, implementation="eager")
    with pytest.raises(ValueError, match="'eager' takes no tree mask"):
        model(collate(trees(), PAD, LETTERS))


def test_collate_by_hand():
    first = Tree(
        "p", [1, 2], [Branch([7, 8, 9], [RATIONALE, VERDICT, VERDICT], 1), Branch([5], [None])], 1, {"m": [1.5, 2.5]}
    )
    second = Tree("q", [3], [Branch([6], [VERDICT], 0)], extras={"m": [3.5]})
    batch = collate([first, second], pad_id=0, letter_ids=(40, 41))
    assert batch.input_ids.tolist() == [[1, 2, 7, 8, 9, 5], [3, 6, 0, 0, 0, 0]]
    assert batch.position_ids.tolist() == [[0, 1, 2, 3, 4, 2], [0, 1, 0, 0, 0, 0]]
    assert batch.segments.tolist() == [[0, 0, 1, 1, 1, 2], [0, 1, -1, -1, -1, -1]]
    looked = list(
        zip(*(getattr(batch, n).tolist() for n in ("rows", "cols", "targets", "branch", "role")), strict=True)
    )
    assert looked == [
        (0, 1, 7, 0, Role.RATIONALE),  # predicted by the prefix's last state
        (0, 2, 8, 0, Role.VERDICT),
        (0, 2, 40, 0, Role.LETTER_A),
        (0, 2, 41, 0, Role.LETTER_B),
        (0, 3, 9, 0, Role.VERDICT),
        (1, 0, 6, 2, Role.VERDICT),
        (1, 0, 40, 2, Role.LETTER_A),
        (1, 0, 41, 2, Role.LETTER_B),
    ]
    assert (batch.last_rows.tolist(), batch.last_cols.tolist()) == ([0, 0, 1], [4, 5, 1])
    assert batch.right.tolist() == [1, 0]
    assert batch.extras["m"].tolist() == [1.5, 2.5, 3.5]
    assert batch.pair_ids == ["p", "q"]
    assert batch.n_branches == 3
    values = torch.tensor([1.0, 2, 30, 40, 5, 6, 70, 80])
    assert batch.by_branch(values).tolist() == [8, 0, 6]  # queries left out
    assert batch.by_branch(values, [Role.RATIONALE]).tolist() == [1, 0, 0]
    assert batch.counts().tolist() == [3, 0, 1]
    assert [side.tolist() for side in batch.letters(values)] == [[30, 70], [40, 80]]


def test_a_batch_that_is_looked_at_nowhere_has_no_entries(tiny_llama):
    batch = collate([Tree("p", [5, 6], [Branch.scored([7]), Branch.scored([8, 9])])], PAD, LETTERS)
    output = policy(tiny_llama)(batch)
    assert output.logps.shape == (0,)
    assert output.rewards.shape == (2, 1)


def test_to_moves_every_tensor():
    batch = collate(trees(), PAD, LETTERS).to("meta")
    tensors = [v for v in vars(batch).values() if isinstance(v, Tensor)]
    assert len(tensors) == 11
    assert all(v.device.type == "meta" for v in [*tensors, *batch.extras.values()])
    assert isinstance(batch, PrefixBatch)
    assert batch.pair_ids == ["a", "b", "c"]


def test_tree_mask_against_brute_force():
    segments = torch.tensor([[0, 0, 1, 1, 2, 2, 1, -1], [0, 1, 2, 3, 3, -1, -1, 2], [-1, 0, 0, 1, 1, 1, 1, 1]])
    mask = tree_mask(segments)
    assert mask.shape == (3, 1, 8, 8)
    for r, row in enumerate(segments.tolist()):
        for q in range(8):
            for k in range(8):
                sees = k == q or (k < q and (row[k] == 0 or (row[k] == row[q] > 0)))
                assert mask[r, 0, q, k] == sees, (r, q, k)


def test_tree_mask_of_the_last_tokens_is_the_full_mask_cut():
    segments = torch.tensor([[0, 0, -1, 1, 2, 3, 1, 2, 3, 2]])
    assert torch.equal(tree_mask(segments[:, 6:], segments), tree_mask(segments)[:, :, 6:])


def test_tree_mask_properties():
    draw = torch.Generator().manual_seed(0)
    segments = torch.randint(-1, 4, (20, 12), generator=draw)
    mask = tree_mask(segments)[:, 0]
    assert mask.diagonal(dim1=1, dim2=2).all()  # no row of the softmax is empty
    assert not mask.triu(1).any()
    others = ~torch.eye(12, dtype=torch.bool)
    assert not (mask & others & (segments == -1)[:, None, :]).any()  # nothing sees padding
    assert not (mask & (segments == 0)[:, :, None] & (segments > 0)[:, None, :]).any()  # the prefix sees no branch


def test_a_tree_without_a_prefix_is_refused():
    with pytest.raises(UserError, match="pair p: its prompt has no tokens"):
        collate([Tree("p", [], [Branch([7], [VERDICT])])], PAD, LETTERS)
