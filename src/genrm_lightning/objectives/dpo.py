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
from genrm_lightning.backbone import BackboneSettings, has_adapters
from genrm_lightning.metrics import PairwiseAccuracy
from genrm_lightning.objectives.base import Objective, OptimizerSettings, check_smoothing, check_weights
from genrm_lightning.objectives.collapse import CollapseAlarm
from genrm_lightning.objectives.genrm import right_and_wrong
from genrm_lightning.policy import Output
from genrm_lightning.prefix import PrefixBatch, Tree
from genrm_lightning.rendering import Renderer

_STORED = ["ref_logp", "ref_rejected_logp"]


class RationaleDPO(Objective):
    """−log σ(β[Δ log π/π_ref]) over rationale and verdict, arXiv 2410.12832 eq. 9, with an NLL anchor.

    The reference is the policy at the fit's start, so the loss starts at ln 2. Its log-probabilities stand in the rows
    (``python -m genrm_lightning score`` writes them), or are computed along the way, at a forward pass more: from the
    base with the adapter switched off where the adapter is new, else from a frozen copy of the adapter. The judge
    prompt is the prefix, the judgments are its branches: right verdict first. A row without a rejected judgment
    (``data_tools star --uncoupled keep``) has no preference; the other terms learn from it all the same.

    Args:
        beta: β; the paper's 1.0.
        variant: sigmoid, or ipo (the table's STaR-IPO, β 0.4).
        label_smoothing: cDPO's ε, for sigmoid.
        reference: where the reference's log-probabilities come from: the rows (stored), the fit (live, under adapters
            only), or the rows where they have them and else the fit (auto).
        nll_weight: weight of the chosen judgment's length-normalised NLL (arXiv 2409.14664): keeps its probability up.
        choice_weight, direct_weight: as in :class:`~genrm_lightning.objectives.STaRSFT`, of the chosen judgment.
            Without them a small judge whose verdicts say nothing yet learns to tell its rationales apart before it
            learns to judge (docs/log.md).
        collapse_alarm: warn once when chosen and rejected judgments have both fallen that far under the reference,
            nats a token, as means over ten steps; null never warns. At 0.5 a token is 0.6 times as likely as it was, a
            rationale of 20 tokens e⁻¹⁰ times; a healthy fit lets the chosen ones fall by 0.2 at most (docs/log.md).
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
        reference: Literal["auto", "stored", "live"] = "auto",
        nll_weight: float = 0.0,
        choice_weight: float = 0.0,
        direct_weight: float = 0.0,
        collapse_alarm: float | None = 0.5,
    ) -> None:
        super().__init__(backbone, optimizer, judge_prompt)
        if not 0 < beta < math.inf:
            raise UserError(f"beta: {beta} is not above 0")
        check_smoothing(label_smoothing)
        if label_smoothing and variant == "ipo":
            raise UserError("label_smoothing: is cDPO's, for variant sigmoid; IPO has none, leave it out")
        check_weights(nll_weight=nll_weight, choice_weight=choice_weight, direct_weight=direct_weight)
        if collapse_alarm is not None and not 0 < collapse_alarm < math.inf:
            raise UserError(f"collapse_alarm: {collapse_alarm} is not above 0; null switches it off")
        self.reference = reference
        self.alarm = None if collapse_alarm is None else CollapseAlarm(collapse_alarm)
        self.beta = beta
        self.variant = variant
        self.label_smoothing = label_smoothing
        self.nll_weight = nll_weight
        self.choice_weight = choice_weight
        self.direct_weight = direct_weight

    def metrics(self):
        return {"reward_accuracy": PairwiseAccuracy(), "accuracy": PairwiseAccuracy()}

    def trees(self, rows: pl.DataFrame, renderer: Renderer) -> Iterator[Tree]:
        alone = rows.filter(pl.col("rejected_completion").is_null())["pair_id"]
        if len(alone) and not (self.nll_weight or self.choice_weight or self.direct_weight):
            raise UserError(
                f"pair {alone[0]}: 'rejected_completion' is empty, which DPO alone learns nothing from; write it with: "
                "python -m data_tools star --objective dpo, or set nll_weight, choice_weight or direct_weight"
            )
        if len(alone) == len(rows):
            warnings.warn("no row has a rejected judgment: there is no preference to learn", stacklevel=2)
        live = self._is_live(rows.filter(pl.col("rejected_completion").is_not_null()))
        for row in rows.iter_rows(named=True):
            branches = [renderer.judgment(row["completion"], row["completion_ids"])]
            right = renderer.verdict_of(branches[0])
            if self.direct_weight:
                branches.append(renderer.completion("", right))
            stored = []
            if row["rejected_completion"] is not None:
                branches.append(renderer.judgment(row["rejected_completion"], row["rejected_ids"]))
                stored = [row[name] for name in _STORED]
            extras = {} if live else {"ref_logp": stored}
            yield Tree(row["pair_id"], renderer.prompt(row["prompt"]), branches, int(right is Verdict.B), extras)

    def _is_live(self, couples: pl.DataFrame) -> bool:
        """Whether the reference is computed during the fit; the rows decide under ``auto``."""
        adapters = has_adapters(self.backbone_settings)
        if self.reference == "live" and not adapters:
            raise UserError(
                "reference: live needs adapters (backbone.lora), which are switched off to compute it; for this "
                "backbone write it into the rows with: python -m genrm_lightning score"
            )
        lacking = couples.filter(pl.any_horizontal(pl.col(_STORED).is_null()))["pair_id"]
        nowhere = 0 < len(lacking) == len(couples)
        if self.reference == "live" or (self.reference == "auto" and adapters and nowhere):
            self.needs_reference = True
            return True
        if len(lacking):
            others = "" if nowhere else " where other rows have it"
            raise UserError(
                f"pair {lacking[0]}: 'ref_logp' is empty{others}; write it with: python -m genrm_lightning score"
            )
        return False

    def forward(self, batch: PrefixBatch) -> Output:
        if "ref_logp" in batch.extras:
            return self.policy(batch)
        reference = self.policy(batch, reference=True).logps
        return self.policy(batch)._replace(reference=reference)

    def loss(self, batch: PrefixBatch, output: Output) -> tuple[Tensor, dict[str, Tensor]]:
        before = 2 if self.direct_weight else 1  # branches before the rejected one
        first, coupled = batch.first, batch.sizes > before  # (R,); (R,) bool, C of them
        logp, n_tokens = batch.by_branch(output.logps), batch.counts()  # (B,)
        nll = losses.mean_nll(logp, n_tokens)
        right, wrong = right_and_wrong(batch, output.logps)  # (B,)
        choice = losses.choice_nll(right, wrong)
        chosen, rejected = first[coupled], first[coupled] + before  # (C,)
        if output.reference is None:
            ref_chosen, ref_rejected = batch.extras["ref_logp"][0::2], batch.extras["ref_logp"][1::2]
        else:
            reference = batch.by_branch(output.reference)
            ref_chosen, ref_rejected = reference[chosen], reference[rejected]
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
            "chosen_reward": of_couples(chosen_reward),
            "rejected_reward": of_couples(rejected_reward),
            "chosen_log_ratio_per_token": of_couples((logp[chosen] - ref_chosen) / n_tokens[chosen]),
            "rejected_log_ratio_per_token": of_couples((logp[rejected] - ref_rejected) / n_tokens[rejected]),
            "chosen_logp_per_token": -nll[first].detach(),
            "rejected_logp_per_token": of_couples(-nll[rejected]),
            "choice_nll": choice[first].detach(),
            "accuracy": (right - wrong)[first].detach(),
        }

    def observe(self, values: dict[str, Tensor]) -> None:
        if self.alarm is not None:
            sides = (values[f"{side}_log_ratio_per_token"] for side in ("chosen", "rejected"))
            collapsed = self.alarm(self.trainer.global_step, *sides, aloud=self.trainer.is_global_zero)
            self.log("train/collapsed", float(collapsed))
