"""Simulated judges whose preferences are known, and what a fit to all they could ever say would give."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from genrm_lightning.ranking.bradley_terry import strengths

Floats = NDArray[np.float64]
_QUANTILES = 60  # of the noise of a pair, over which answers are averaged


@dataclass(frozen=True)
class SimulatedJudge:
    """Log-odds d + ε ± b of a pair whose strengths differ by d; ε and b are the pair's own, whoever asks and how often.

    Attributes:
        noise: scale of ε; normal, or logistic for threshold votes, so that they follow Bradley-Terry exactly.
        bias, bias_sd: of b, normal: in favour of the response that is shown first.
        votes: soft: the probability itself; threshold: 0 or 1, its side of one half; a number: so many drawn votes an
            order, their mean.
    """

    name: str
    noise: float = 0.0
    bias: float = 0.0
    bias_sd: float = 0.0
    votes: Literal["soft", "threshold"] | int = "soft"

    def says(self, d: Floats, draw: np.random.Generator) -> Floats:
        """(m, 2) the answers, the first of the pair shown first and second."""
        epsilon = draw.logistic(size=len(d)) if self.votes == "threshold" else draw.standard_normal(len(d))
        b = self.bias + self.bias_sd * draw.standard_normal(len(d))
        odds = (d + self.noise * epsilon)[:, None] + b[:, None] * np.array([1, -1])
        if isinstance(self.votes, int):
            return draw.binomial(self.votes, _sigmoid(odds)) / self.votes
        return _answer(odds, self.votes)

    def expected(self, d: Floats) -> Floats:
        """(m, 2) the mean answer over ε and b."""
        place = (np.arange(_QUANTILES) + 0.5) / _QUANTILES
        if self.votes == "threshold":  # odds + noise × logistic > 0; exact
            epsilon, scale = np.zeros(1), max(self.noise, 1e-9)
        else:
            epsilon, scale = self.noise * _normal(place), 1.0
        b = self.bias + self.bias_sd * (_normal((np.arange(12) + 0.5) / 12) if self.bias_sd else np.zeros(1))
        odds = d[:, None, None] + epsilon[:, None]  # (m, quantiles of ε, of b)
        return np.stack([_sigmoid((odds + side) / scale).mean((1, 2)) for side in (b, -b)], 1)

    def truth(self, theta: Floats) -> Floats:
        """(n,) the strengths nearest to the expected answers about every pair, less their mean (White 1982).

        Of a judge without noise or bias θ itself; otherwise log-odds of mean answers, which lie nearer together than
        the mean log-odds.
        """
        n = len(theta)
        i, j = np.triu_indices(n, 1)
        again = max(1, 400 // len(i))  # so often that the priors do not count
        y = np.tile(self.expected(theta[i] - theta[j]), (again, 1))
        found = strengths(n, np.tile(i, again), np.tile(j, again), y, prior_sd=1e3).theta
        return found - found.mean()


JUDGES = (
    SimulatedJudge("exact"),
    SimulatedJudge("noise 0.7", 0.7),
    SimulatedJudge("noise 0.7, position 2", 0.7, 2),
    SimulatedJudge("noise 0.7, position 2 ± 1", 0.7, 2, 1),
    SimulatedJudge("noise 0.7, position 4", 0.7, 4),
    SimulatedJudge("0/1", 1, votes="threshold"),
    SimulatedJudge("0/1, position 2", 1, 2, votes="threshold"),
    SimulatedJudge("0/1, position 2 ± 1", 1, 2, 1, votes="threshold"),
    SimulatedJudge("0/1, position 4", 1, 4, votes="threshold"),
    SimulatedJudge("1 drawn vote, position 2", 0.7, 2, votes=1),
    SimulatedJudge("4 drawn votes, position 2", 0.7, 2, votes=4),
    SimulatedJudge("0/1, hardly any noise", 0.1, votes="threshold"),
)


def _answer(odds: Floats, votes: str) -> Floats:
    return (odds > 0).astype(np.float64) if votes == "threshold" else _sigmoid(odds)


def _sigmoid(x: Floats) -> Floats:
    return 0.5 * (1 + np.tanh(x / 2))


def _normal(p: Floats) -> Floats:
    return np.array([NormalDist().inv_cdf(float(each)) for each in p])
