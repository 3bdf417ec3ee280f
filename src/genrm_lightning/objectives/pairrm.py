"""PairRM: a cross-encoder that reads both responses of a conversation at once, and scores each."""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl
from torch import Tensor

from data_tools.judging import render_pair
from data_tools.schema import PREFERENCE
from genrm_lightning import losses
from genrm_lightning.backbone import BackboneSettings
from genrm_lightning.metrics import PairwiseAccuracy, consistent, leaning
from genrm_lightning.objectives.base import Objective, OptimizerSettings, check_smoothing
from genrm_lightning.objectives.held_out import CALIBRATION
from genrm_lightning.policy import Output
from genrm_lightning.prefix import Branch, PrefixBatch, Tree
from genrm_lightning.rendering import Renderer


class PairRM(Objective):
    """−log σ(s_w − s_l) over (x, y1, y2) in one forward: the baseline of arXiv 2410.12832, PairRM of arXiv 2306.02561.

    There (section 3) an encoder reads x, y1 and y2 together and a head gives each candidate a score, s¹ and s². The
    paper writes a binary cross-entropy for each score; the released PairRM takes it over their difference, as here:
    −log σ(s¹ − s²) where y1 is preferred. Its training draws one order a pair at random; here every pair is read in
    both, and the loss is the mean of theirs: position says nothing of the label. As in its inference, a response's
    score is the mean over both orders, and the verdict the sign of their difference.

    On a causal backbone the conversation is the prefix. Its branches are the two orders, (y_w, y_l) and (y_l, y_w),
    each in the frame of ``data_tools.judging.render_pair`` as an assistant's turn; the head on a branch's last state
    gives the scores of the response shown first and of the one shown second.

    Args:
        label_smoothing: probability that a label is flipped.

    Raises:
        UserError: a number out of its range; names the key.
    """

    table = PREFERENCE
    scores = 2
    held_out = CALIBRATION

    def __init__(
        self,
        backbone: BackboneSettings | None = None,
        optimizer: OptimizerSettings | None = None,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(backbone, optimizer)
        check_smoothing(label_smoothing)
        self.label_smoothing = label_smoothing

    def metrics(self):
        return {"accuracy": PairwiseAccuracy()}

    def trees(self, rows: pl.DataFrame, renderer: Renderer) -> Iterator[Tree]:
        for row in rows.iter_rows(named=True):
            pair = row["chosen"], row["rejected"]
            branches = [Branch.scored(renderer.response(render_pair(*order))) for order in (pair, pair[::-1])]
            yield Tree(row["pair_id"], renderer.prompt(row["prompt"]), branches)

    def loss(self, batch: PrefixBatch, output: Output) -> tuple[Tensor, dict[str, Tensor]]:
        scores = output.rewards.view(-1, 2, 2)  # row, order, position
        chosen, rejected = scores.diagonal(dim1=1, dim2=2), scores.flip(2).diagonal(dim1=1, dim2=2)  # (R, orders)
        values = losses.bradley_terry(chosen, rejected, label_smoothing=self.label_smoothing).mean(1)
        margins = (chosen - rejected).detach()
        return values.mean(), {
            "accuracy": margins.mean(1),
            "margin": margins.mean(1),
            "margin_chosen_first": margins[:, 0],
            "margin_rejected_first": margins[:, 1],
            "position_consistency": consistent(margins),
            "position_bias": leaning(margins),
            "chosen_reward": chosen.detach().mean(1),
            "rejected_reward": rejected.detach().mean(1),
        }
