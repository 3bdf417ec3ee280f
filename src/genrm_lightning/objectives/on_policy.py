"""The Rationalizer on-policy: a teacher that is told the answer reads the student's own judgments."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import polars as pl
import torch
from torch import Tensor

from data_tools.errors import UserError
from data_tools.judging import Verdict
from data_tools.order import chosen_is_a
from data_tools.schema import EXAMPLE
from genrm_lightning import losses
from genrm_lightning.backbone import BackboneSettings, has_adapters
from genrm_lightning.distillation import Kind, Teaching
from genrm_lightning.metrics import PairwiseAccuracy
from genrm_lightning.objectives.base import Objective, OptimizerSettings, check_weights
from genrm_lightning.objectives.genrm import right_and_wrong
from genrm_lightning.objectives.rationalizer import refuse_hints, with_told
from genrm_lightning.policy import Output
from genrm_lightning.prefix import TOKENS, PrefixBatch, Role, Tree
from genrm_lightning.rendering import Renderer


class OnPolicyRationalizer(Objective):
    """On-policy self-distillation (OPSD, arXiv 2601.18734): the judge that is told the answer teaches the untold one.

    The student's own judgments, right and wrong ones (``data_tools star --objective own``), are read twice: behind the
    prompt as it is, and behind the one that tells the answer. At each of their tokens the student's next-token
    distribution is drawn to the teacher's, over the whole vocabulary; a judgment's loss is the mean over its tokens.
    The trees are those of :class:`~genrm_lightning.objectives.Rationalizer` with ``told_weight``.

    Args:
        teacher: whose reading of the told prompt is the target. reference: the policy at the fit's start, a target that
            stands still (under adapters only, as DPO's live reference). current: the weights as they are, without a
            gradient; one forward pass less, but both may agree by unlearning the hint.
        divergence: forward KL(teacher‖student), reverse KL(student‖teacher), or jsd between them (GKD,
            arXiv 2306.13649).
        mix: β of jsd; towards 0 its gradient is the forward KL's, towards 1 the reverse one's.
        choice_weight: as in :class:`~genrm_lightning.objectives.STaRSFT`: the label's letter after the rationale.
    """

    table = EXAMPLE

    def __init__(
        self,
        backbone: BackboneSettings | None = None,
        optimizer: OptimizerSettings | None = None,
        judge_prompt: str = "mt_bench",
        teacher: Literal["reference", "current"] = "reference",
        divergence: Kind = "forward",
        mix: float = 0.5,
        choice_weight: float = 0.0,
    ) -> None:
        super().__init__(backbone, optimizer, judge_prompt)
        if not 0 < mix < 1:
            raise UserError(f"mix: {mix} is not in (0, 1)")
        check_weights(choice_weight=choice_weight)
        self.needs_reference = teacher == "reference"
        self.divergence = divergence
        self.mix = mix
        self.choice_weight = choice_weight

    def metrics(self):
        return {"accuracy": PairwiseAccuracy(), "told_accuracy": PairwiseAccuracy()}

    def trees(self, rows: pl.DataFrame, renderer: Renderer) -> Iterator[Tree]:
        if self.needs_reference and not has_adapters(self.backbone_settings):
            raise UserError(
                "teacher: reference needs adapters (backbone.lora), which are switched off to compute it; for this "
                "backbone set teacher: current"
            )
        refuse_hints(rows, self.judge_prompt)
        for row in rows.iter_rows(named=True):
            if row["swapped"] is None:
                raise UserError(f"pair {row['pair_id']}: 'swapped' is empty, from which the right letter is known")
            right = Verdict.A if chosen_is_a(row["pair_id"], row["swapped"]) else Verdict.B
            branch = renderer.judgment(row["completion"], row["completion_ids"])
            tree = Tree(row["pair_id"], renderer.prompt(row["prompt"]), [branch], right=int(right is Verdict.B))
            yield with_told(tree, row, self.judge_prompt, right, renderer)

    def taught(self, tree: Tree) -> int:
        return sum(role in TOKENS for role in tree.branches[0].roles)

    def forward(self, batch: PrefixBatch) -> Output:
        student, teacher = _sides(batch)
        return self.policy(batch, teaching=Teaching(student, teacher, self.needs_reference, self.divergence, self.mix))

    def loss(self, batch: PrefixBatch, output: Output) -> tuple[Tensor, dict[str, Tensor]]:
        student, _ = _sides(batch)
        first = batch.first  # (R,)
        # Each token's divergence at the student's entry, so that the batch's own sums serve.
        spread = torch.zeros_like(output.logps).index_copy(0, student, output.divergence)  # (N,)
        mean = (batch.by_branch(spread) / batch.counts())[first]
        right, wrong = right_and_wrong(batch, output.logps)  # (B,)
        choice = losses.choice_nll(right, wrong)[first]
        margin = (right - wrong).detach()
        values = {"divergence": mean.detach(), "choice_nll": choice.detach()}
        for role in TOKENS:
            count = batch.counts([role])[first].clamp(min=1)
            values[f"{Role(role).name.lower()}_divergence"] = batch.by_branch(spread.detach(), [role])[first] / count
        values |= {"accuracy": margin[first], "told_accuracy": margin[first + 1]}
        return (mean + self.choice_weight * choice).mean(), values


def _sides(batch: PrefixBatch) -> tuple[Tensor, Tensor]:
    """Entries of the judgments' tokens behind the untold and behind the told prompt, (M,) and (M,), in one order."""
    tokens = torch.isin(batch.role, torch.tensor(TOKENS, device=batch.role.device))
    told = batch.branch % 2 == 1  # each row has two branches
    return (tokens & ~told).nonzero().squeeze(1), (tokens & told).nonzero().squeeze(1)
