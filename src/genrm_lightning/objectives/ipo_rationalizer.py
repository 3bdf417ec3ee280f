"""STaR-IPO Rationalizer: what a judge writes when told the right answer against what it writes when told the wrong."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import polars as pl

from genrm_lightning.backbone import BackboneSettings
from genrm_lightning.objectives.base import OptimizerSettings
from genrm_lightning.objectives.dpo import RationaleDPO
from genrm_lightning.objectives.rationalizer import refuse_hints
from genrm_lightning.prefix import Tree
from genrm_lightning.rendering import Renderer


class IPORationalizer(RationaleDPO):
    """IPO (arXiv 2310.12036 eq. 17) on hinted samples: a row of arXiv 2410.12832's table of hyperparameters, β 0.4.

    The paper gives the row and no more; what a couple is, is chosen here. Chosen is a judgment drawn with the right
    answer told that votes for it, rejected one drawn with the wrong answer told that votes for that, neither speaking
    of being told; both stand behind the prompt without a hint, and one that holds a hint is refused. Both sides thus
    come from the same kind of prompt, and differ in what they argue for rather than in how an informed judge and an
    uninformed one write.

    β sets how far apart IPO draws the two: Δ log π/π_ref = 1/(2β), 1.25 nats at 0.4, over whole judgments as in eq. 17;
    TRL's is a token (tests/test_trl.py). The loss starts at (1/(2β))².

    Args:
        beta: β.
        reference, nll_weight, choice_weight, direct_weight, collapse_alarm: as in
            :class:`~genrm_lightning.objectives.RationaleDPO`.
    """

    def __init__(
        self,
        backbone: BackboneSettings | None = None,
        optimizer: OptimizerSettings | None = None,
        judge_prompt: str = "mt_bench",
        beta: float = 0.4,
        reference: Literal["auto", "stored", "live"] = "auto",
        nll_weight: float = 0.0,
        choice_weight: float = 0.0,
        direct_weight: float = 0.0,
        collapse_alarm: float | None = 0.5,
    ) -> None:
        super().__init__(
            backbone, optimizer, judge_prompt, beta, "ipo", 0.0, reference, nll_weight, choice_weight, direct_weight,
            collapse_alarm,
        )  # fmt: skip

    def trees(self, rows: pl.DataFrame, renderer: Renderer) -> Iterator[Tree]:
        refuse_hints(rows, self.judge_prompt)
        yield from super().trees(rows, renderer)
