"""The alarm for DPO's best-known failure: right and wrong judgments both become unlikely (arXiv 2402.13228)."""

from __future__ import annotations

import sys
from collections import deque

from torch import Tensor

_STEPS = 10  # optimizer steps that the running means are over


class CollapseAlarm:
    """Says once, in one line, that chosen and rejected judgments have both fallen far below the reference.

    Args:
        threshold: nats a token under the reference, above 0; both running means must be further below.
    """

    def __init__(self, threshold: float) -> None:
        self.threshold = threshold
        self.said = False
        self._steps: deque[tuple[int, list[float], list[float]]] = deque(maxlen=_STEPS)

    def __call__(self, step: int, chosen: Tensor, rejected: Tensor, aloud: bool = True) -> bool:
        """Take a batch's log-ratios; whether both means are below the threshold. Not before ten steps were seen.

        Args:
            step: the optimizer step that the batch belongs to; its microbatches come one after the other.
            chosen, rejected: (R,) log π/π_ref of the judgments, nats a token; NaN where a row has no couple.
            aloud: False for all processes but one.
        """
        coupled = ~rejected.isnan()
        if coupled.any():
            if not self._steps or self._steps[-1][0] != step:
                self._steps.append((step, [], []))
            for seen, values in zip(self._steps[-1][1:], (chosen, rejected), strict=True):
                seen += values[coupled].tolist()
        if len(self._steps) < _STEPS:
            return False
        means = []
        for side in (1, 2):
            values = [value for entry in self._steps for value in entry[side]]
            means.append(sum(values) / len(values))
        collapsed = max(means) < -self.threshold
        if collapsed and not self.said:
            self.said = True
            if aloud:
                self._say(step, *means)
        return collapsed

    @staticmethod
    def _say(step: int, chosen: float, rejected: float) -> None:
        print(
            f"warning: step {step}: chosen and rejected judgments have both collapsed, to {chosen:.2f} and "
            f"{rejected:.2f} nats a token against the reference; raise nll_weight or beta, or lower "
            "optimizer.learning_rate",
            file=sys.stderr,
        )
