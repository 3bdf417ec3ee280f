"""What a validation pass says of a judge: rows collected batch by batch, and the numbers and curves made of them.

Pure functions of numpy arrays. p is the probability that a judge gives to the better response of a pair, σ(margin); a
*presentation* is a pair as it was shown: which of the two stood as A.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from genrm_lightning.evaluation.intervals import effective_n, wilson
from genrm_lightning.prefix import PrefixBatch

Numbers = NDArray[np.float64]
Flags = NDArray[np.bool_]

BINS = 10  # of a reliability diagram, over confidences in [0.5, 1]
OTHERS = "(others)"
_MOST = 10  # categories with a curve of their own
# Values of a loss whose distribution says more than their mean.
SPREAD = ("reward_margin", "chosen_reward", "rejected_reward", "chosen_logp_per_token", "rejected_logp_per_token")


@dataclass
class ValidationRows:
    """The rows of a validation pass, one an example.

    Attributes:
        pairs: pair ids.
        margins: log-odds of the better response; > 0: the row is judged rightly.
        shown: of each presentation, (index of its row, whether the better response stood as A, its margin).
        spread: values named in SPREAD, where the loss has them, without NaN.
    """

    pairs: list[str] = field(default_factory=list)
    margins: Numbers = field(default_factory=lambda: np.zeros(0))
    shown: tuple[NDArray[np.int64], Flags, Numbers] = field(
        default_factory=lambda: (np.zeros(0, np.int64), np.zeros(0, bool), np.zeros(0))
    )
    spread: dict[str, Numbers] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.pairs)

    @property
    def right(self) -> tuple[Flags, Numbers]:
        """Of each presentation: whether A is the better response, and the probability that the judge gives to A."""
        _, better_is_a, margins = self.shown
        p = sigmoid(margins)
        return better_is_a, np.where(better_is_a, p, 1 - p)


class Collector:
    """Keeps what validation batches say, on their device, until the pass is over."""

    def __init__(self, scores: int) -> None:
        """Args: scores: outputs of the objective's reward head (0: letters, 1: a response alone, 2: both at once)."""
        self.scores = scores
        self.pairs: list[str] = []
        self.values: dict[str, list[Tensor]] = {}

    def add(self, batch: PrefixBatch, values: Mapping[str, Tensor]) -> None:
        """Args: values: what the objective's loss said of the batch, ``accuracy`` (the margin) among it."""
        if "accuracy" not in values:  # a batch that only filled up, or a loss that was no number
            return
        self.pairs += batch.pair_ids
        wanted = ("accuracy", "margin_chosen_first", "margin_rejected_first", *SPREAD)
        for name in wanted:
            if name in values:
                self.values.setdefault(name, []).append(values[name].detach())
        self.values.setdefault("right", []).append(batch.right)

    def taken(self) -> ValidationRows:
        """The rows so far; nothing is kept of them here."""
        pairs, self.pairs = self.pairs, []
        found = {name: torch.cat(parts).float().cpu().numpy().astype(np.float64) for name, parts in self.values.items()}
        self.values = {}
        if not pairs:
            return ValidationRows()
        index, margins = np.arange(len(pairs)), found["accuracy"]
        if self.scores == 0:
            shown = index, found["right"] == 0, margins
        else:
            both = (margins, margins) if self.scores == 1 else _orders(found)
            shown = np.tile(index, 2), np.repeat([True, False], len(pairs)), np.concatenate(both)
        spread = {name: found[name][np.isfinite(found[name])] for name in SPREAD if name in found}
        return ValidationRows(pairs, margins, shown, spread)


def _orders(found: Mapping[str, Numbers]) -> tuple[Numbers, Numbers]:
    return found["margin_chosen_first"], found["margin_rejected_first"]


def together(parts: Iterable[ValidationRows]) -> ValidationRows:
    """The rows of several processes as those of one; any may have none."""
    parts = [part for part in parts if len(part)]
    if not parts:
        return ValidationRows()
    starts = np.cumsum([0, *(len(part) for part in parts)])
    index = [part.shown[0] + start for part, start in zip(parts, starts, strict=False)]
    return ValidationRows(
        [pair for part in parts for pair in part.pairs],
        np.concatenate([part.margins for part in parts]),
        (np.concatenate(index), *(np.concatenate([part.shown[i] for part in parts]) for i in (1, 2))),
        {name: np.concatenate([part.spread[name] for part in parts]) for name in parts[0].spread},
    )


