"""The batch plan: every row once an epoch, the same number of steps in each, and what bounds a batch."""

from __future__ import annotations

from collections import Counter
from itertools import chain, combinations, pairwise
from random import Random

import pytest

from genrm_lightning.batching import batch_plan, batches_in_order, cut_evenly, token_pieces, token_plan, token_steps

LENGTHS = [7 * i % 31 + 5 for i in range(101)]


def test_a_plan_takes_every_row_once():
    for epoch in range(3):
        plan = batch_plan(LENGTHS, 8, seed=3, epoch=epoch)
        assert sorted(chain(*plan)) == list(range(101))
        assert Counter(map(len, plan)) == {8: 12, 5: 1}


def test_a_plan_is_a_function_of_seed_and_epoch():
    assert batch_plan(LENGTHS, 8, 3, 1) == batch_plan(LENGTHS, 8, 3, 1)
    assert batch_plan(LENGTHS, 8, 3, 1) != batch_plan(LENGTHS, 8, 3, 2)
    assert batch_plan(LENGTHS, 8, 3, 1) != batch_plan(LENGTHS, 8, 4, 1)
    assert batch_plan(LENGTHS, 8, 3, 1, shuffle=False) == [list(range(i, min(i + 8, 101))) for i in range(0, 101, 8)]


def test_rows_of_like_length_share_a_batch():
    def padding(plan: list[list[int]]) -> int:
        return sum(max(LENGTHS[i] for i in batch) * len(batch) - sum(LENGTHS[i] for i in batch) for batch in plan)

    assert padding(batch_plan(LENGTHS, 8, 0, 0)) < 0.3 * padding(batch_plan(LENGTHS, 8, 0, 0, shuffle=False))


# Token budgets


def drawn(case: int) -> tuple[list[int], int]:
    """(lengths, tokens of a step): few rows and many, alike and unlike, some as long as a step."""
    random = Random(case)
    longest = random.choice([1, 5, 60, 700])
    lengths = [random.randint(1, longest) for _ in range(random.choice([1, 2, 9, 80, 400]))]
    return lengths, random.choice([1, 1, 2, 5, 30]) * max(lengths) + random.randrange(7)


@pytest.mark.parametrize("case", range(60))
def test_a_plan_of_tokens(case):
    lengths, size = drawn(case)
    for epoch in range(3):
        plan = token_plan(lengths, size, case, epoch)
        assert sorted(chain(*plan)) == list(range(len(lengths))), "every row once an epoch"
        assert len(plan) == token_steps(lengths, size), "as many steps in every epoch"
        assert all(plan)
        assert max(sum(lengths[i] for i in step) for step in plan) < size + max(lengths)
        assert plan == token_plan(lengths, size, case, epoch)
    if len(plan) > 3:
        assert plan != token_plan(lengths, size, case, 0) != token_plan(lengths, size, case + 1, 0)


@pytest.mark.parametrize("case", range(60))
def test_pieces_of_a_step(case):
    """Cut in any number of pieces, whose product with it is the step's size; each within one row of its share."""
    lengths, size = drawn(case)
    for shares in (1, 2, 3, 8):
        budget = max(size, max(lengths))  # a microbatch's
        for step in token_plan(lengths, budget * shares, case, 0):
            pieces = token_pieces(step, lengths, shares)
            assert len(pieces) == min(shares, len(step))
            assert sorted(chain(*pieces)) == sorted(step)
            assert max(sum(lengths[i] for i in piece) for piece in pieces) < budget + max(lengths)
            ends = [lengths[i] for piece in pieces for i in (piece[0], piece[-1])]
            assert ends == sorted(ends), "rows of like length together"


def test_the_largest_part_is_as_small_as_can_be():
    """Against every way to cut."""
    random = Random(1)
    for _ in range(200):
        sizes = [random.randint(1, 20) for _ in range(random.randint(1, 8))]
        parts = random.randint(1, len(sizes))
        found = cut_evenly([*range(len(sizes))], sizes, parts)
        assert list(chain(*found)) == list(range(len(sizes))) and all(found) and len(found) == parts
        ways = ([0, *cuts, len(sizes)] for cuts in combinations(range(1, len(sizes)), parts - 1))
        best = min(max(sum(sizes[a:b]) for a, b in pairwise(way)) for way in ways)
        assert max(sum(sizes[i] for i in part) for part in found) == best


def test_long_rows_meet_long_ones():
    """A batch of tokens pads little, also where it reaches over two pools of rows that were sorted apart."""
    lengths = [Random(i).randint(10, 1000) for i in range(3000)]
    plan = token_plan(lengths, 8000, 0, 0)
    padded = sum(max(lengths[i] for i in step) * len(step) for step in plan)
    assert padded < 1.15 * sum(lengths)


def test_batches_in_order_bound_their_padding():
    random = Random(2)
    lengths = [random.randint(1, 100) for _ in range(300)]
    batches = batches_in_order(lengths, 300)
    assert list(chain(*batches)) == list(range(300))
    padded = [max(lengths[i] for i in batch) * len(batch) for batch in batches]
    assert max(padded) <= 300
    for batch, after in pairwise(batches):  # none could take the next row too
        assert max(lengths[i] for i in (*batch, after[0])) * (len(batch) + 1) > 300
