"""STaR-Rationalizer: rationales sampled with the answer told, trained on without it."""

from __future__ import annotations

from data_tools.errors import UserError
from data_tools.judging import Verdict, hint
from genrm_lightning.objectives.genrm import STaRSFT


class Rationalizer(STaRSFT):
    """The STaR-SFT loss (arXiv 2410.12832 eq. 8) on rationales of a post-rationalization model.

    What differs is where the rationales come from: the sampler was told the answer (``star.variant:
    star-rationalizer``, or ``sample --told true``) and ``data_tools star --objective rationalizer`` drops those that
    speak of it. The prompts trained on hold no hint; a row that does is a mistake upstream and refused here.
    """

    def trees(self, rows, renderer):
        _refuse_hints(rows, self.judge_prompt)
        yield from super().trees(rows, renderer)


def _refuse_hints(rows, template: str) -> None:
    hints = [hint(template, told) for told in (Verdict.A, Verdict.B)]
    for row in rows.iter_rows(named=True):
        if any(h in turn["content"] for h in hints for turn in row["prompt"]):
            raise UserError(f"the prompt of pair {row['pair_id']} tells the answer; train on prompts without the hint")
