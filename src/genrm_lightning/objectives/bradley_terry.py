"""Bradley-Terry: a linear head on the last token's state scores each response of a conversation."""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl
from torch import Tensor

from data_tools.schema import PREFERENCE
from genrm_lightning import losses
from genrm_lightning.backbone import BackboneSettings
from genrm_lightning.metrics import PairwiseAccuracy
from genrm_lightning.objectives.base import Objective, OptimizerSettings, check_smoothing, check_weights
from genrm_lightning.objectives.held_out import CALIBRATION
from genrm_lightning.policy import Output
from genrm_lightning.prefix import Branch, PrefixBatch, Tree
from genrm_lightning.rendering import Renderer


class BradleyTerry(Objective):
    """−log σ(r(x, y_w) − r(x, y_l)), arXiv 2410.12832 section 2.

    The conversation is the prefix, the two responses are its branches: preferred first.

    Args:
        label_smoothing: probability that a label is flipped.
        center: weight of (r_w + r_l)², which keeps rewards around 0 (arXiv 2312.09244).
        use_margin: ask that the difference be larger by the row's ``margin``, as Llama 2 does; null there counts as 0.

    Raises:
        UserError: a number out of its range; names the key.
    """

    table = PREFERENCE
    scores = 1
    held_out = CALIBRATION

    def __init__(
        self,
        backbone: BackboneSettings | None = None,
        optimizer: OptimizerSettings | None = None,
        label_smoothing: float = 0.0,
        center: float = 0.0,
        use_margin: bool = False,
    ) -> None:
        super().__init__(backbone, optimizer)
        check_smoothing(label_smoothing)
        check_weights(center=center)
        self.label_smoothing = label_smoothing
        self.center = center
        self.use_margin = use_margin

    def metrics(self):
        return {"accuracy": PairwiseAccuracy()}

    def trees(self, rows: pl.DataFrame, renderer: Renderer) -> Iterator[Tree]:
        for row in rows.iter_rows(named=True):
            responses = (renderer.response(row[side]) for side in ("chosen", "rejected"))
            branches = [Branch.scored(ids) for ids in responses]
            extras = {"margin": [row["margin"] or 0.0]} if self.use_margin else {}
            yield Tree(row["pair_id"], renderer.prompt(row["prompt"]), branches, extras=extras)

    def loss(self, batch: PrefixBatch, output: Output) -> tuple[Tensor, dict[str, Tensor]]:
        chosen, rejected = output.rewards.view(-1, 2).unbind(1)  # (R,)
        values = losses.bradley_terry(chosen, rejected, batch.extras.get("margin"), self.label_smoothing)
        values = values + self.center * (chosen + rejected) ** 2
        margin = (chosen - rejected).detach()
        return values.mean(), {
            "accuracy": margin,
            "margin": margin,
            "chosen_reward": chosen.detach(),
            "rejected_reward": rejected.detach(),
        }
