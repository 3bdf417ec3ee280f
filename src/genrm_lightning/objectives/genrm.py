"""GenRM: the judge as a language model, trained on the verdict alone or on rationale and verdict."""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl
from torch import Tensor

from data_tools.judging import Verdict, render_prompt
from data_tools.order import responses
from data_tools.schema import EXAMPLE, PREFERENCE
from genrm_lightning import losses
from genrm_lightning.backbone import BackboneSettings
from genrm_lightning.metrics import PairwiseAccuracy
from genrm_lightning.objectives.base import Objective, OptimizerSettings, check_smoothing, check_weights
from genrm_lightning.objectives.held_out import CALIBRATION, ORDERS
from genrm_lightning.policy import Output
from genrm_lightning.prefix import TOKENS, PrefixBatch, Tree
from genrm_lightning.rendering import Renderer


def right_and_wrong(batch: PrefixBatch, logps: Tensor) -> tuple[Tensor, Tensor]:
    """Log-probabilities of the right and of the wrong letter at each branch's verdict: (B,) and (B,), nats.

    Every branch of the batch has a verdict; which letter is right is the same throughout a row.
    """
    logp_a, logp_b = batch.letters(logps)
    is_a = batch.right[batch.last_rows] == 0
    return logp_a.where(is_a, logp_b), logp_b.where(is_a, logp_a)


class GenRM(Objective):
    """Direct GenRM, −log π(I | x, y1, y2), arXiv 2410.12832 eq. 7: a verdict without a rationale.

    Every pair is shown in both orders. The loss is that of the letter; ``format_weight`` adds the mean loss of the
    tokens around it, so that the judge also writes the verdict on its own.

    Args:
        label_smoothing: share of the target that goes to the other letter, at most a half.
        format_weight: weight of the frame's tokens, averaged.
    """

    table = PREFERENCE
    held_out = CALIBRATION | ORDERS

    def __init__(
        self,
        backbone: BackboneSettings | None = None,
        optimizer: OptimizerSettings | None = None,
        judge_prompt: str = "mt_bench",
        label_smoothing: float = 0.0,
        format_weight: float = 0.1,
    ) -> None:
        super().__init__(backbone, optimizer, judge_prompt)
        check_smoothing(label_smoothing)
        check_weights(format_weight=format_weight)
        self.label_smoothing = label_smoothing
        self.format_weight = format_weight

    def metrics(self):
        return {"accuracy": PairwiseAccuracy()}

    def trees(self, rows: pl.DataFrame, renderer: Renderer) -> Iterator[Tree]:
        for row in rows.iter_rows(named=True):
            for swapped in (False, True):
                a, b, right = responses(row["pair_id"], swapped, row["chosen"], row["rejected"])
                messages = render_prompt(row["prompt"], a, b, self.judge_prompt)
                branch = renderer.completion("", Verdict(right))
                yield Tree(row["pair_id"], renderer.prompt(messages), [branch], right=int(right == "B"))

    def loss(self, batch: PrefixBatch, output: Output) -> tuple[Tensor, dict[str, Tensor]]:
        right, wrong = right_and_wrong(batch, output.logps)
        letter = losses.verdict_nll(right, wrong, self.label_smoothing)
        around = batch.by_branch(output.logps) - right  # every token of the branch but its letter
        framing = losses.mean_nll(around, batch.counts() - 1)
        values = {"verdict_nll": letter.detach(), "accuracy": (right - wrong).detach()}
        return (letter + self.format_weight * framing).mean(), values


class STaRSFT(Objective):
    """STaR-SFT, −log π(r, I | x, y1, y2), arXiv 2410.12832 eq. 8, on the model's own samples with the right verdict.

    A completion's loss is the mean over its tokens, rationale and verdict weighted apart. The other two terms serve a
    small judge, whose verdict is one token among a rationale's many.

    Args:
        rationale_weight, verdict_weight: weights of the two parts' token losses.
        choice_weight: weight of −log p(right letter | {A, B}) after the rationale. Among the two letters alone: the
            loss over the whole vocabulary would also teach to write A and B everywhere (docs/log.md).
        direct_weight: weight of the same loss without a rationale, on a second branch of the prompt (SFR-Judge,
            arXiv 2409.14664, mixes such examples in): a few tokens a prompt.
    """

    table = EXAMPLE

    def __init__(
        self,
        backbone: BackboneSettings | None = None,
        optimizer: OptimizerSettings | None = None,
        judge_prompt: str = "mt_bench",
        rationale_weight: float = 1.0,
        verdict_weight: float = 1.0,
        choice_weight: float = 0.0,
        direct_weight: float = 0.0,
    ) -> None:
        super().__init__(backbone, optimizer, judge_prompt)
        check_weights(
            rationale_weight=rationale_weight, verdict_weight=verdict_weight,
            choice_weight=choice_weight, direct_weight=direct_weight,
        )  # fmt: skip
        self.rationale_weight = rationale_weight
        self.verdict_weight = verdict_weight
        self.choice_weight = choice_weight
        self.direct_weight = direct_weight

    def metrics(self):
        return {"accuracy": PairwiseAccuracy(), "direct_accuracy": PairwiseAccuracy()}

    def trees(self, rows: pl.DataFrame, renderer: Renderer) -> Iterator[Tree]:
        for row in rows.iter_rows(named=True):
            branches = [renderer.judgment(row["completion"], row["completion_ids"])]
            right = renderer.verdict_of(branches[0])
            if self.direct_weight:
                branches.append(renderer.completion("", right))
            yield Tree(row["pair_id"], renderer.prompt(row["prompt"]), branches, right=int(right is Verdict.B))

    def loss(self, batch: PrefixBatch, output: Output) -> tuple[Tensor, dict[str, Tensor]]:
        judgment = batch.first  # (R,)
        rationale, verdict = (batch.by_branch(output.logps, [role]) for role in TOKENS)  # (B,)
        right, wrong = right_and_wrong(batch, output.logps)  # (B,)
        choice = losses.choice_nll(right, wrong)
        total = self._judgment_nll(batch, output)[judgment] + self.choice_weight * choice[judgment]
        margin = (right - wrong).detach()
        n_rationale, n_verdict = (batch.counts([role]) for role in TOKENS)
        values = {
            "rationale_nll": losses.mean_nll(rationale.detach(), n_rationale.clamp(min=1))[judgment],
            "verdict_nll": losses.mean_nll(verdict.detach(), n_verdict)[judgment],
            "choice_nll": choice[judgment].detach(),
            "accuracy": margin[judgment],
        }
        if self.direct_weight:
            total = total + self.direct_weight * choice[judgment + 1]
            values["direct_accuracy"] = margin[judgment + 1]
        return total.mean(), values

    def _judgment_nll(self, batch: PrefixBatch, output: Output) -> Tensor:
        """Mean loss of each branch's tokens, rationale and verdict weighted: (B,)."""
        rationale, verdict = (batch.by_branch(output.logps, [role]) for role in TOKENS)
        return losses.mean_nll(self.rationale_weight * rationale + self.verdict_weight * verdict, batch.counts())
