"""Which comparisons are made."""

import numpy as np
import pytest

from genrm_lightning.ranking.bradley_terry import strengths
from genrm_lightning.ranking.schedule import first_round, next_round


@pytest.mark.parametrize("n", [1, 2, 3, 4, 9, 64])
def test_the_first_round_is_a_ring(n):
    pairs = first_round(n, "x")
    assert len({frozenset(pair) for pair in pairs}) == len(pairs) == (n if n > 2 else n - 1)
    reached, edge = {0}, True
    while edge:
        edge = [b for pair in pairs for a, b in (pair, pair[::-1]) if a in reached and b not in reached]
        reached |= set(edge)
    assert reached == set(range(n))
    assert pairs == first_round(n, "x") and (n < 5 or pairs != first_round(n, "y"))


def test_rounds_ask_for_new_pairs_until_there_are_none():
    n, done = 6, first_round(6, "x")
    while round_ := next_round(strengths(n, *np.array(done).T, np.full(len(done), 0.6)), done, "order"):
        members = [i for pair in round_ for i in pair]
        assert len(set(members)) == len(members)
        done = done + round_
    assert len({frozenset(pair) for pair in done}) == len(done) == n * (n - 1) // 2


def test_the_best_are_compared_where_the_best_is_sought():
    """0 and 1 lead and have not met; the others lost to both."""
    done = [(0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]
    fit = strengths(4, *np.array(done).T, [1, 1, 1, 1, 0.5])
    assert next_round(fit, done, "best")[0] == (0, 1)


def test_what_tells_little_waits_for_the_next_fit():
    """Two lead by far: only their comparison is asked where the best is sought, and others too where the order is."""
    theta = np.array([3.0, 2.9, 0, -0.1, -0.2, -0.3])
    done = [(0, 2), (0, 3), (1, 2), (1, 3), (2, 4), (3, 5), (0, 5), (1, 4)]
    i, j = np.array(done).T
    p = 1 / (1 + np.exp(theta[j] - theta[i]))
    fit = strengths(6, i, j, np.stack([p, p], 1))
    assert next_round(fit, done, "best") == [(0, 1)]
    assert len(next_round(fit, done, "order")) == 3