def numbers(rows: ValidationRows) -> dict[str, float]:
    """Scalars of a pass by name, beside those that the objective's metrics log; what is undefined is left out.

    ``accuracy`` with ``_low`` and ``_high``: :func:`accuracy`; ``average_precision``: of :func:`precision_recall`.
    """
    better_is_a, p_a = rows.right
    if not len(p_a):
        return {}
    found = dict(zip(("accuracy", "accuracy_low", "accuracy_high"), accuracy(rows), strict=True))
    if 0 < better_is_a.sum() < len(better_is_a):
        found["average_precision"] = average_precision(*precision_recall(better_is_a, p_a))
    return found


def accuracy(rows: ValidationRows, wanted: NDArray[np.int64] | None = None) -> tuple[float, float, float]:
    """(share of the rows judged rightly, low, high): a 95 % interval that counts the rows of one pair together.

    Args:
        wanted: indices of rows; None takes all.
    """
    wanted = np.arange(len(rows)) if wanted is None else wanted
    hits = (rows.margins[wanted] > 0).astype(np.float64)
    share = float(hits.mean())
    return share, *wilson(share, effective_n(hits, [rows.pairs[i] for i in wanted], per_pair=1))


def by_category(rows: ValidationRows, categories: Mapping[str, str]) -> dict[str, tuple[float, float, float, int]]:
    """{category: (accuracy, low, high, pairs)}, as :func:`accuracy` counts.

    The categories with the most pairs stand alone; the others are put together, and pairs without one are left out.

    Args:
        categories: by pair id.
    """
    members: dict[str, list[int]] = {}
    for index, pair in enumerate(rows.pairs):
        if pair in categories:
            members.setdefault(categories[pair], []).append(index)
    sizes = {name: len({rows.pairs[i] for i in own}) for name, own in members.items()}
    # A category of that name is one of the others: it has no curve beside theirs.
    named = sorted(members.keys() - {OTHERS}, key=lambda name: (-sizes[name], name))
    shown = {name: members[name] for name in (named if len(members) <= _MOST else named[: _MOST - 1])}
    others = [i for name, own in members.items() if name not in shown for i in own]
    if others:
        shown[OTHERS] = others
    return {
        name: (*accuracy(rows, np.array(own)), len({rows.pairs[i] for i in own})) for name, own in sorted(shown.items())
    }


def sigmoid(margins: Numbers) -> Numbers:
    """σ without overflow, float64."""
    e = np.exp(-np.abs(margins))
    return np.where(margins >= 0, 1 / (1 + e), e / (1 + e))


def reliability(rows: ValidationRows) -> list[tuple[float, float, int, float]]:
    """Of each bin of confidence that has any presentation: (mean confidence, share right, how many, effective number).

    BINS bins in [0.5, 1]. A tie is half right, as in ``val/ece``. The effective number is for an interval: the
    presentations of one pair count together (of a judge that scores a response alone, both are one).
    """
    index, _, margins = rows.shown
    p = sigmoid(margins)
    confidence, right = np.maximum(p, 1 - p), (p > 0.5) + 0.5 * (p == 0.5)
    place = np.clip(((confidence - 0.5) * 2 * BINS).astype(int), 0, BINS - 1)
    return [
        (
            float(confidence[own].mean()), float(right[own].mean()), len(own),
            effective_n(right[own], [rows.pairs[i] for i in index[own]], per_pair=1),
        )
        for own in (np.flatnonzero(place == i) for i in range(BINS))
        if len(own)
    ]  # fmt: skip


def precision_recall(labels: Flags, scores: Numbers) -> tuple[Numbers, Numbers]:
    """(precision, recall) at every distinct score as threshold, from the highest down; ends at recall 1.

    Args:
        labels: (N,) whether a row is positive; some are.
        scores: (N,).
    """
    order = np.argsort(-scores, kind="stable")
    hits = np.cumsum(labels[order])
    last = np.append(np.diff(scores[order]) != 0, True)  # of equal scores, the last one's counts hold for all
    hits, taken = hits[last], (np.arange(len(scores)) + 1)[last]
    return hits / taken, hits / hits[-1]


def average_precision(precision: Numbers, recall: Numbers) -> float:
    """Σ (R_n − R_{n−1}) P_n, without interpolation."""
    return float((np.diff(recall, prepend=0.0) * precision).sum())
