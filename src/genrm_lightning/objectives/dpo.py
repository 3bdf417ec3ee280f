"""STaR-DPO: a rationale with the right verdict against one with the wrong verdict, on the same judge prompt."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from typing import Literal

import polars as pl
import torch
from torch import Tensor

from data_tools.errors import UserError
from data_tools.judging import Verdict
from data_tools.schema import EXAMPLE
from genrm_lightning import losses
from genrm_lightning.backbone import BackboneSettings
from genrm_lightning.metrics import PreferenceAccuracy
from genrm_lightning.objectives.base import Objective, OptimizerSettings, check_smoothing, check_weights
from genrm_lightning.objectives.genrm import right_and_wrong
from genrm_lightning.policy import Output
from genrm_lightning.prefix import PrefixBatch, Tree
from genrm_lightning.rendering import Renderer


class RationaleDPO(Objective):
    """−log σ(β[Δ log π/π_ref]) over rationale and verdict, arXiv 2410.12832 eq. 9, with an NLL anchor.

    The reference is the policy at the iteration's start; its log-probabilities stand in the rows
    (``python -m genrm_lightning score`` writes them), so the loss starts at ln 2. The judge prompt is the prefix, the
    judgments are its branches: right verdict first. A row without a rejected judgment (``data_tools star --uncoupled
    keep``) has no preference; the other terms learn from it all the same.

    Args:
        beta: β; the paper's 1.0.
        variant: sigmoid, or ipo (the table's STaR-IPO, β 0.4).
        label_smoothing: cDPO's ε.
        nll_weight: weight of the chosen judgment's length-normalised NLL (arXiv 2409.14664): keeps its probability up.
        choice_weight, direct_weight: as in :class:`~genrm_lightning.objectives.STaRSFT`, of the chosen judgment.
            Without them a small judge whose verdicts say nothing yet learns to tell its rationales apart before it
            learns to judge (docs/log.md).
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
        choice_weight: float = 0.0,
        direct_weight: float = 0.0,
    ) -> None:
        super().__init__(backbone, optimizer, judge_prompt)
        if not 0 < beta < math.inf:
            raise UserError(f"beta: {beta} is not above 0")
        check_smoothing(label_smoothing)
        check_weights(nll_weight=nll_weight, choice_weight=choice_weight, direct_weight=direct_weight)
        self.beta = beta
        self.variant = variant
        self.label_smoothing = label_smoothing
        self.nll_weight = nll_weight
        self.choice_weight = choice_weight
        self.direct_weight = direct_weight

    def metrics(self):
        return {"reward_accuracy": PreferenceAccuracy(), "accuracy": PreferenceAccuracy()}

    def trees(self, rows: pl.DataFrame, renderer: Renderer) -> Iterator[Tree]:
        alone = rows.filter(pl.col("rejected_completion").is_null())["pair_id"]
        if len(alone) and not (self.nll_weight or self.choice_weight or self.direct_weight):
            raise UserError(
                f"pair {alone[0]}: 'rejected_completion' is empty, which DPO alone learns nothing from; write it with: "
                "python -m data_tools star --objective dpo, or set nll_weight, choice_weight or direct_weight"
            )
        if len(alone) == len(rows):
            warnings.warn("no row has a rejected judgment: there is no preference to learn", stacklevel=2)
        for row in rows.iter_rows(named=True):
            branches = [renderer.judgment(row["completion"], row["completion_ids"])]
            right = renderer.verdict_of(branches[0])
            if self.direct_weight:
                branches.append(renderer.completion("", right))
            reference = []
            if row["rejected_completion"] is not None:
                branches.append(renderer.judgment(row["rejected_completion"], row["rejected_ids"]))
                reference = [row["ref_logp"], row["ref_rejected_logp"]]
                if None in reference:
                    raise UserError(
                        f"pair {row['pair_id']}: 'ref_logp' is empty; write it with: python -m genrm_lightning score"
                    )
            extras = {"ref_logp": reference}
            yield Tree(row["pair_id"], renderer.prompt(row["prompt"]), branches, int(right is Verdict.B), extras)

    def loss(self, batch: PrefixBatch, output: Output) -> tuple[Tensor, dict[str, Tensor]]:
        before = 2 if self.direct_weight else 1  # branches before the rejected one
        first, coupled = batch.first, batch.sizes > before  # (R,); (R,) bool, C of them
        logp, n_tokens = batch.by_branch(output.logps), batch.counts()  # (B,)
        nll = losses.mean_nll(logp, n_tokens)
        right, wrong = right_and_wrong(batch, output.logps)  # (B,)
        choice = losses.choice_nll(right, wrong)
        chosen, rejected = first[coupled], first[coupled] + before  # (C,)
        ref_chosen, ref_rejected = batch.extras["ref_logp"][0::2], batch.extras["ref_logp"][1::2]
        preference, chosen_reward, rejected_reward = losses.dpo(
            logp[chosen], logp[rejected], ref_chosen, ref_rejected, self.beta, self.variant, self.label_smoothing
        )
        total = self.nll_weight * nll[first] + self.choice_weight * choice[first]
        if self.direct_weight:
            total = total + self.direct_weight * choice[first + 1]

        def of_couples(values: Tensor) -> Tensor:
            """(C,) -> (R,), NaN where a row has no such value."""
            return values.new_full((len(coupled),), torch.nan).masked_scatter(coupled, values.detach())

        margin = of_couples(chosen_reward - rejected_reward)
        return total.mean() + preference.sum() / len(coupled), {
            "dpo_loss": of_couples(preference),
            "reward_accuracy": margin,
            "reward_margin": margin,
            "chosen_logp_per_token": -nll[first].detach(),
            "rejected_logp_per_token": of_couples(-nll[rejected]),
            "choice_nll": choice[first].detach(),
            "accuracy": (right - wrong)[first].detach(),
        }
