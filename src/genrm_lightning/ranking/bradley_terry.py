"""Strengths of N candidates from comparisons of two of them, with intervals.

P(i beats j) = σ(θ_i − θ_j) (Bradley, Terry 1952, Biometrika 39). A comparison may end between 0 and 1: a judge's mean
probability over both orders. θ is the maximum of the posterior under a prior θ_i ~ N(0, s²), which keeps it finite
where a candidate wins or loses throughout, and fixes its place; the posterior is taken as normal about it, with the
inverse of the Hessian as covariance (Laplace).

    L(θ) = Σ_c w_c [y_c log σ(d_c) + (1 − y_c) log σ(−d_c)] − Σ_i θ_i² / 2s²,   d_c = θ_i(c) − θ_j(c)
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

from data_tools.order import hash64

Floats = NDArray[np.float64]
PRIOR_SD = 2.0  # of θ: at one sd, P = 0.88 against the mean candidate
_STEPS = 100
_DRAWS = 2048  # from the posterior, for the probability of being the best


@dataclass(frozen=True)
class Strengths:
    """The posterior of n candidates' strengths.

    Attributes:
        theta: (n,) its mode.
        covariance: (n, n).
    """

    theta: Floats
    covariance: Floats

    @property
    def order(self) -> NDArray[np.int64]:
        """(n,) candidates from the strongest to the weakest; of equal ones the first comes first."""
        return np.argsort(-self.theta, kind="stable")

    def win_rates(self) -> Floats:
        """(n,) the probability of beating another candidate, in the mean over all others; 1/2 of a single one."""
        n = len(self.theta)
        if n == 1:
            return np.full(1, 0.5)
        wins = _sigmoid(self.theta[:, None] - self.theta[None, :])
        return (wins.sum(1) - 0.5) / (n - 1)  # without the one against itself

    def intervals(self, confidence: float = 0.95) -> tuple[Floats, Floats]:
        """(low, high), (n,) each, of θ less the mean of all: an order has no place of its own."""
        n = len(self.theta)
        centre = np.eye(n) - 1 / n
        spread = np.sqrt(np.diag(centre @ self.covariance @ centre).clip(0))
        half = NormalDist().inv_cdf((1 + confidence) / 2) * spread
        middle = self.theta - self.theta.mean()
        return middle - half, middle + half

    def best(self, among: ArrayLike | None = None) -> Floats:
        """(n,) the probability that each is the strongest: of 2,048 draws of the posterior, always the same.

        Args:
            among: (n,) whether a candidate may be; None: any. 0 of the others.
        """
        n = len(self.theta)
        generator = np.random.Generator(np.random.Philox(key=hash64("best of", str(n))))
        root = np.linalg.cholesky(self.covariance + 1e-12 * np.eye(n))
        drawn = self.theta + generator.standard_normal((_DRAWS, n)) @ root.T
        if among is not None and np.any(among):
            drawn = np.where(np.asarray(among), drawn, -np.inf)
        return np.bincount(drawn.argmax(1), minlength=n) / _DRAWS

    def variance(self, i: ArrayLike, j: ArrayLike) -> Floats:
        """Of θ_i − θ_j."""
        c = self.covariance
        return c[i, i] + c[j, j] - 2 * c[i, j]


def strengths(
    n: int, i: ArrayLike, j: ArrayLike, y: ArrayLike, weight: ArrayLike = 1.0, prior_sd: float = PRIOR_SD
) -> Strengths:
    """Fit n candidates, by Newton's method with halved steps.

    Args:
        i, j: (m,) the candidates of each comparison, from 0; a pair may occur again.
        y: (m,) how it ended for i, in [0, 1].
        weight: (m,) or one number: independent outcomes that a comparison counts for.
        prior_sd: s.

    Raises:
        ValueError: no candidates, places out of range, a candidate against itself, an outcome outside [0, 1], or
            weights or a prior that are not above 0.
    """
    i, j = np.asarray(i, dtype=np.int64), np.asarray(j, dtype=np.int64)
    y = np.asarray(y, dtype=np.float64)
    w = np.broadcast_to(np.asarray(weight, dtype=np.float64), y.shape)
    _check(n, i, j, y, w, prior_sd)
    theta = np.zeros(n)
    precision = 1 / prior_sd**2
    value = _objective(theta, i, j, y, w, precision)
    hessian = precision * np.eye(n)
    for _ in range(_STEPS):
        p = _sigmoid(theta[i] - theta[j])
        pull = w * (y - p)
        gradient = np.bincount(i, pull, n) - np.bincount(j, pull, n) - precision * theta
        hessian = _hessian(n, i, j, w * p * (1 - p), precision)
        step = np.linalg.solve(hessian, gradient)
        scale = 1.0
        while (tried := _objective(theta + scale * step, i, j, y, w, precision)) < value and scale > 1e-8:
            scale /= 2
        theta, value = theta + scale * step, tried
        if np.abs(scale * step).max() < 1e-10:
            break
    p = _sigmoid(theta[i] - theta[j])
    return Strengths(theta, np.linalg.inv(_hessian(n, i, j, w * p * (1 - p), precision)))


def cycles(n: int, i: ArrayLike, j: ArrayLike, y: ArrayLike) -> tuple[int, int]:
    """(cyclic, compared): of the triples whose three pairs were all compared, those in which each beats the next.

    No order agrees with such a triple (Kendall, Babington Smith 1940). Repeated comparisons of a pair are averaged; one
    that ends even beats nobody.
    """
    wins = np.zeros((n, n))
    i, j, y = np.asarray(i, dtype=np.int64), np.asarray(j, dtype=np.int64), np.asarray(y, dtype=np.float64)
    np.add.at(wins, (i, j), y - 0.5)
    np.add.at(wins, (j, i), 0.5 - y)
    seen = np.zeros((n, n), dtype=np.int64)
    seen[i, j] = seen[j, i] = 1
    beats = ((wins > 0) & (seen > 0)).astype(np.int64)
    cyclic = int(np.trace(beats @ beats @ beats)) // 3
    return cyclic, int(np.trace(seen @ seen @ seen)) // 6


def _hessian(n: int, i: NDArray[np.int64], j: NDArray[np.int64], weight: Floats, precision: float) -> Floats:
    """Of the negative log posterior: a weighted graph's Laplacian and the prior's precision."""
    result = precision * np.eye(n)
    np.add.at(result, (i, i), weight)
    np.add.at(result, (j, j), weight)
    np.add.at(result, (i, j), -weight)
    np.add.at(result, (j, i), -weight)
    return result


def _objective(
    theta: Floats, i: NDArray[np.int64], j: NDArray[np.int64], y: Floats, w: Floats, precision: float
) -> float:
    d = theta[i] - theta[j]
    return float((w * (y * -np.logaddexp(0, -d) + (1 - y) * -np.logaddexp(0, d))).sum() - precision / 2 * theta @ theta)


def _sigmoid(x: Floats) -> Floats:
    return np.where(x >= 0, 1 / (1 + np.exp(-np.abs(x))), np.exp(-np.abs(x)) / (1 + np.exp(-np.abs(x))))


def _check(n: int, i: NDArray, j: NDArray, y: Floats, w: Floats, prior_sd: float) -> None:
    if n < 1:
        raise ValueError(f"expected at least one candidate, got {n}")
    if not i.shape == j.shape == y.shape or y.ndim != 1:
        raise ValueError(f"expected vectors of one length, got {i.shape}, {j.shape} and {y.shape}")
    if len(i) and not (min(i.min(), j.min()) >= 0 and max(i.max(), j.max()) < n):
        raise ValueError(f"expected candidates in 0..{n - 1}, got another")
    if (i == j).any():
        raise ValueError("expected two candidates of each comparison, got one against itself")
    if not ((y >= 0) & (y <= 1)).all():
        raise ValueError("expected outcomes in [0, 1], got another")
    if not (w > 0).all() or not prior_sd > 0:
        raise ValueError("expected weights and a prior's sd above 0, got another")
