"""The custom layout of a fit: what to look at first stands first, and only charts that have a curve.

A chart is the same in every run that has it, whichever of its curves the run has: TensorBoard puts the layouts of the
runs it shows together into one, and shows charts twice that are not equal. Lines without points are not drawn.
"""

from __future__ import annotations

import re
from collections.abc import Sequence, Set
from typing import Any

CATEGORY = "category"  # category/NAME: an accuracy, category_low/NAME and category_high/NAME: its interval
ENDS = ("", "_low", "_high")

_HELD_OUT = "Judge on held-out pairs"
# Few points with an interval, or without: margin charts, which TensorBoard scales to all their points. One number a
# chart: it colours by run, two curves of one chart look alike.
_NUMBERS = {
    "accuracy (95 % interval)": "judge/accuracy",
    "average precision": "judge/average_precision",
    "calibration error": "val/ece",
    "position bias: share of A less one half": "val/position_bias",
    "both orders agree, right or wrong": "val/position_consistency",
}
_WITH_INTERVAL = {"judge/accuracy"}  # the margin chart of another number has no margin
_BY_CATEGORY = "Judge by category (95 % interval)"
# Many points: lines, which the page smooths. Training and validation share a chart, the few points of one are told
# from the many of the other; so do chosen and rejected, whose ways part.
_CHARTS: dict[str, dict[str, Sequence[str]]] = {
    "Loss": {
        "loss": ["train/loss", "val/loss"],
        "accuracy": ["train/accuracy", "val/accuracy"],
        "DPO's part": ["train/dpo_loss", "val/dpo_loss"],
        "verdict, NLL": ["train/verdict_nll", "val/verdict_nll"],
        "rationale, NLL": ["train/rationale_nll", "val/rationale_nll"],
        "right letter of the two, NLL": ["train/choice_nll", "val/choice_nll"],
        "told the answer, NLL": ["train/told_nll", "val/told_nll"],
        "divergence from the teacher": ["train/divergence", "val/divergence"],
        "divergence of the rationale": ["train/rationale_divergence", "val/rationale_divergence"],
        "divergence of the verdict": ["train/verdict_divergence", "val/verdict_divergence"],
        "accuracy told the answer": ["train/told_accuracy", "val/told_accuracy"],
        "accuracy without a rationale": ["train/direct_accuracy", "val/direct_accuracy"],
    },
    "Chosen against rejected": {
        "reward margin": ["train/reward_margin", "val/reward_margin", "train/margin", "val/margin"],
        "rewards: chosen, rejected": ["train/chosen_reward", "train/rejected_reward"],
        "log-prob a token: chosen, rejected": ["train/chosen_logp_per_token", "train/rejected_logp_per_token"],
        "log-ratio to the reference a token: chosen, rejected": [
            "train/chosen_log_ratio_per_token",
            "train/rejected_log_ratio_per_token",
        ],
        "preferred by reward": ["train/reward_accuracy", "val/reward_accuracy"],
    },
    "Optimizer": {
        "learning rate": ["lr-AdamW", "lr-AdamW/pg1"],
        "gradient norm before clipping": ["train/gradient_norm"],
        "alarm: chosen and rejected both fall": ["train/collapsed"],
    },
    "Pace": {
        "tokens a second": ["pace/tokens_per_second"],
        "rows a second": ["pace/rows_per_second"],
        "seconds a step": ["pace/seconds_per_step"],
        "share of the time in the step": ["pace/busy"],
        "useful TFLOP/s a device": ["pace/tflops"],
        "model FLOP utilisation": ["pace/mfu"],
        "memory, GiB": ["pace/memory_gib"],
    },
}


def layout(tags: Set[str], before: Sequence[str] = ()) -> dict[str, dict[str, list[Any]]]:
    """The layout for ``SummaryWriter.add_custom_scalars``.

    Args:
        tags: of the scalars there are; a chart without any is left out, and a category without a chart.
        before: categories of other runs that are to stand above: TensorBoard lays out the runs in the order of their
            names, and puts the charts of one category together.
    """
    made: dict[str, dict[str, list[Any]]] = {title: {} for title in before}
    kinds = sorted(tag.removeprefix(f"{CATEGORY}/") for tag in tags if tag.startswith(f"{CATEGORY}/"))
    numbers = {name: [tag + end if tag in _WITH_INTERVAL else tag for end in ENDS] for name, tag in _NUMBERS.items()}
    by_kind = {kind: [f"{CATEGORY}{end}/{kind}" for end in ENDS] for kind in kinds}
    for title, charts in ((_HELD_OUT, numbers), (_BY_CATEGORY, by_kind)):
        # TensorBoard 2.21 shows the margin charts of a category in reverse.
        for name, wanted in reversed(charts.items()):
            if wanted[0] in tags:
                made.setdefault(title, {})[name] = ["Margin", wanted]
    for title, charts in _CHARTS.items():
        for name, wanted in charts.items():
            if not tags.isdisjoint(wanted):
                made.setdefault(title, {})[name] = ["Multiline", [f"^{re.escape(tag)}$" for tag in wanted]]
    return made
