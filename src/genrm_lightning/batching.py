"""The batch plan: which rows make an optimizer step, and how a step is cut into microbatches.

A plan is a function of the rows' lengths, the size of a whole step (microbatch × accumulate × processes), seed and
epoch alone, and every epoch has the same number of steps, so that a schedule over steps knows where the fit ends.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate, pairwise

import numpy as np

_POOL = 16  # steps' worth of shuffled rows that are sorted by length together: little padding, random batches


def batch_plan(lengths: list[int], batch_size: int, seed: int, epoch: int, shuffle: bool = True) -> list[list[int]]:
    """Steps of so many rows: every row once an epoch, rows of like length together; the last step may have fewer.

    Args:
        lengths: tokens of each row.
        batch_size: rows of a step.
        shuffle: False keeps the rows' order (validation and prediction).
    """
    rows = np.arange(len(lengths))
    if shuffle:
        draw = _draw(seed, epoch)
        rows = draw.permutation(rows)
        size = batch_size * _POOL
        pools = [rows[i : i + size] for i in range(0, len(rows), size)]
        rows = np.concatenate([pool[np.argsort([lengths[i] for i in pool], kind="stable")] for pool in pools])
    plan = [rows[i : i + batch_size].tolist() for i in range(0, len(rows), batch_size)]
    return [plan[i] for i in draw.permutation(len(plan))] if shuffle else plan


def token_steps(lengths: Sequence[int], step_tokens: int) -> int:
    """Steps of an epoch under a token budget: as few as could hold all tokens, whatever the shuffle."""
    return -(-sum(lengths) // step_tokens)


def token_plan(lengths: Sequence[int], step_tokens: int, seed: int, epoch: int) -> list[list[int]]:
    """Steps under a token budget: every row once an epoch, rows of like length together.

    Filled one after the other, steps of shuffled rows would be more in one epoch and fewer in the next. So their
    number n is fixed, ⌈all tokens / step_tokens⌉, and each epoch's order is cut into n pieces whose largest is as
    small as can be: a step holds at most (all tokens)/n + (1 − 1/n)·(longest row) tokens, which passes
    ``step_tokens`` by less than one row.

    Args:
        lengths: tokens of each row, none above ``step_tokens``.
        step_tokens: tokens of a step.
    """
    draw = _draw(seed, epoch)
    steps = token_steps(lengths, step_tokens)
    size = np.asarray(lengths)
    pools = np.array_split(draw.permutation(len(lengths)), -(-steps // _POOL))
    # Up, down, up: where a step reaches over two pools, long rows meet long ones and short rows short ones.
    ordered = [pool[np.argsort(size[pool], kind="stable")][:: -1 if i % 2 else 1] for i, pool in enumerate(pools)]
    rows = np.concatenate(ordered).tolist()
    plan = cut_evenly(rows, [lengths[i] for i in rows], steps)
    return [plan[i] for i in draw.permutation(len(plan))]


def token_pieces(step: list[int], lengths: Sequence[int], pieces: int) -> list[list[int]]:
    """A step's rows, sorted by length, in at most ``pieces`` microbatches of balanced tokens.

    The largest is as small as contiguous pieces allow: at most (tokens of the step)/pieces + (1 − 1/pieces)·(longest
    row). With a step of :func:`token_plan` it passes a microbatch's budget by less than one row.
    """
    rows = sorted(step, key=lambda i: (lengths[i], i))
    return cut_evenly(rows, [lengths[i] for i in rows], min(pieces, len(rows)))


def batches_in_order(lengths: Sequence[int], batch_tokens: int) -> list[list[int]]:
    """Rows in their order, as many a batch as fit ``batch_tokens`` when each is padded to the batch's longest.

    Neighbours may differ in length here as much as they like; where a device pads, their sum would bound nothing.
    """
    batches: list[list[int]] = []
    longest = 0
    for row, length in enumerate(lengths):
        longest = max(longest, length)
        if not batches or (len(batches[-1]) + 1) * longest > batch_tokens:
            batches.append([])
            longest = length
        batches[-1].append(row)
    return batches


def cut_evenly(rows: list[int], sizes: Sequence[int], parts: int) -> list[list[int]]:
    """``rows`` in ``parts`` contiguous, non-empty parts whose largest sum of ``sizes`` is as small as possible.

    Args:
        parts: at most the number of rows.
    """
    total = list(accumulate(sizes, initial=0))

    def ends(limit: int) -> list[int]:
        found = [0]
        for left in reversed(range(parts)):
            end = bisect_right(total, total[found[-1]] + limit) - 1
            found.append(min(end, len(rows) - left))  # a row at least for each part that is left
        return found

    low = max(max(sizes), -(-total[-1] // parts))
    high = low + max(sizes)  # always enough (token_plan)
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if ends(middle)[-1] == len(rows) else (middle + 1, high)
    return [rows[start:end] for start, end in pairwise(ends(low))]


def _draw(seed: int, epoch: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=[seed, epoch]))
