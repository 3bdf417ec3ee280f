"""GenRM: the judge as a language model, trained on the verdict alone or on rationale and verdict."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import polars as pl
from torch import Tensor

from data_tools.judging import Verdict, render_prompt
from data_tools.order import responses
from data_tools.schema import EXAMPLE, PREFERENCE
from genrm_lightning import losses
from genrm_lightning.backbone import BackboneSettings, Output
from genrm_lightning.metrics import PreferenceAccuracy
from genrm_lightning.objectives.base import Objective, OptimizerSettings
from genrm_lightning.prefix import TOKENS, PrefixBatch, Role, Tree
from genrm_lightning.rendering import Renderer


def right_and_wrong(batch: PrefixBatch, logps: Tensor) -> tuple[Tensor, Tensor]:
    """Log-probabilities of the right and the wrong letter at each branch's verdict: two (R, branches a row) tensors.

    Every row has the same number of branches, each with a verdict (under DPO the first is the chosen one).
    """
    logp_a, logp_b = (logp.view(len(batch.right), -1) for logp in batch.letters(logps))
    is_a = (batch.right == 0)[:, None]
    return logp_a.where(is_a, logp_b), logp_b.where(is_a, logp_a)


class GenRM(Objective):
    """Direct GenRM, −log π(I | x, y1, y2), arXiv 2410.12832 eq. 7: a verdict without a rationale.

    Every pair is shown in both orders. The loss is that of the letter; ``format_weight`` adds the mean loss of the
    tokens around it, so that the judge also writes the verdict on its own.

    Args:
        label_smoothing: share of the target that goes to the other letter.
        format_weight: weight of the frame's tokens, averaged.
        opens: train the frame's first token too, so that the judge gives its verdict at once. False leaves it free to
            write a rationale first: for a warm start of STaR.
    """

    table = PREFERENCE

    def __init__(
        self,
        backbone: BackboneSettings | None = None,
        optimizer: OptimizerSettings | None = None,
        judge_prompt: str = "mt_bench",
        label_smoothing: float = 0.0,
        format_weight: float = 0.1,
        opens: bool = True,
    ) -> None:
        super().__init__(backbone, optimizer, judge_prompt)
        self.label_smoothing = label_smoothing
        self.format_weight = format_weight
        self.opens = opens

    def metrics(self):
        return {"accuracy": PreferenceAccuracy()}

    def trees(self, rows: pl.DataFrame, renderer: Renderer) -> Iterator[Tree]:
        for row in rows.iter_rows(named=True):
            for swapped in (False, True):
                a, b, right = responses(row["pair_id"], swapped, row["chosen"], row["rejected"])
                messages = render_prompt(row["prompt"], a, b, self.judge_prompt)
                branch = renderer.completion("", Verdict(right))
                if not self.opens:
                    branch = replace(branch, roles=[None, *branch.roles[1:]])
                yield Tree(row["pair_id"], renderer.prompt(messages), [branch], right=int(right == "B"))

    def loss(self, batch: PrefixBatch, output: Output) -> tuple[Tensor, dict[str, Tensor]]:
        right, wrong = (logp.squeeze(1) for logp in right_and_wrong(batch, output.logps))
        letter = losses.verdict_nll(right, wrong, self.label_smoothing)
        around = batch.by_branch(output.logps) - right  # every token of the branch but its letter
        framing = losses.mean_nll(around, batch.counts() - 1)
        values = {"verdict_nll": letter.detach(), "accuracy": (right - wrong).detach()}
        return (letter + self.format_weight * framing).mean(), values


class STaRSFT(Objective):
    """STaR-SFT, −log π(r, I | x, y1, y2), arXiv 2410.12832 eq. 8, on the model's own samples with the right verdict.

    A completion's loss is the mean over its tokens, rationale and verdict weighted apart.

    Args:
        rationale_weight, verdict_weight: weights of the two parts' token losses.
    """

    table = EXAMPLE

    def __init__(
        self,
        backbone: BackboneSettings | None = None,
        optimizer: OptimizerSettings | None = None,
        judge_prompt: str = "mt_bench",
        rationale_weight: float = 1.0,
        verdict_weight: float = 1.0,
    ) -> None:
        super().__init__(backbone, optimizer, judge_prompt)
        self.rationale_weight = rationale_weight
        self.verdict_weight = verdict_weight

    def metrics(self):
        return {"accuracy": PreferenceAccuracy()}

    def trees(self, rows: pl.DataFrame, renderer: Renderer) -> Iterator[Tree]:
        for row in rows.iter_rows(named=True):
            branch = renderer.judgment(row["completion"], row["completion_ids"])
            right = renderer.verdict_of(branch)
            yield Tree(row["pair_id"], renderer.prompt(row["prompt"]), [branch], right=int(right is Verdict.B))

    def loss(self, batch: PrefixBatch, output: Output) -> tuple[Tensor, dict[str, Tensor]]:
        rationale = batch.by_branch(output.logps, [Role.RATIONALE])
        verdict = batch.by_branch(output.logps, [Role.VERDICT])
        weighted = self.rationale_weight * rationale + self.verdict_weight * verdict
        right, wrong = (logp.squeeze(1) for logp in right_and_wrong(batch, output.logps.detach()))
        values = {
            "rationale_nll": losses.mean_nll(rationale.detach(), batch.counts([Role.RATIONALE]).clamp(min=1)),
            "verdict_nll": losses.mean_nll(verdict.detach(), batch.counts([Role.VERDICT])),
            "accuracy": right - wrong,
        }
        return losses.mean_nll(weighted, batch.counts(TOKENS)).mean(), values
