"""Which rows go: each is compared with those before it that stay and share a rare n-gram with it on every side."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from data_tools.extras import needed
from data_tools.near_prefixes import Prefixes
from data_tools.near_sets import Sets

_FEW = 8  # candidates that are compared at once; of more, another side first leaves out some
_DEARER = 32  # times as many postings of another side as there are candidates: reading them would cost more
_GRAMS = 1 << 20  # of candidates' sets that are in memory at once


@dataclass(frozen=True)
class Matches:
    """m rows that go, by their place in the order that was given: (m,) ``rows``, ``stays`` and ``scores``."""

    rows: Any
    stays: Any
    scores: Any


@dataclass
class _Index:
    """For each n-gram the rows that stay and have it, in its own place in ``postings``.

    Those that have it in their shorter prefix are ``filled[0]`` of them from ``begins[0]`` on, the others ``filled[1]``
    before ``begins[1]``, where the n-gram's place ends.
    """

    of_side: Any  # (m * S + 1,) where a side's n-grams begin in `grams`
    grams: Any  # n-gram's number, from 0, << 1 | not in the shorter prefix
    begins: Any  # (2, n-grams)
    filled: Any  # (2, n-grams)
    postings: Any

    def add(self, row: int, sides: int) -> None:
        """A row that stays."""
        mine = self.grams[self.of_side[row * sides] : self.of_side[(row + 1) * sides]]
        number, beyond = mine >> 1, mine & 1 == 1
        first, last = number[~beyond], number[beyond]
        self.postings[self.begins[0, first] + self.filled[0, first]] = row
        self.filled[0, first] += 1
        self.filled[1, last] += 1
        self.postings[self.begins[1, last] - self.filled[1, last]] = row


def matches(order: Any, sets: Sets, prefixes: Prefixes, threshold: float) -> Matches:
    """Compare each row with those before it that stay; the most similar is its match, of equals the first.

    Args:
        order: (m,) rows of ``sets``, all those that ``prefixes`` are of.
    """
    np = needed("numpy", "a search for near duplicates")
    index = _index(np, order, sets, prefixes)
    flat = np.asarray(np.memmap(sets.file, dtype=np.uint64, mode="r")) if len(order) else np.empty(0, np.uint64)
    sides = sets.sides
    begins = sets.starts[:-1].reshape(-1, sides)[order]
    sizes = sets.starts[1:].reshape(-1, sides)[order] - begins
    found: list[tuple[int, int, float]] = []
    for row in range(len(order)):
        near = _candidates(np, index, row, sides)
        if len(near):
            least = np.minimum(sizes[near], sizes[row])
            most = np.maximum(sizes[near], sizes[row])
            near = near[(least >= threshold * most - 1e-9).all(axis=1)]
        if len(near):
            near, scores = _similar(np, flat, begins, sizes, row, near, threshold)
        if len(near):
            best = int(np.argmax(scores))  # the first of equals
            found.append((row, int(near[best]), float(scores[best])))
            continue
        index.add(row, sides)
    columns = list(zip(*found, strict=True)) or [(), (), ()]
    return Matches(*(np.array(values, dtype=d) for values, d in zip(columns, (np.int64, np.int64, float), strict=True)))


def _index(np: Any, order: Any, sets: Sets, prefixes: Prefixes) -> _Index:
    """An index of so many rows, still without postings; a file of n-grams at a time, each read twice."""
    place = np.full(len(sets.rows), -1, dtype=np.int64)
    place[order] = np.arange(len(order))
    lengths = np.zeros(len(order) * sets.sides, dtype=np.int64)
    for part in prefixes.parts:
        _, owners = prefixes.read(part, sets.sides)
        slots = place[owners // sets.sides] * sets.sides + owners % sets.sides
        lengths += np.bincount(slots, minlength=len(lengths))
    of_side = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
    numbers = np.empty(of_side[-1], dtype=np.uint32)
    next_at, counts, known = of_side[:-1].copy(), [np.zeros(1, np.int64)], 0
    for part in prefixes.parts:
        grams, owners = prefixes.read(part, sets.sides)
        slots = place[owners // sets.sides] * sets.sides + owners % sets.sides
        _, number, count = np.unique(grams >> np.uint64(1), return_inverse=True, return_counts=True)
        by_slot = np.argsort(slots, kind="stable")
        slots = slots[by_slot]
        begin = np.concatenate([[True], slots[1:] != slots[:-1]]) if len(slots) else np.empty(0, bool)
        first = np.maximum.accumulate(np.where(begin, np.arange(len(slots)), 0))
        beyond = (grams & np.uint64(1))[by_slot].astype(np.int64)
        numbers[next_at[slots] + np.arange(len(slots)) - first] = (number[by_slot] + known) << 1 | beyond
        next_at += np.bincount(slots, minlength=len(next_at))
        counts.append(count)
        known += len(count)
    bounds = np.cumsum(np.concatenate(counts))
    begins = np.stack([bounds[:-1], bounds[1:]])
    return _Index(of_side, numbers, begins, np.zeros((2, known), np.int64), np.empty(len(numbers), np.uint32))


def _candidates(np: Any, index: _Index, row: int, sides: int) -> Any:
    """Rows that stay and share an n-gram with this one on each side that is not too dear to look at, ascending."""
    of_sides = []
    for side in range(row * sides, (row + 1) * sides):
        mine = index.grams[index.of_side[side] : index.of_side[side + 1]]
        number = mine >> 1
        filled = index.filled[0, number]
        rest = index.filled[1, number] * (mine & 1 == 0)  # one of the two has it in its shorter prefix
        total = int(filled.sum() + rest.sum())
        if not total:
            return np.empty(0, np.int64)
        begins = np.concatenate([index.begins[0, number], index.begins[1, number] - rest])
        of_sides.append((total, side, begins, np.concatenate([filled, rest])))
    found = None
    for total, _, begins, counts in sorted(of_sides, key=lambda one: one[:2]):
        if found is not None and (len(found) <= _FEW or total > _DEARER * len(found)):
            break
        at = np.repeat(begins - np.cumsum(counts) + counts, counts) + np.arange(total)
        rows = np.unique(index.postings[at])
        found = rows if found is None else np.intersect1d(found, rows, assume_unique=True)
    return found.astype(np.int64)


def _similar(np: Any, flat: Any, begins: Any, sizes: Any, row: int, near: Any, threshold: float) -> tuple[Any, Any]:
    """Those of ``near`` whose sides are all similar enough, and the similarity of the least similar."""
    kept, least = [], []
    total = np.cumsum(sizes[near].sum(axis=1)) // _GRAMS
    for part in np.split(near, np.flatnonzero(np.diff(total)) + 1):
        scores = np.ones(len(part))
        for side in range(sizes.shape[1]):
            mine = flat[begins[row, side] : begins[row, side] + sizes[row, side]]
            its = np.concatenate([flat[begins[one, side] : begins[one, side] + sizes[one, side]] for one in part])
            at = np.searchsorted(mine, its)
            hits = mine[np.minimum(at, len(mine) - 1)] == its
            size = sizes[part, side]
            shared = np.add.reduceat(hits, np.cumsum(size) - size, dtype=np.int64)
            scores = np.minimum(scores, shared / (size + len(mine) - shared))
            part, scores = part[scores >= threshold], scores[scores >= threshold]
            if not len(part):
                break
        kept.append(part)
        least.append(scores)
    return np.concatenate(kept), np.concatenate(least)
