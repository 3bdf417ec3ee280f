"""Strengths of N candidates from comparisons of two of them, with intervals.

A comparison c of i and j is judged in both orders. Shown first, i is preferred with probability σ(d_c + β), shown
second with σ(d_c − β), d_c = θ_i − θ_j: Bradley, Terry (1952, Biometrika 39) with an effect of the order (Davidson,
Beaver 1977, Biometrics 33). Without β a judge that follows the position draws all strengths together.

Judges are no coins: their probabilities may vary less than votes do, both orders of one comparison vary together, and
asked again they repeat themselves. So the likelihood is a quasi-likelihood with a dispersion φ (Wedderburn 1974,
Biometrika 61; of fractions: Papke, Wooldridge 1996), and θ and β are the maximum of

    L = 1/φ Σ_c Σ_o [y_co log σ(d_co) + (1 − y_co) log σ(−d_co)] − Σ_i θ_i² / 2s² − β² / 2s_β²

with φ from the residuals by comparison (:func:`_dispersion`) of a fit that the prior does not hold: answers that it
pulls towards even leave residuals that are no noise. The covariance is that of the sandwich by comparison
(:mod:`~genrm_lightning.ranking.sandwich`), and quantiles are Student's.

Answers of exactly 0 and 1 are votes, in which a judge does not say how sure it is: one of them tells less than a
probability of 0.99 does.

What the intervals hold: the strengths that a fit to the judge's expected answers about *every* pair would give, in the
mean over candidates (``python -m benchmarks.ranking``, nominally 95 %: every pair of 8 to 64 compared 93 to 98 %, of 4
95 to 100 %; with few comparisons, or chosen ones, 92 to 100 %: too wide rather than too narrow). They are no statement
about what people prefer. They do not hold (5 to 20 %) where votes of 0 and 1 hardly ever contradict an order: strengths
have no upper bound then, the prior decides how far apart they lie, and only the order is known.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

from data_tools.order import hash64
from genrm_lightning.ranking.sandwich import robust

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
PRIOR_SD = 2.0  # of θ: at one sd, P = 0.88 against the mean candidate
POSITION_SD = 3.0  # of β: judges exist that name the first one nine times in ten
_STEPS = 100  # of Newton's method
_DRAWS = 2048  # for the probability of being the best
_PRIOR_FREEDOM = 2.0  # comparisons that the first guess at φ counts for
# φ of a judge that says probabilities, near even; at p it is less by 4 p (1 − p), as log-odds then vary by the same.
_LEAST, _GUESS = 0.01, 0.08  # at the least: that a judge has no noise at all is never known; first guess
# φ at which strengths are fitted to find it. Probabilities hold themselves; votes that agree have no maximum, and the
# prior must.
_OF_PROBABILITIES, _OF_VOTES = 1e-8, 0.1
_SURE = 1e-7  # nearer to 0 or 1 an answer is a vote: single precision holds no more


@dataclass(frozen=True)
class Strengths:
    """What is known of n candidates' strengths.

    Attributes:
        theta: (n,) the maximum.
        covariance: (n, n) of θ less the mean of all: an order has no place of its own. Where the sandwich widens the
            variances of some more than of others, its rows do not sum to 0 exactly.
        position: β, in log-odds for the response that is shown first; 0 where both orders were given as one.
        dispersion: φ; 1: each order of each comparison is a coin of its own, 2: both orders are always one.
        freedom: degrees of freedom of Student's t.
        orders: that a comparison was judged in, 2 or 1.
    """

    theta: Floats
    covariance: Floats
    position: float = 0.0
    dispersion: float = 1.0
    freedom: float = _PRIOR_FREEDOM
    orders: int = 2

    @property
    def order(self) -> Ints:
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
        """(low, high), (n,) each, of θ less the mean of all; each for itself, not all at once."""
        half = student(confidence, self.freedom) * np.sqrt(np.diag(self.covariance).clip(0))
        middle = self.theta - self.theta.mean()
        return middle - half, middle + half

    def best(self, among: ArrayLike | None = None) -> Floats:
        """(n,) the probability that each is the strongest: of 2,048 draws of Student's t, always the same.

        Args:
            among: (n,) whether a candidate may be; None: any. 0 of the others.
        """
        n = len(self.theta)
        jitter = 1e-9 * max(float(np.diag(self.covariance).mean()), 1e-9)  # the mean's direction has no variance
        root = np.linalg.cholesky(self.covariance + jitter * np.eye(n))
        generator = np.random.Generator(np.random.Philox(key=hash64("Student's", str(n))))
        wide = np.sqrt(self.freedom / generator.chisquare(self.freedom, (_DRAWS, 1)))
        drawn = self.theta + wide * (_normal_draws(n) @ root.T)
        if among is not None and np.any(among):
            drawn = np.where(np.asarray(among), drawn, -np.inf)
        return np.bincount(drawn.argmax(1), minlength=n) / _DRAWS

    def variance(self, i: ArrayLike, j: ArrayLike) -> Floats:
        """Of θ_i − θ_j."""
        c = self.covariance
        return c[i, i] + c[j, j] - 2 * c[i, j]

    def information(self, i: ArrayLike, j: ArrayLike) -> Floats:
        """Fisher's, about θ_i − θ_j, that one more comparison of i and j is expected to bring."""
        sides = np.array(_sides(self.orders)) * self.position
        p = _sigmoid((self.theta[i] - self.theta[j])[..., None] + sides)
        return (p * (1 - p)).sum(-1) / self.dispersion


