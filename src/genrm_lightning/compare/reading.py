"""What a judge says of pairs without a rationale: JUDGMENT rows, so that one scoring serves every method."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import polars as pl
import torch

from data_tools.errors import UserError
from data_tools.judging import Verdict
from data_tools.order import chosen_is_a
from data_tools.schema import JUDGMENT, conform
from genrm_lightning.backbone import BackboneSettings, context_of, load_judge
from genrm_lightning.budget import REMEDY, Limits, TooLong, fit_rows
from genrm_lightning.objectives import GenRM, Objective
from genrm_lightning.prefix import Tree, collate


def reader(kind: type[Objective], judge: str, judge_prompt: str) -> Objective:
    """The objective by which a judge reads pairs."""
    prompt = {"judge_prompt": judge_prompt} if issubclass(kind, GenRM) else {}
    return kind(backbone=BackboneSettings(judge, lora=None), **prompt)


def read_pairs(
    objective: Objective,
    pairs: pl.DataFrame,
    *,
    dtype: torch.dtype,
    too_long: TooLong,
    where: str,
    judge: str,
    seed: int,
    batch_size: int = 8,
    advance: Callable[[int, int], None] = lambda verdicts, tokens: None,
) -> pl.DataFrame:
    """JUDGMENT rows of a judge that writes no rationale, one a pair and order, sorted by pair and order.

    A reward model scores the responses, r_w and r_l: p(A) is σ of the difference of the response shown as A to the
    other, in both orders the same preference (PairRM's scores are means over both orders already). A direct judge
    reads each order by itself: p(A) at the verdict. ``verdict`` and ``vote`` are the letter that p(A) chooses.

    Args:
        objective: BradleyTerry, PairRM or GenRM; ``backbone.name`` is the judge that is read.
        where: names the pairs, for what is said about those that do not fit the context.
        judge: what the column says.
        advance: told of finished verdicts, two a pair, and of the tokens they took.

    Returns:
        Rows of the pairs that fit; conversations are shortened as ``too_long`` says.

    Raises:
        UserError: no pair fits, or one does not under ``too_long: error``; names it.
    """
    name = objective.backbone_settings.name
    renderer = objective.renderer
    limits = Limits(None, context_of(name))
    long = {tree.pair_id for tree in objective.trees(pairs, renderer) if limits.excess(tree) > 0}
    if long and too_long == "error":
        raise UserError(f"{where}: pair '{min(long)}' is too long ({limits}); {REMEDY}")
    if long:
        fitted = fit_rows(
            pairs, lambda rows: max(map(limits.excess, objective.trees(rows, renderer))), renderer, too_long, long
        )
        fitted.say(where, limits)
        pairs = fitted.rows
    device = "cuda" if torch.cuda.is_available() else "cpu"
    objective.policy = load_judge(name, dtype, objective.scores).to(device)
    trees = list(objective.trees(pairs, renderer))
    letters = tuple(renderer.letter_ids.values())
    margins = [0.0] * len(trees)  # log-odds of the right side
    order = sorted(range(len(trees)), key=lambda i: (-len(trees[i]), i))
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        batch = collate([trees[i] for i in rows], renderer.pad_id, letters).to(device)
        with torch.inference_mode():
            found = objective.loss(batch, objective(batch))[1]["accuracy"].tolist()
        for i, margin in zip(rows, found, strict=True):
            margins[i] = margin
        advance(len(rows) * 2 * len(pairs) // len(trees), sum(len(trees[i]) for i in rows))
    objective.policy = None
    table = pl.DataFrame(_row(*shown, seed, judge) for shown in _presented(trees, margins))
    return conform(table, JUDGMENT).sort("pair_id", "swapped")


def _presented(trees: list[Tree], margins: list[float]) -> Iterator[tuple[Tree, float, bool]]:
    """(tree, margin, swapped) of each presentation: a tree an order (GenRM), or one for both (reward models)."""
    seen: dict[str, list[tuple[Tree, float]]] = {}
    for tree, margin in zip(trees, margins, strict=True):
        seen.setdefault(tree.pair_id, []).append((tree, margin))
    for found in seen.values():
        for swapped in (False, True):
            yield *found[int(swapped) % len(found)], swapped


def _row(tree: Tree, margin: float, swapped: bool, seed: int, judge: str) -> dict[str, object]:
    toward_a = margin if chosen_is_a(tree.pair_id, swapped) else -margin
    letter = Verdict.A if toward_a > 0 else Verdict.B
    return {
        "pair_id": tree.pair_id,
        "swapped": swapped,
        "iteration": 0,
        "sample_index": 0,
        "rationale": "",
        "token_ids": [],
        "verdict": letter.value if toward_a else Verdict.INVALID.value,
        "vote": letter.value,
        "p_a": _sigmoid(toward_a),
        "logp": 0.0,
        "mean_token_prob": 1.0,
        "n_tokens": 0,
        "finish_reason": "stop",
        "seed": seed,
        "judge": judge,
    }


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x > 0 else math.exp(x) / (1 + math.exp(x))
