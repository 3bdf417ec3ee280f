"""The project's one hash, and what is drawn from it: A/B order, splits and seeds.

BLAKE2b-64 of ``salt|id``: the same on every machine, in every process and version (Python's and polars'
own hashes are not). Golden values stand in tests/data_tools/test_order.py.
"""

from __future__ import annotations

from hashlib import blake2b


def hash64(salt: str, key: str) -> int:
    """An integer in [0, 2**64) that depends on ``salt|key`` alone."""
    return int.from_bytes(blake2b(f"{salt}|{key}".encode(), digest_size=8).digest(), "big")


def unit(salt: str, key: str) -> float:
    """A number in [0, 1) that depends on ``salt|key`` alone: 53 bits of :func:`hash64`."""
    return (hash64(salt, key) >> 11) / 2**53


def chosen_is_a(pair_id: str, swapped: bool) -> bool:
    """Whether the preferred response is shown as A.

    The pair's own order is a hash of its id, never an alternation, so position says nothing of the label;
    ``swapped`` is the other order. One pair judged in both orders shows each response once as A.
    """
    return bool(hash64("order", pair_id) & 1) != swapped


def responses(pair_id: str, swapped: bool, chosen: str, rejected: str) -> tuple[str, str, str]:
    """(response A, response B, right letter): text and label turned together, so they cannot drift apart."""
    return (chosen, rejected, "A") if chosen_is_a(pair_id, swapped) else (rejected, chosen, "B")