@lru_cache(maxsize=4)
def _normal_draws(n: int) -> Floats:
    return np.random.Generator(np.random.Philox(key=hash64("best of", str(n)))).standard_normal((_DRAWS, n))


def strengths(
    n: int,
    i: ArrayLike,
    j: ArrayLike,
    y: ArrayLike,
    prior_sd: float = PRIOR_SD,
    told: ArrayLike | None = None,
) -> Strengths:
    """Fit n candidates, by Newton's method with halved steps: once for φ, and once at that φ.

    Args:
        i, j: (m,) the candidates of each comparison, from 0; a pair may occur again.
        y: how it ended for i, in [0, 1]: (m, 2) where i is shown first and where it is shown second, or (m,) both as
            one, without an effect of the order.
        prior_sd: s.
        told: (m,) whether the judge said so; not of equal texts, which are even whoever judges: they tell nothing of β
            and φ. None: of all.

    Raises:
        ValueError: no candidates, places out of range, a candidate against itself, an outcome outside [0, 1], or a
            prior that is not above 0.
    """
    i, j = np.asarray(i, dtype=np.int64), np.asarray(j, dtype=np.int64)
    y = np.asarray(y, dtype=np.float64)
    y = y[:, None] if y.ndim == 1 and y.size else y.reshape(len(i), -1) if y.size else np.zeros((0, 2))
    _check(n, i, j, y, prior_sd)
    orders = y.shape[1]
    told = np.ones(len(y), dtype=bool) if told is None else np.asarray(told, dtype=bool).reshape(len(y))
    design = np.zeros((len(y), orders, n + 1))  # its last column is β's
    rows = np.arange(len(y))
    design[rows, :, i], design[rows, :, j] = 1.0, -1.0
    design[..., n] = np.outer(told, _sides(orders))
    precision = np.r_[np.full(n, prior_sd**-2), POSITION_SD**-2]
    sure = (np.minimum(y[told], 1 - y[told]) < _SURE).any()
    least = _OF_VOTES if sure else _OF_PROBABILITIES * (prior_sd / PRIOR_SD) ** 2  # a wide prior is no hold either
    free, spent, _ = _fitted(design, y, precision, least)
    residual = y - _sigmoid(design @ free)
    phi = _dispersion(y[told], (y - residual)[told], max(float(told.sum() - spent), 0.0))
    found, spent, inverse = _fitted(design, y, precision, phi)
    p = _sigmoid(design @ found)
    covariance = robust(design, residual / phi, p * (1 - p) / phi, precision, inverse)
    freedom = _PRIOR_FREEDOM + max(float(told.sum() - spent), 0.0)
    return Strengths(found[:n], covariance, float(found[n]), phi, freedom, orders)


def _fitted(design: Floats, y: Floats, precision: Floats, phi: float) -> tuple[Floats, float, Floats]:
    """(n + 1,) the maximum at a given φ, how many strengths the data decide there, and the inverse of −L's Hessian."""
    n = design.shape[-1] - 1
    found = np.zeros(n + 1)
    for _ in range(_STEPS):
        p = _sigmoid(design @ found)
        inverse = np.linalg.inv(_hessian(design, p * (1 - p), precision, phi))
        step = _step(found, inverse, design, y, p, precision, phi)
        if np.abs(step).max() < 1e-6:
            break
        found = found + step
    return found, n - float((np.diag(inverse)[:n] * precision[:n]).sum()), inverse


