"""Logits in float32 sums, and the shortcuts of a draw against plain sorts. Draws themselves: test_local.py."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from genrm_lightning.samplers.drawing import _NUCLEUS, Vocabulary, _invert, _invert_row, _top


def test_logits_of_a_bf16_head_are_not_rounded():
    torch.manual_seed(0)
    head = torch.randn(300, 64).bfloat16()
    states = (torch.randn(5, 64) * 4).bfloat16()
    exact = states.double() @ head.double().T
    vocabulary = Vocabulary(head)
    logits = vocabulary.logits(states)
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits.double(), exact, atol=1e-4, rtol=0)
    assert (exact - (states @ head.T).double()).abs().max() > 0.05
    torch.testing.assert_close(
        vocabulary.margins(states, (7, 3)).double(), exact[:, 7] - exact[:, 3], atol=1e-4, rtol=0
    )


@pytest.mark.parametrize("size", [30, 2048, 2049, 5001])
def test_the_top_tokens_are_those_of_topk(size):
    table = torch.randn(7, size)
    table[3, -1] = 9.0  # behind the last whole block
    values, order = _top(table)
    expected = table.topk(min(_NUCLEUS, size))
    assert torch.equal(values, expected.values) and torch.equal(order, expected.indices)


@pytest.mark.parametrize("spread", [0.0, 0.5, 2.0, 6.0])
@pytest.mark.parametrize("top_p", [0.3, 0.95, 1.0])
def test_a_wide_row_is_drawn_as_by_a_full_sort(spread, top_p):
    random = np.random.default_rng(0)
    row = torch.tensor(random.normal(size=6000) * spread, dtype=torch.float32).log_softmax(-1)
    values, order = row.sort(descending=True, stable=True)
    for u in [0.0, *random.random(20).tolist(), 1.0]:
        u = torch.tensor([u], dtype=torch.float64)
        expected, _ = _invert(values[None], order[None], u, top_p)
        assert _invert_row(row.numpy(), float(u), top_p) == int(expected)
