"""STaR-DPO: a rationale with the right verdict against one with the wrong verdict, on the same judge prompt."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import polars as pl
from torch import Tensor

from data_tools.errors import UserError
from data_tools.judging import Verdict
from data_tools.schema import EXAMPLE
from genrm_lightning import losses
from genrm_lightning.backbone import BackboneSettings, Output
from genrm_lightning.metrics import PreferenceAccuracy
from genrm_lightning.objectives.base import Objective, OptimizerSettings
from genrm_lightning.objectives.genrm import right_and_wrong
from genrm_lightning.prefix import PrefixBatch, Tree
from genrm_lightning.rendering import Renderer


class RationaleDPO(Objective):
    """−log σ(β[Δ log π/π_ref]) over rationale and verdict, arXiv 2410.12832 eq. 9, with an NLL anchor.

    The reference is the policy at the iteration's start; its log-probabilities stand in the rows
    (``python -m genrm_lightning score`` writes them), so the loss starts at ln 2. The judge prompt is the prefix,
    the two judgments are its branches: right verdict first.

    Args:
        beta: β; the paper's 1.0.
        variant: sigmoid, or ipo (the table's STaR-IPO, β 0.4).
        label_smoothing: cDPO's ε.
        nll_weight: weight of the chosen judgment's length-normalised NLL (arXiv 2409.14664): keeps its probability up.
        verdict_weight: weight of −log p(right letter | {A, B}) after the chosen rationale, GenRM's loss in that place.
            The letter is one token among a rationale's many: a small judge whose verdicts say nothing yet learns to
            tell its rationales apart before it learns to judge (docs/log.md).
        direct_weight: weight of GenRM's own loss, the verdict without a rationale, as a third branch of the same
            prompt (SFR-Judge, arXiv 2409.14664, mixes such examples in): a few tokens a prompt.
    """

    table = EXAMPLE

    def __init__(
        self,
        backbone: BackboneSettings | None = None,
        optimizer: OptimizerSettings | None = None,
        judge_prompt: str = "mt_bench",
        beta: float = 1.0,
        variant: Literal["sigmoid", "ipo"] = "sigmoid",
        label_smoothing: float = 0.0,
        nll_weight: float = 0.0,
        verdict_weight: float = 0.0,
        direct_weight: float = 0.0,
    ) -> None:
        super().__init__(backbone, optimizer, judge_prompt)
        self.beta = beta
        self.variant = variant
        self.label_smoothing = label_smoothing
        self.nll_weight = nll_weight
        self.verdict_weight = verdict_weight
        self.direct_weight = direct_weight

    def metrics(self):
        return {"reward_accuracy": PreferenceAccuracy(), "accuracy": PreferenceAccuracy()}

    def trees(self, rows: pl.DataFrame, renderer: Renderer) -> Iterator[Tree]:
        for row in rows.iter_rows(named=True):
            if row["rejected_completion"] is None or row["ref_logp"] is None or row["ref_rejected_logp"] is None:
                missing = "rejected_completion" if row["rejected_completion"] is None else "ref_logp"
                raise UserError(f"pair {row['pair_id']}: '{missing}' is empty; write it with: "
                                + ("python -m data_tools star --objective dpo" if missing == "rejected_completion"
                                   else "python -m genrm_lightning score"))  # fmt: skip
            chosen = renderer.judgment(row["completion"], row["completion_ids"])
            rejected = renderer.judgment(row["rejected_completion"], row["rejected_ids"])
            right = int(renderer.verdict_of(chosen) is Verdict.B)
            branches = [chosen, rejected]
            if self.direct_weight:
                branches.append(renderer.completion("", renderer.verdict_of(chosen)))
            reference = {"ref_logp": [row["ref_logp"], row["ref_rejected_logp"]]}
            yield Tree(row["pair_id"], renderer.prompt(row["prompt"]), branches, right, reference)

    def loss(self, batch: PrefixBatch, output: Output) -> tuple[Tensor, dict[str, Tensor]]:
        rows = len(batch.pair_ids)
        chosen, rejected, *_ = batch.by_branch(output.logps).view(rows, -1).unbind(1)  # (R,) summed log-probs
        ref_chosen, ref_rejected = batch.extras["ref_logp"].view(-1, 2).unbind(1)
        values, chosen_reward, rejected_reward = losses.dpo(
            chosen, rejected, ref_chosen, ref_rejected, self.beta, self.variant, self.label_smoothing
        )
        n_chosen, n_rejected, *_ = batch.counts().view(rows, -1).unbind(1)
        nll = losses.mean_nll(chosen, n_chosen)
        right, wrong = right_and_wrong(batch, output.logps)
        choice = losses.choice_nll(right[:, 0], wrong[:, 0])
        total = values + self.nll_weight * nll + self.verdict_weight * choice
        if self.direct_weight:
            total = total + self.direct_weight * losses.verdict_nll(right[:, 2], wrong[:, 2])
        return total.mean(), {
            "dpo_loss": values.detach(),
            "reward_accuracy": chosen_reward - rejected_reward,
            "reward_margin": chosen_reward - rejected_reward,
            "chosen_logp_per_token": (chosen / n_chosen).detach(),
            "rejected_logp_per_token": (rejected / n_rejected).detach(),
            "verdict_loss": choice.detach(),
            "accuracy": (right - wrong)[:, 0].detach(),
        }
