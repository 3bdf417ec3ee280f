"""The covariance of strengths when comparisons vary otherwise than a model says: the sandwich, by comparison."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
_MOST_LEVERAGE = 0.95  # of a comparison: one that alone decides a strength leaves no residual to tell by


def centred(covariance: Floats) -> Floats:
    """(n, n) of each less the mean of all."""
    n = len(covariance)
    centre = np.eye(n) - 1 / n
    return centre @ covariance @ centre


def robust(design: Floats, residual: Floats, weight: Floats, precision: Floats, inverse: Floats) -> Floats:
    """(n, n) covariance of n strengths less their mean.

    H⁻¹ (Σ_c g_c g_cᵀ + Λ) H⁻¹ with g_c the score of a comparison, both orders together, over 1 − its leverage:
    clustered (Liang, Zeger 1986, Biometrika 73), with the jackknife's correction for few of them (HC3; MacKinnon,
    White 1985, J. Econometrics 29; CR3 of Bell, McCaffrey 2002). Λ is the prior's precision. Where residuals are
    smaller by chance than the dispersion says, the model's own H⁻¹ stands: rows and columns are scaled up to the
    sandwich's variances, never down.

    Args:
        design: (m, orders, n + 1), the last column that of the position.
        residual, weight: (m, orders) y − p and p (1 − p), over the dispersion.
        precision: (n + 1,) of the prior.
        inverse: (n + 1, n + 1) H⁻¹.
    """
    n = len(inverse) - 1
    # Both orders of a comparison have one row but for the position, which hardly bears on it.
    shared = design[:, 0, :n]
    leverage = np.einsum("cn,nk,ck->c", shared, inverse[:n, :n], shared) * weight.sum(1)
    scores = np.einsum("cok,co->ck", design, residual) / (1 - np.minimum(leverage, _MOST_LEVERAGE))[:, None]
    meat = scores.T @ scores + np.diag(precision)
    told, model = centred((inverse @ meat @ inverse)[:n, :n]), centred(inverse[:n, :n])
    ratio = np.diag(told) / np.maximum(np.diag(model), 1e-300)
    scale = np.sqrt(np.maximum(ratio, 1.0))
    return model * np.outer(scale, scale)