def student(confidence: float, freedom: float) -> float:
    """The two-sided quantile of Student's t (Abramowitz, Stegun 26.7.5).

    Within 1 % up to a confidence of 0.95, and within 7 % at 0.99, from 2 degrees of freedom on.
    """
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + sum(term / freedom**power for power, term in enumerate(terms, start=1))


def _dispersion(y: Floats, p: Floats, free: float) -> float:
    """φ: Pearson's X² of comparisons, both orders together, by its degrees of freedom.

    ``hard`` is what it would be if both orders were independent: of outcomes y with the mean p, y (1 − y) has the mean
    p (1 − p) − var(y), so 1 − Σ y (1 − y) / Σ p (1 − p) is 1 of votes of 0 and 1 and goes to 0 as a judge's
    probabilities lose their noise. It is the guess that few comparisons are held against; and where (nearly) all
    comparisons are even because a position is followed so strictly, X² sees no variance at all, but votes of 0 and 1
    have that of coins.
    """
    if not len(y):
        return 1.0
    v = p * (1 - p)
    far = 4 * float(v.mean())
    hard = min(max(1 - float((y * (1 - y)).sum()) / max(float(v.sum()), 1e-12), _GUESS * far), 1.0)
    squares = float(((y - p).sum(1) ** 2 / np.maximum(v.sum(1), 1e-12)).sum())
    return max((_PRIOR_FREEDOM * hard + squares) / (_PRIOR_FREEDOM + free), hard**2, _LEAST * far)


def _step(
    found: Floats, inverse: Floats, design: Floats, y: Floats, p: Floats, precision: Floats, phi: float
) -> Floats:
    """Newton's, halved until L does not fall."""
    flat = design.reshape(-1, len(found))
    step = inverse @ ((y - p).reshape(-1) @ flat / phi - precision * found)
    step[:-1] -= step[:-1].mean()  # 0 but for rounding, which a weak prior would blow up
    value = _objective(found, design, y, precision, phi)
    for _ in range(30):
        if _objective(found + step, design, y, precision, phi) >= value - 1e-12 * abs(value):
            return step
        step = step / 2
    return step


def _hessian(design: Floats, v: Floats, precision: Floats, phi: float) -> Floats:
    """Of −L."""
    flat = design.reshape(-1, design.shape[-1])
    return (flat * (v.reshape(-1, 1) / phi)).T @ flat + np.diag(precision)


def _objective(found: Floats, design: Floats, y: Floats, precision: Floats, phi: float) -> float:
    d = design @ found
    fit = -(y * np.logaddexp(0, -d) + (1 - y) * np.logaddexp(0, d)).sum() / phi
    return float(fit - precision @ found**2 / 2)


def _sides(orders: int) -> tuple[float, ...]:
    return (1.0, -1.0) if orders == 2 else (0.0,)


def _sigmoid(x: Floats) -> Floats:
    return np.where(x >= 0, 1 / (1 + np.exp(-np.abs(x))), np.exp(-np.abs(x)) / (1 + np.exp(-np.abs(x))))


def _check(n: int, i: Ints, j: Ints, y: Floats, prior_sd: float) -> None:
    if n < 1:
        raise ValueError(f"expected at least one candidate, got {n}")
    if not i.shape == j.shape == y.shape[:1] or y.ndim != 2 or y.shape[1] not in (1, 2):
        raise ValueError(f"expected vectors of one length, got {i.shape}, {j.shape} and {y.shape}")
    if len(i) and not (min(i.min(), j.min()) >= 0 and max(i.max(), j.max()) < n):
        raise ValueError(f"expected candidates in 0..{n - 1}, got another")
    if (i == j).any():
        raise ValueError("expected two candidates of each comparison, got one against itself")
    if not ((y >= 0) & (y <= 1)).all():
        raise ValueError("expected outcomes in [0, 1], got another")
    if not prior_sd > 0:
        raise ValueError(f"expected a prior's sd above 0, got {prior_sd}")
