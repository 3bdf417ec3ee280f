"""Ranking with a judge whose preferences are known."""

import numpy as np
import pytest
from scipy.special import expit

from data_tools.errors import UserError
from genrm_lightning.ranking.tournament import RankingSettings, rank


class Referee:
    """Prefers by strengths of its own, sure to a degree; remembers what it was asked."""

    def __init__(self, theta, noise=0.0, seed=0):
        self.theta, self.noise, self.draw = theta, noise, np.random.default_rng(seed)
        self.rounds = []

    def __call__(self, number, asked):
        assert number == len(self.rounds)
        self.rounds.append(asked)
        said = [self.theta[name][i] - self.theta[name][j] for name, i, j in asked]
        p = expit(np.array(said) + self.noise * self.draw.standard_normal(len(said)))
        return [(each, each) for each in p.tolist()]


def groups(sizes, seed=0, spread=2.0):
    draw = np.random.default_rng(seed)
    return {f"g{k}": draw.normal(0, spread, n) for k, n in enumerate(sizes)}


def test_the_best_is_found_with_few_comparisons():
    theta = groups([16] * 12)
    referee = Referee(theta, noise=0.5)
    found = rank({name: 16 for name in theta}, referee, RankingSettings())
    picked = [int(one.fit.order[0]) for one in found.values()]
    regret = [theta[name].max() - theta[name][best] for name, best in zip(found, picked, strict=True)]
    right = np.mean([r == 0 for r in regret])
    spent = np.mean([len(one.pairs) for one in found.values()])
    assert right >= 0.75 and np.mean(regret) < 0.15 and spent <= 64 < 16 * 15 / 2
    for one in found.values():
        assert len({frozenset(pair) for pair in one.pairs}) == len(one.pairs) and all(i < j for i, j in one.pairs)


def test_the_order_of_many():
    theta = groups([64, 32])
    found = rank({"g0": 64, "g1": 32}, Referee(theta), RankingSettings(goal="order"))
    for name, one in found.items():
        n = len(theta[name])
        assert len(one.pairs) == n * (6 if n == 64 else 5) < n * (n - 1) / 3
        correlation = np.corrcoef(np.argsort(np.argsort(one.fit.theta)), np.argsort(np.argsort(theta[name])))[0, 1]
        assert correlation > 0.95


def test_every_pair_and_no_more():
    theta = groups([5])
    found = rank({"g0": 5}, Referee(theta), RankingSettings(goal="order", comparisons=1000))["g0"]
    assert len(found.pairs) == 10 and list(found.fit.order) == list(np.argsort(-theta["g0"]))
    assert found.cycles() == (0, 10)


def test_a_clear_winner_ends_it_early():
    theta = {"g0": np.array([9.0, 0, 0, 0, 0, 0, 0, 0]), "g1": np.zeros(8)}
    found = rank({"g0": 8, "g1": 8}, Referee(theta, noise=0.5), RankingSettings(error=0.2))
    assert len(found["g0"].pairs) < len(found["g1"].pairs) == RankingSettings().most(8) == 24
    assert found["g0"].fit.best()[0] >= 0.8


def test_pairs_that_do_not_fit_are_not_asked_again():
    def compare(number, asked):
        return [None if 0 in (i, j) else (0.9, 0.9) for _, i, j in asked]

    found = rank({"x": 4}, compare, RankingSettings(goal="order"))["x"]
    # Two failures tell: its third pair is not asked, and who was never compared is nobody's best.
    assert len(found.unfit) == 2 and len(found.pairs) == 3
    assert found.order == [1, 2, 3, 0] and found.best()[0] == 0 and found.best().sum() == 1


def test_equal_texts_are_even_where_they_fit():
    """One pair of each text is asked about; what is too long beside itself was not compared."""
    asked = []

    def compare(number, wanted):
        asked.extend(wanted)
        return [None if name == "long" else (0.9, 0.7) for name, _, _ in wanted]

    texts = {"long": ["x", "x", "x"], "short": ["a", "a", "a", "b"], "two": ["c", "c"]}
    sizes = {name: len(found) for name, found in texts.items()}
    found = rank(sizes, compare, RankingSettings("order", comparisons=6), texts)
    assert not found["long"].compared.any() and len(found["long"].unfit) == 3
    assert found["two"].said == [(0.5, 0.5)] and found["two"].told == [False] and found["two"].compared.all()
    short = found["short"]
    assert short.told.count(False) == 3 and set(zip(short.told, short.said, strict=True)) == {
        (False, (0.5, 0.5)),
        (True, (0.9, 0.7)),
    }
    same = [(name, i, j) for name, i, j in asked if texts[name][i] == texts[name][j]]
    assert sorted(name for name, _, _ in same) == ["long", "short", "two"]
    assert short.fit.theta[:3] == pytest.approx([short.fit.theta[0]] * 3) and short.fit.position > 0.3


def test_one_and_two_candidates():
    found = rank({"one": 1, "two": 2}, lambda number, asked: [(0.2, 0.2)] * len(asked), RankingSettings())
    assert found["one"].pairs == [] and found["one"].fit.best() == [1.0]
    assert found["two"].pairs == [(0, 1)] and list(found["two"].fit.order) == [1, 0]


def test_limits():
    with pytest.raises(UserError, match="group 'x' has 65 candidates"):
        rank({"x": 65}, None, RankingSettings())
    for flags, said in (({"error": 0}, "ranking.error"), ({"comparisons": 0}, "ranking.comparisons")):
        with pytest.raises(UserError, match=said):
            RankingSettings(**flags)
