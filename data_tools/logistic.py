"""Logistic regression on sparse rows, in polars alone: products are differences of a running sum."""

from __future__ import annotations

from collections import deque

import polars as pl

MEMORY = 8  # pairs of steps and gradient differences that L-BFGS keeps
STEPS = 60  # at most
TOLERANCE = 1e-3  # of the largest entry of the mean loss's gradient: more changes no verdict to speak of


class Sparse:
    """A matrix that is mostly zeros, kept by rows and by columns.

    Args:
        entries: ``row``, ``column`` (from 0) and ``value``, in any order; no place twice.
        shape: rows and columns.

    >>> matrix = Sparse(pl.DataFrame({"row": [0, 1], "column": [1, 0], "value": [2.0, 3.0]}), (2, 2))
    >>> matrix.times(pl.Series([1.0, 10.0])).to_list()
    [20.0, 3.0]
    >>> matrix.transposed_times(pl.Series([1.0, 10.0])).to_list()
    [30.0, 2.0]
    """

    def __init__(self, entries: pl.DataFrame, shape: tuple[int, int]) -> None:
        self.shape = shape
        self._rows = _Sums(entries, "row", "column", shape[0])
        self._columns = _Sums(entries, "column", "row", shape[1])

    def times(self, weights: pl.Series) -> pl.Series:
        """(rows,) of a vector (columns,)."""
        return self._rows.of(weights)

    def transposed_times(self, values: pl.Series) -> pl.Series:
        """(columns,) of a vector (rows,)."""
        return self._columns.of(values)


class _Sums:
    def __init__(self, entries: pl.DataFrame, along: str, other: str, size: int) -> None:
        ordered = entries.select(along, other, pl.col("value").cast(pl.Float64)).sort(along, other)
        self.index, self.value = ordered[other], ordered["value"]
        every = pl.DataFrame({along: pl.int_range(size, dtype=ordered.schema[along], eager=True)})
        counts = every.join(ordered.group_by(along).len(), on=along, how="left", maintain_order="left")["len"]
        self.ends = counts.fill_null(0).cast(pl.UInt32).cum_sum()
        self.starts = self.ends.shift(1, fill_value=0)

    def of(self, vector: pl.Series) -> pl.Series:
        running = pl.concat([pl.Series([0.0]), (vector.gather(self.index) * self.value).cum_sum()])
        return running.gather(self.ends) - running.gather(self.starts)


def fit(matrix: Sparse, signs: pl.Series, used: pl.Series, penalty: float) -> pl.Series:
    """(columns,) the weights w that minimise ``sum_i log(1 + exp(-y_i x_i·w)) + penalty/2 |w|²`` over rows in use.

    By L-BFGS. There is no intercept: give a column of ones where one is wanted. Without one, and with x the difference
    of two responses, swapping the two turns the answer, whatever was seen in training.

    Args:
        signs: (rows,) y, 1 or -1.
        used: (rows,) whether a row is fitted to; the others cost their products and no copy of the matrix.
        penalty: above 0.
    """
    mask = used.cast(pl.Float64)
    n = max(float(mask.sum()), 1.0)

    def loss(weights: pl.Series) -> tuple[float, pl.Series]:
        """Over n, so that a tolerance means the same for every size."""
        margins = signs * matrix.times(weights)
        # log(1 + exp(-z)) without overflow.
        costs = (-margins).clip(0.0) + (-margins.abs()).exp().log1p()
        pull = mask * signs / (1 + margins.clip(-500.0, 500.0).exp())
        gradient = weights * (penalty / n) - matrix.transposed_times(pull) / n
        return float((mask * costs).sum()) / n + penalty / n / 2 * _dot(weights, weights), gradient

    weights = pl.zeros(matrix.shape[1], dtype=pl.Float64, eager=True)
    value, gradient = loss(weights)
    past: deque[tuple[pl.Series, pl.Series, float]] = deque(maxlen=MEMORY)
    for _ in range(STEPS):
        if (gradient.abs().max() or 0.0) < TOLERANCE:
            break
        direction = _direction(gradient, past)
        slope, size = _dot(direction, gradient), 1.0
        while True:  # halved until the loss falls by a fair part of what the slope promises (Armijo)
            moved = weights + direction * size
            new_value, new_gradient = loss(moved)
            if new_value <= value + 1e-4 * size * slope or size < 1e-6:
                break
            size /= 2
        if new_value >= value:
            break
        step, change = moved - weights, new_gradient - gradient
        curvature = _dot(step, change)
        if curvature > 0:
            past.append((step, change, curvature))
        weights, value, gradient = moved, new_value, new_gradient
    return weights


def _direction(gradient: pl.Series, past: deque[tuple[pl.Series, pl.Series, float]]) -> pl.Series:
    """Downhill, bent by what is known of the curvature: the two loops of J. Nocedal (1980)."""
    direction, factors = -gradient, []
    for step, change, curvature in reversed(past):
        factor = _dot(step, direction) / curvature
        factors.append(factor)
        direction = direction - change * factor
    if past:
        _, change, curvature = past[-1]
        direction = direction * (curvature / _dot(change, change))
    else:
        direction = direction / max(1.0, _dot(gradient, gradient) ** 0.5)
    for (step, change, curvature), factor in zip(past, reversed(factors), strict=True):
        direction = direction + step * (factor - _dot(change, direction) / curvature)
    return direction


def _dot(one: pl.Series, other: pl.Series) -> float:
    return float((one * other).sum())
