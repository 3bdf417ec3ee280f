"""Cycles in comparisons."""

import time

import numpy as np

from genrm_lightning.ranking.cycles import cycles, in_cycles


def test_triples():
    ring = ([0, 1, 2], [1, 2, 0])
    assert cycles(3, *ring, [1, 1, 1]) == (1, 1)
    assert cycles(3, *ring, [1, 1, 0]) == (0, 1)
    assert cycles(3, *ring, [1, 1, 0.5]) == (0, 1)
    assert cycles(4, *ring, [0.9, 0.8, 0.7]) == (1, 1)
    i, j = np.triu_indices(5, 1)
    assert cycles(5, i, j, np.ones(10)) == (0, 10)
    draw = np.random.default_rng(0)
    y = draw.integers(0, 2, 10).astype(float)
    beats = np.zeros((5, 5), bool)
    beats[i, j], beats[j, i] = y > 0, y < 1
    by_hand = sum(
        beats[a, b] and beats[b, c] and beats[c, a] for a in range(5) for b in range(5) for c in range(5)
    ) // 3  # fmt: skip
    assert cycles(5, i, j, y) == (by_hand, 10)


def ring(n, first=0):
    members = np.arange(first, first + n)
    return members, np.roll(members, -1)


def test_a_ring_of_three_and_its_ties():
    i, j = ring(3)
    assert in_cycles(3, i, j, [0.9, 0.6, 0.51]).all()
    assert not in_cycles(3, i, j, [0.9, 0.6, 0.5]).any()  # one even: nothing leads back
    assert not in_cycles(3, i, j, [0.9, 0.6, 0.4]).any()
    assert cycles(3, i, j, [0.9, 0.6, (0.1 + 0.2 + 0.7) / 2]) == (0, 1)  # even, but for rounding
    # The same pair twice, once each way, is even; and two to one is a win.
    assert not in_cycles(3, [*i, 2], [*j, 0], [1, 1, 1, 0]).any()
    assert in_cycles(3, [*i, 2, 2], [*j, 0, 0], [1, 1, 1, 0, 1]).all()


def test_a_ring_of_five_that_no_triple_shows():
    i, j = ring(5)
    assert cycles(5, i, j, np.ones(5)) == (0, 0)
    assert in_cycles(5, i, j, np.ones(5)).all()
    assert not in_cycles(5, i, j, [1, 1, 1, 1, 0.5]).any()


def test_a_regular_tournament_of_five():
    """Each beats the next two: of ten triples five are cyclic, the most there can be."""
    i = np.repeat(np.arange(5), 2)
    j = (i + np.tile([1, 2], 5)) % 5
    assert cycles(5, i, j, np.ones(10)) == (5, 10) and in_cycles(5, i, j, np.ones(10)).all()


def test_only_who_is_in_a_cycle():
    """A ring of three in the middle, one above and one below it, and one that met nobody."""
    i, j = ring(3, 1)
    i, j = [*i, 0, 0, 1, 2], [*j, 1, 2, 4, 4]
    assert in_cycles(6, i, j, np.ones(7)).tolist() == [False, True, True, True, False, False]
    assert cycles(6, i, j, np.ones(7))[0] == 1


def test_nothing_compared():
    assert cycles(1, [], [], []) == cycles(3, [], [], []) == (0, 0)
    assert not in_cycles(1, [], [], []).any() and not in_cycles(3, [], [], []).any()


def test_many_against_a_search_and_a_clock():
    """A ring of 64, and random comparisons of 64, beside a search for a way back."""
    i, j = ring(64)
    assert in_cycles(64, i, j, np.ones(64)).all()
    draw = np.random.default_rng(0)
    for m in (40, 80, 400, 2016):
        a, b = np.triu_indices(64, 1)
        chosen = draw.permutation(len(a))[:m]
        a, b, y = a[chosen], b[chosen], draw.choice([0, 0.5, 1], m)
        after = {k: [] for k in range(64)}
        for first, second, said in zip(a.tolist(), b.tolist(), y, strict=True):
            if said != 0.5:
                winner, loser = (first, second) if said else (second, first)
                after[winner].append(loser)

        def leads_back(start, after=after):
            reached, edge = set(), list(after[start])
            while edge:
                if (one := edge.pop()) not in reached:
                    reached.add(one)
                    edge += after[one]
            return start in reached

        began = time.process_time()
        found = in_cycles(64, a, b, y)
        cycles(64, a, b, y)
        assert time.process_time() - began < 1
        assert found.tolist() == [leads_back(k) for k in range(64)]
