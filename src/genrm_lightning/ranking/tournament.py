"""Candidates of many prompts ranked by a judge of pairs, all prompts' comparisons of a round in one batch."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from data_tools.errors import UserError
from genrm_lightning.ranking.bradley_terry import Floats, Strengths, strengths
from genrm_lightning.ranking.cycles import cycles, in_cycles
from genrm_lightning.ranking.schedule import Goal, Pair, first_round, next_round

MOST = 64  # candidates of a prompt
Both = tuple[float, float]
_EVEN: Both = (0.5, 0.5)
# (round, [(group, i, j)]) -> of each the probabilities that i is better than j, where i is shown first and where it is
# shown second; None where the pair did not fit.
Compare = Callable[[int, list[tuple[str, int, int]]], Sequence[Both | None]]


@dataclass(frozen=True)
class RankingSettings:
    """How far a prompt's candidates are compared.

    Attributes:
        goal: best: until it is clear which one is the strongest; order: until all comparisons are spent.
        error: best: the probability that another one is the strongest, at which comparing ends.
        comparisons: most for each prompt; None: N ⌈log₂ N⌉, of N candidates. N (N − 1) / 2 is every pair.
    """

    goal: Goal = "best"
    error: float = 0.05
    comparisons: int | None = None

    def __post_init__(self) -> None:
        if not 0 < self.error < 1:
            raise UserError(f"ranking.error: {self.error} is not in (0, 1)")
        if self.comparisons is not None and self.comparisons < 1:
            raise UserError(f"ranking.comparisons: {self.comparisons} is not above 0")

    def most(self, n: int) -> int:
        """Comparisons of n candidates, at most."""
        every = n * (n - 1) // 2
        return min(every, n * math.ceil(math.log2(max(n, 2))) if self.comparisons is None else self.comparisons)


@dataclass
class Ranking:
    """What is known of a prompt's candidates.

    Attributes:
        n: how many there are.
        pairs: compared so far.
        said: of each pair the probabilities that the first is better, where it is shown first, and second.
        told: of each pair whether the judge said so; not of equal texts, which are even.
        unfit: pairs that did not fit the judge's context.
        rounds: how often the judge was asked.
        fit: the strengths by now.
    """

    n: int
    pairs: list[Pair] = field(default_factory=list)
    said: list[Both] = field(default_factory=list)
    told: list[bool] = field(default_factory=list)
    unfit: list[Pair] = field(default_factory=list)
    rounds: int = 0
    fit: Strengths = field(init=False)

    def __post_init__(self) -> None:
        self.refit()

    def refit(self) -> None:
        i, j = np.array(self.pairs, dtype=np.int64).reshape(-1, 2).T
        self.fit = strengths(self.n, i, j, self.said, told=self.told)

    def add(self, pair: Pair, said: Both | None, told: bool = True) -> None:
        """How a comparison ended, for the next :meth:`refit`; None: it did not fit."""
        if said is None:
            self.unfit.append(pair)
        else:
            self.pairs.append(pair)
            self.said.append(said)
            self.told.append(told)

    @property
    def outcomes(self) -> list[float]:
        """Of each pair the probability that the first is better, in the mean over both orders."""
        return [(first + second) / 2 for first, second in self.said]

    @property
    def compared(self) -> NDArray[np.bool_]:
        """(n,) whether a candidate was in a comparison; all where there was none to make."""
        found = np.zeros(self.n, dtype=bool)
        found[[i for pair in self.pairs for i in pair]] = True
        return found if self.n > 1 else np.ones(1, dtype=bool)

    @property
    def order(self) -> list[int]:
        """Candidates from the strongest to the weakest; those that were never compared come last."""
        return sorted(self.fit.order.tolist(), key=lambda i: not self.compared[i])

    def best(self) -> Floats:
        """(n,) the probability that each is the strongest of those that were compared."""
        return self.fit.best(self.compared)

    def cycles(self) -> tuple[int, int]:
        """(cyclic triples, triples compared): :func:`~genrm_lightning.ranking.cycles.cycles`."""
        i, j = np.array(self.pairs, dtype=np.int64).reshape(-1, 2).T
        return cycles(self.n, i, j, self.outcomes)

    def in_cycles(self) -> NDArray[np.bool_]:
        """(n,) whether a chain of wins leads back: :func:`~genrm_lightning.ranking.cycles.in_cycles`."""
        i, j = np.array(self.pairs, dtype=np.int64).reshape(-1, 2).T
        return in_cycles(self.n, i, j, self.outcomes)


def rank(
    groups: dict[str, int],
    compare: Compare,
    settings: RankingSettings,
    texts: Mapping[str, Sequence[str]] | None = None,
) -> dict[str, Ranking]:
    """Rank the candidates of each group.

    Args:
        groups: id -> its number of candidates, at least 1.
        compare: judges a round; the same round of the same groups always gets the same comparisons, so that what was
            judged before can be read again.
        texts: of each group its candidates'. Two equal ones are even, whatever the judge says of them; it is asked
            about one such pair of each text, for whether it fits. None: all differ.

    Raises:
        UserError: a group of more than 64 candidates.
    """
    for name, n in groups.items():
        if n > MOST:
            raise UserError(f"group '{name}' has {n} candidates, at most {MOST} are ranked; sort some out before")
    found = {name: Ranking(n) for name, n in groups.items()}
    fits: dict[tuple[str, str], bool] = {}  # (group, text) beside itself
    number = 0
    while wanted := [(name, *pair) for name, one in found.items() for pair in _wanted(name, one, settings)]:
        same = {
            (name, i, j): (name, texts[name][i]) for name, i, j in wanted if texts and texts[name][i] == texts[name][j]
        }
        shown = {text: one for one, text in reversed(same.items()) if text not in fits}  # the first pair of each
        asked = [one for one in wanted if one not in same or shown.get(same[one]) == one]
        said = dict(zip(asked, compare(number, asked), strict=True))
        fits |= {text: said[one] is not None for text, one in shown.items()}
        for one in wanted:
            name, *pair = one
            if one in same:
                found[name].add(tuple(pair), _EVEN if fits[same[one]] else None, told=False)
            else:
                found[name].add(tuple(pair), said[one])
        for name in {name for name, _, _ in wanted}:
            found[name].rounds += 1
            found[name].refit()
        number += 1
    return found


def _wanted(name: str, one: Ranking, settings: RankingSettings) -> Sequence[Pair]:
    """The next comparisons of a group, the smaller number first; none where it is done."""
    done = [*one.pairs, *one.unfit]
    left = settings.most(one.n) - len(done)
    # Who did not fit twice and never did is too long for any: its other pairs are not asked.
    failed = Counter(i for pair in one.unfit for i in pair)
    out = [i for i, times in failed.items() if times > 1 and not one.compared[i]]
    done += [(i, j) for i in out for j in range(one.n) if i != j]
    if left <= 0:
        return []
    if not done:
        pairs = first_round(one.n, name)
    elif settings.goal == "best" and one.best().max() >= 1 - settings.error:
        return []
    else:
        pairs = next_round(one.fit, done, settings.goal)
    return [(min(pair), max(pair)) for pair in pairs[:left]]
