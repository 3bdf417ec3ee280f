"""What a judge did on a set, as arrays over pairs and orders: what the numbers of an evaluation are read from."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import polars as pl
from numpy.typing import NDArray

from genrm_lightning.evaluation.scores import clusters, presentations

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Outcomes:
    """n judged pairs in the order of their ids. Axis 1 of the (n, 2) arrays: swapped False, True.

    Attributes:
        pair_ids: (n,) of strings.
        cluster: (n,) which pairs belong together, by number from 0 (:func:`~.scores.clusters`).
        right_is_a: (n, 2) whether the preferred response stands as A: once a pair.
        p_a: (n, 2) the mean over samples.
        right: (n, 2) whether p_a chooses the right response; at exactly 0.5 it chooses none.
        free: (n, 2) share of the samples whose own text is right.
    """

    pair_ids: NDArray[np.object_]
    cluster: NDArray[np.int64]
    right_is_a: Bools
    p_a: Floats
    right: Bools
    free: Floats

    def __len__(self) -> int:
        return len(self.cluster)

    @property
    def tie(self) -> Bools:
        """(n, 2) whether p_a is exactly 0.5."""
        return self.p_a == 0.5

    @property
    def p_right(self) -> Floats:
        """(n, 2) the probability of the right letter."""
        return np.where(self.right_is_a, self.p_a, 1 - self.p_a)

    @property
    def chooses_a(self) -> Floats:
        """(n, 2) 1 where A is chosen, 0 where B is, 0.5 at a tie."""
        return (self.p_a > 0.5) + 0.5 * self.tie

    @property
    def accuracy(self) -> Floats:
        """(n,) share of the orders that are right."""
        return self.right.mean(1)

    @property
    def free_accuracy(self) -> Floats:
        """(n,) share of samples whose own text is right, over the orders."""
        return self.free.mean(1)

    @property
    def consistent(self) -> Bools:
        """(n,) whether both orders choose the same response; one that chooses none agrees with nothing."""
        return (self.right[:, 0] == self.right[:, 1]) & ~self.tie.any(1)

    def take(self, rows: NDArray[np.int64] | Bools) -> Outcomes:
        """The named pairs, their clusters numbered anew from 0."""
        part = {field.name: getattr(self, field.name)[rows] for field in fields(self)}
        part["cluster"] = np.unique(part["cluster"], return_inverse=True)[1]
        return Outcomes(**part)


def outcomes(judgments: pl.DataFrame, preferences: pl.DataFrame) -> Outcomes:
    """The arrays of one judge on one set.

    Args:
        judgments: JUDGMENT rows of one judge: both orders of every pair.
        preferences: PREFERENCE rows that hold all judged pairs, perhaps others.

    Raises:
        ValueError: a judged pair is not among the preferences, or as in :func:`~.scores.set_scores`.
    """
    shown = presentations(judgments)
    ids = shown["pair_id"].gather_every(2)
    known = ids.to_frame().join(clusters(preferences), on="pair_id", how="left", maintain_order="left")
    if lacking := known["cluster"].null_count():
        example = known.filter(pl.col("cluster").is_null())["pair_id"][0]
        raise ValueError(f"{lacking} judged pairs are not among the given pairs, such as '{example}'")
    if known.height != len(ids):
        raise ValueError(f"expected each pair once in the preferences, got {known.height - len(ids)} repeated rows")
    arrays = {name: shown[name].to_numpy().reshape(-1, 2) for name in ("right_is_a", "p_a", "right", "free")}
    # Numbered in the order of the ids, so that draws do not depend on the order of the rows.
    numbers = known["cluster"].rank("dense").to_numpy().astype(np.int64) - 1
    return Outcomes(ids.to_numpy(), numbers, **arrays)
