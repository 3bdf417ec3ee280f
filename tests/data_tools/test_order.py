from hashlib import blake2b
from itertools import pairwise

import pytest

from data_tools.order import chosen_is_a, hash64, responses, unit

# Golden: checkpoints, splits and stored judgments depend on these. They must never change.
GOLDEN = {
    ("order", "pair-1"): 8622283590874007128,
    ("order", "pair-2"): 17566751514018100650,
    ("split", "héllo\n"): 14001467169048768978,
    ("", ""): 16196991852515075588,
}


@pytest.mark.parametrize(("salt", "key"), GOLDEN)
def test_hash64_golden(salt, key):
    assert hash64(salt, key) == GOLDEN[salt, key]


def test_hash64_is_blake2b_of_salt_bar_id_big_endian():
    assert hash64("a", "b") == int(blake2b(b"a|b", digest_size=8).hexdigest(), 16)


def test_unit_is_the_upper_53_bits():
    assert unit("order", "pair-1") == 8622283590874007128 // 2048 / 2**53
    assert 0 <= min(unit("u", str(i)) for i in range(1000)) < 0.01
    assert 0.99 < max(unit("u", str(i)) for i in range(1000)) < 1


def test_orders_golden():
    assert [chosen_is_a(f"pair-{i}", False) for i in range(8)] == [True] + [False] * 5 + [True] * 2


def test_both_orders_show_each_response_once_as_a():
    for i in range(50):
        own, other = (responses(f"p{i}", swapped, "good", "bad") for swapped in (False, True))
        assert (own[0], own[1]) == (other[1], other[0])
        assert {own[2], other[2]} == {"A", "B"}
        for a, b, letter in (own, other):
            assert {"A": a, "B": b}[letter] == "good"


def test_position_says_nothing():
    # 4,000 fair coins: 2,000 ± 32 (one standard deviation)
    assert abs(sum(chosen_is_a(f"p{i}", False) for i in range(4000)) - 2000) < 130
    # nor an alternation: neighbours differ about half of the time
    letters = [chosen_is_a(f"p{i}", False) for i in range(4000)]
    assert abs(sum(x != y for x, y in pairwise(letters)) - 2000) < 130
