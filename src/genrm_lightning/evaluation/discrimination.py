"""How well p(A) orders presentations by whether A is the better response: AUROC, precision and recall.

The event is "the response shown as A is the better one", the score p_a; of a judge that scores responses the reward of
A less that of B, for p_a is a float32 and 1 from a difference of 17 on. Each response stands once as A, so half of the
presentations are events, and both numbers are defined for every set. A bias to one letter moves all scores alike and
costs accuracy, but no AUROC: what lies between the two is bias.

Sources: T. Fawcett, "An introduction to ROC analysis", Pattern Recognition Letters 27 (2006); J. Davis, M. Goadrich,
"The relationship between precision-recall and ROC curves" (2006).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from genrm_lightning.evaluation.bootstrap import Draws, Floats
from genrm_lightning.evaluation.outcomes import Outcomes

N_POINTS = 50


def auroc(own: Outcomes, draws: Draws | None = None, toward_a: Floats | None = None) -> Floats:
    """(1 + n_draws,) the probability that an event has a higher score than another presentation, ties half.

    The first is that of the set, the others those of the draws (none: it stands alone).

    Args:
        toward_a: (n, 2) the scores; None: p_a.
    """
    scores = own.p_a if toward_a is None else toward_a
    levels = np.unique(scores, return_inverse=True)[1].reshape(scores.shape)
    event, other = levels[own.right_is_a], levels[~own.right_is_a]  # a pair has one of each: (n,), in its place
    n_levels = int(levels.max()) + 1

    def area(weights: Floats | None) -> float:
        above, below = np.bincount(event, weights, n_levels), np.bincount(other, weights, n_levels)
        return float(above @ (below.cumsum() - below / 2) / (above.sum() * below.sum()))

    return np.array([area(None), *(area(weights) for weights in (draws.weights() if draws else ()))])


def precision_recall(own: Outcomes, toward_a: Floats | None = None) -> dict[str, list[float]]:
    """The curve from the highest threshold to the lowest, at most ``N_POINTS`` of its points, the two ends among them.

    There is a point for each distinct score: at or above it a presentation is called an event. Where there are more
    than ``N_POINTS``, those nearest to even steps of recall are kept.

    Args:
        toward_a: (n, 2) the scores; None: p_a.
    """
    scores = (own.p_a if toward_a is None else toward_a).ravel()
    order = np.argsort(-scores, kind="stable")
    scores, events = scores[order], own.right_is_a.ravel()[order]
    last: NDArray[np.int64] = np.append(np.flatnonzero(np.diff(scores)), len(scores) - 1)  # of each distinct score
    found = events.cumsum()[last]
    recall, precision = found / found[-1], found / (last + 1)
    if len(last) > N_POINTS:
        steps = np.linspace(recall[0], 1.0, N_POINTS)
        kept = np.unique(np.clip(np.searchsorted(recall, steps), 0, len(recall) - 1))
        kept[-1] = len(recall) - 1
        recall, precision = recall[kept], precision[kept]
    return {"precision": precision.tolist(), "recall": recall.tolist()}
