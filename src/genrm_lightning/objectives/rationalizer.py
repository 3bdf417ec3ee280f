"""STaR-Rationalizer: rationales sampled with the answer told, trained on without it; and the model that writes them."""

from __future__ import annotations

from dataclasses import replace
from itertools import takewhile

from torch import Tensor

from data_tools.errors import UserError
from data_tools.judging import Verdict, hint, tell
from genrm_lightning.backbone import BackboneSettings
from genrm_lightning.objectives.base import OptimizerSettings, check_weights
from genrm_lightning.objectives.genrm import STaRSFT
from genrm_lightning.policy import Output
from genrm_lightning.prefix import Branch, PrefixBatch, Tree
from genrm_lightning.rendering import Renderer


class Rationalizer(STaRSFT):
    """The STaR-SFT loss (arXiv 2410.12832 eq. 8) on rationales of a post-rationalization model.

    What differs is where the rationales come from: the sampler was told the answer (``star.variant:
    star-rationalizer``, or ``sample --told right``) and ``data_tools star --objective rationalizer`` drops those that
    speak of it. The prompts in the rows hold no hint; one that does is a mistake upstream and refused here.

    Args:
        told_weight: weight of the same judgment's loss behind the prompt that tells the answer: trains the
            post-rationalization model itself, which is the same model with a hint. The hint stands at the prompt's end,
            so both prompts share their tokens up to there.
    """

    def __init__(
        self,
        backbone: BackboneSettings | None = None,
        optimizer: OptimizerSettings | None = None,
        judge_prompt: str = "mt_bench",
        rationale_weight: float = 1.0,
        verdict_weight: float = 1.0,
        choice_weight: float = 0.0,
        direct_weight: float = 0.0,
        told_weight: float = 0.0,
    ) -> None:
        super().__init__(
            backbone, optimizer, judge_prompt, rationale_weight, verdict_weight, choice_weight, direct_weight
        )
        check_weights(told_weight=told_weight)
        self.told_weight = told_weight

    def trees(self, rows, renderer):
        refuse_hints(rows, self.judge_prompt)
        for row, tree in zip(rows.iter_rows(named=True), super().trees(rows, renderer), strict=True):
            if self.told_weight:
                yield with_told(tree, row, self.judge_prompt, renderer.verdict_of(tree.branches[0]), renderer)
            else:
                yield tree

    def loss(self, batch: PrefixBatch, output: Output) -> tuple[Tensor, dict[str, Tensor]]:
        total, values = super().loss(batch, output)
        if self.told_weight:
            told = batch.first + batch.sizes - 1
            nll = self._judgment_nll(batch, output)[told]  # (R,)
            total = total + self.told_weight * nll.mean()
            values["told_nll"] = nll.detach()
        return total, values


def refuse_hints(rows, template: str) -> None:
    """Raises UserError for a prompt that tells the answer; names its pair."""
    hints = [hint(template, told) for told in (Verdict.A, Verdict.B)]
    for row in rows.iter_rows(named=True):
        if any(h in turn["content"] for h in hints for turn in row["prompt"]):
            raise UserError(f"the prompt of pair {row['pair_id']} tells the answer; train on prompts without the hint")


def with_told(tree: Tree, row: dict, template: str, told: Verdict, renderer: Renderer) -> Tree:
    """The tree with one branch more, its last: the first judgment once more, behind the prompt that tells the answer.

    The prefix ends where the two prompts part; what is left of each stands at the head of its branches, where no loss
    looks.

    Args:
        row: of EXAMPLE, which the tree was made of.

    Raises:
        UserError: the row's prompt is not of that template; names its pair.
    """
    try:
        prompt = renderer.prompt(tell(row["prompt"], template, told))
    except UserError as error:
        raise UserError(f"pair {row['pair_id']}: {error}") from None
    end = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(tree.prefix, prompt, strict=False)))
    branches = [_behind(tree.prefix[end:], branch) for branch in tree.branches]
    return replace(tree, prefix=tree.prefix[:end], branches=[*branches, _behind(prompt[end:], tree.branches[0])])


def _behind(head: list[int], branch: Branch) -> Branch:
    roles = [*[None] * len(head), *branch.roles]
    return Branch([*head, *branch.ids], roles, len(head) + branch.letter_at)
