"""The covariance of strengths when comparisons vary otherwise than a model says: the sandwich, by comparison."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def centred(covariance: Floats) -> Floats:
    """(n, n) of each less the mean of all."""
    n = len(covariance)
    centre = np.eye(n) - 1 / n
    return centre @ covariance @ centre


def robust(design: Floats, residual: Floats, weight: Floats, precision: Floats, inverse: Floats) -> Floats:
    """(n, n) covariance of n strengths less their mean.

    H⁻¹ (Σ_c g_c g_cᵀ + Λ) H⁻¹ with g_c = X_cᵀ (I − V_c X_c H⁻¹ X_cᵀ)⁻¹ r_c the score of a comparison, both orders
    together, as it is where the comparison is left out: clustered (Liang, Zeger 1986, Biometrika 73), with the
    jackknife's correction for few of them (HC3; MacKinnon, White 1985, J. Econometrics 29; CR3 of Bell, McCaffrey
    2002). Λ is the prior's precision. Where residuals are smaller by chance than the dispersion says, the model's own
    H⁻¹ stands: rows and columns are scaled up to the sandwich's variances, never down, and never above what the prior
    alone leaves open.

    Args:
        design: (m, orders, n + 1), the last column that of the position.
        residual, weight: (m, orders) y − p and p (1 − p), over the dispersion; p of the residuals from a fit that the
            prior does not hold: its pull is in Λ already.
        precision: (n + 1,) of the prior.
        inverse: (n + 1, n + 1) H⁻¹.
    """
    n = len(inverse) - 1
    model = centred(inverse[:n, :n])
    if not len(design):
        return model
    leverage = weight[..., None] * (design @ inverse @ design.transpose(0, 2, 1))  # below 1: H holds the prior
    left_out = np.linalg.solve(np.eye(design.shape[1]) - leverage, residual[..., None])[..., 0]
    scores = np.einsum("cok,co->ck", design, left_out)
    told = centred((inverse @ (scores.T @ scores + np.diag(precision)) @ inverse)[:n, :n])
    most = np.diag(centred(np.diag(1 / precision[:n])))
    least = np.maximum(np.diag(model), 1e-300)
    scale = np.sqrt(np.clip(np.diag(told), least, np.maximum(most, least)) / least)
    return model * np.outer(scale, scale)
