"""Prefix filtering: of each set its rarest n-grams, of which two similar sets have one in common.

Chaudhuri, Ganti and Kaushik 2006 ("A primitive operator for similarity joins in data cleaning"), Bayardo, Ma and
Srikant 2007, Xiao et al. 2008 (PPJoin, section 3). Sets x and y, |x| <= |y|, with a Jaccard similarity of at least t
share o >= t·|y| elements, and o >= t/(1 + t)·(|x| + |y|) >= 2t/(1 + t)·|x|. If two sets share o, then in any order of
all elements the first |x| - o + 1 of x and the first |y| - o + 1 of y have one in common. So one is in the prefix of y
of |y| - ⌈t·|y|⌉ + 1 elements and in the shorter one of x of |x| - ⌈2t/(1 + t)·|x|⌉ + 1.

The order is by rarity: what a template repeats in many rows stands last, and in few prefixes. Which set is the smaller
is not asked: one of two elements that are the same has to be in a shorter prefix.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_tools.extras import needed
from data_tools.memory import Memory
from data_tools.near_sets import COUNTER_BITS, GRAM_BITS, Sets

_RARITY_BITS = 6  # before the n-gram in the order: twice the binary logarithm of its counter
_KEPT_BITS = 44  # of an n-gram in the order; a pair that is proposed for two equal ones is decided all the same
_SIDES = 1 << (64 - _RARITY_BITS - _KEPT_BITS)  # that are sorted at once
_BYTES = 64  # a rare n-gram, while those of a file are compared
_FILES = 256
_ROUNDS = 3  # a row that is done with may have been the only one to share another's n-gram


@dataclass(frozen=True)
class Prefixes:
    """What rows share with others of their prefixes: rows with something on each side, of equal rows the first.

    Attributes:
        of: (n,) bool, whether a row (from 0) is one of these.
        parts: files of ``(n-gram << 1 | not in the shorter prefix, row * sides + side)``; an n-gram is in one of them.
    """

    of: Any
    parts: tuple[Path, ...]

    def read(self, part: Path, sides: int) -> tuple[Any, Any]:
        """What a file holds of those rows: (k,) UInt64, (k,) UInt32."""
        grams, owners = _read(part)
        alive = self.of[owners // sides]
        return grams[alive], owners[alive]


def shared_prefixes(sets: Sets, threshold: float, folder: Path, memory: Memory) -> Prefixes:
    """Write the prefixes' n-grams that occur in other rows' prefixes, of rows for which that is so on every side."""
    np = needed("numpy", "a search for near duplicates")
    sizes = np.diff(sets.starts)
    # The similarity is a quotient of floats: one n-gram more at worst, never one too few.
    lengths = sizes - np.ceil(threshold * sizes - 1e-9).astype(np.int64) + 1
    shorter = sizes - np.ceil(2 * threshold / (1 + threshold) * sizes - 1e-9).astype(np.int64) + 1
    alive = sets.equal_to == np.arange(len(sets.rows))
    lengths[~np.repeat(alive, sets.sides)] = 0
    files = 1
    while files < _FILES and files * memory.bytes < 8 * _BYTES * int(lengths.sum()):
        files *= 2
    parts = tuple(folder / f"prefixes-{part}" for part in range(files))
    _write(np, sets, lengths, shorter, parts, memory)
    for _ in range(_ROUNDS):
        before = int(alive.sum())
        shared = np.zeros(len(sizes), dtype=bool)
        for part in parts:
            grams, owners = _read(part)
            kept = alive[owners // sets.sides]
            grams, owners = grams[kept], owners[kept]
            order = np.argsort(grams)
            ordered = grams[order]
            begins = np.flatnonzero(np.diff(ordered >> np.uint64(1), prepend=np.uint64(2**64 - 1)))
            count = np.diff(begins, append=len(order))
            proposes = (count > 1) & (ordered[begins] & np.uint64(1) == 0)  # those of shorter prefixes come first
            order = order[np.repeat(proposes, count)]
            shared[owners[order]] = True
            _save(part, grams[order], owners[order])
        alive &= shared.reshape(-1, sets.sides).all(axis=1)
        if alive.sum() > 0.9 * before:
            break
    return Prefixes(alive, parts)


def _write(np: Any, sets: Sets, lengths: Any, shorter: Any, parts: tuple[Path, ...], memory: Memory) -> None:
    """The first ``lengths`` n-grams of each side in the order of rarity, but for those that no other set can have."""
    bits = np.uint64(_RARITY_BITS + _KEPT_BITS)
    rarity = np.minimum(2 * np.log2(np.maximum(sets.counters, 1)), (1 << _RARITY_BITS) - 1).astype(np.uint64)
    with ExitStack() as stack:
        outs = [[stack.enter_context(open(file, "wb")) for file in (part, _owners(part))] for part in parts]
        source = stack.enter_context(open(sets.file, "rb"))
        start = 0
        while start < len(lengths):
            # As many sides as there is room for, at least one.
            end = int(np.searchsorted(sets.starts, sets.starts[start] + memory.text // 8, side="right")) - 1
            end = min(max(end, start + 1), start + _SIDES, len(lengths))
            size = np.diff(sets.starts[start : end + 1])
            grams = np.fromfile(source, dtype=np.uint64, count=int(size.sum()))
            packed = np.repeat(np.arange(end - start, dtype=np.uint64) << bits, size)
            packed |= rarity[grams >> np.uint64(GRAM_BITS - COUNTER_BITS)] << np.uint64(_KEPT_BITS)
            packed |= grams >> np.uint64(GRAM_BITS - _KEPT_BITS)
            packed.sort()
            place = np.arange(len(packed)) - np.repeat(sets.starts[start:end] - sets.starts[start], size)
            inside = place < np.repeat(lengths[start:end], size)
            inside &= packed >> np.uint64(_KEPT_BITS) & np.uint64((1 << _RARITY_BITS) - 1) != 0  # 0: a counter of 1
            beyond = (place >= np.repeat(shorter[start:end], size))[inside]
            packed = packed[inside]
            grams, owners = packed & np.uint64((1 << int(bits)) - 1), (packed >> bits).astype(np.uint32)
            owners += np.uint32(start)
            to = grams % np.uint64(len(parts))
            grams = grams << np.uint64(1) | beyond.astype(np.uint64)
            for number, (out, of) in enumerate(outs):
                taken = to == number if len(outs) > 1 else slice(None)
                grams[taken].tofile(out)
                owners[taken].tofile(of)
            start = end


def _owners(part: Path) -> Path:
    return part.with_name(f"{part.name}-owners")


def _read(part: Path) -> tuple[Any, Any]:
    np = needed("numpy", "a search for near duplicates")
    return np.fromfile(part, dtype=np.uint64), np.fromfile(_owners(part), dtype=np.uint32)


def _save(part: Path, grams: Any, owners: Any) -> None:
    grams.tofile(part)
    owners.tofile(_owners(part))
