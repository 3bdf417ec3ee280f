"""EXAMPLE tables with the reference policy's log-probabilities: computed once, stored, read by DPO.

The prompts are shortened here as the fit would (:mod:`~genrm_lightning.budget`) and written back so: the
log-probabilities belong to the prompts beside them, and a fit with narrower limits refuses the table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import polars as pl
import torch

from data_tools.errors import UserError
from data_tools.judging import Verdict
from data_tools.schema import EXAMPLE, check
from genrm_lightning.backbone import PRECISION, BackboneSettings, LoraSettings, context_of, load_policy, load_renderer
from genrm_lightning.budget import REMEDY, Limits, TooLong, fit_rows, of_fit
from genrm_lightning.prefix import Tree, collate
from genrm_lightning.rendering import Renderer


def score_examples(
    examples: pl.DataFrame,
    reference: str,
    fit: Mapping[str, Any],
    advance: Callable[[int], None] = lambda rows: None,
    batch_size: int = 8,
) -> pl.DataFrame:
    """Fill ref_logp and ref_rejected_logp: log π_ref of each completion, summed over its tokens, nats.

    The reference is loaded and run as the fit will load and run it (same dtypes, same autocast), so that DPO starts
    where policy and reference are equal.

    Args:
        examples: EXAMPLE rows.
        reference: the backbone or judge that the fit begins from.
        fit: the fit's config; its backbone, precision, data.max_tokens and data.too_long are used.

    Returns:
        The rows that fit, in their order; what was shortened or dropped is said in a line on stderr.

    Raises:
        UserError: no row fits, or one does not under ``too_long: error``; names the pair.
    """
    backbone = ((fit.get("model") or {}).get("init_args") or {}).get("backbone") or {}
    settings = BackboneSettings(**{**backbone, "name": reference})
    if isinstance(settings.lora, dict):
        settings.lora = LoraSettings(**settings.lora)
    renderer = load_renderer(reference)
    examples = _fitting(examples, renderer, Limits(of_fit(fit)[0], context_of(reference)), of_fit(fit)[1])
    trees = list(_trees(examples, renderer))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    policy = load_policy(settings).to(device).eval()
    letters = tuple(renderer.letter_ids.values())
    found: dict[int, list[float]] = {}
    mixed = "bf16" in str((fit.get("trainer") or {}).get("precision") or PRECISION)
    order = sorted(range(len(trees)), key=lambda i: (-len(trees[i]), i))
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        batch = collate([trees[i] for i in rows], renderer.pad_id, letters).to(device)
        with torch.no_grad(), torch.autocast(device, torch.bfloat16, enabled=mixed):
            sums = iter(batch.by_branch(policy(batch).logps).tolist())
        for i in rows:
            found[i] = [next(sums) for _ in trees[i].branches]
        advance(len(rows))
    columns = {
        "ref_logp": [found[i][0] for i in range(len(trees))],
        "ref_rejected_logp": [found[i][1] if len(found[i]) > 1 else None for i in range(len(trees))],
    }
    scored = examples.with_columns(pl.Series(name, values, dtype=EXAMPLE[name]) for name, values in columns.items())
    return check(scored, EXAMPLE, "scored examples")


def _trees(examples: pl.DataFrame, renderer: Renderer) -> Iterator[Tree]:
    for row in examples.iter_rows(named=True):
        branches = [renderer.judgment(row["completion"], row["completion_ids"])]
        if row["rejected_completion"] is not None:
            branches.append(renderer.judgment(row["rejected_completion"], row["rejected_ids"]))
        yield Tree(row["pair_id"], renderer.prompt(row["prompt"]), branches)


def _fitting(examples: pl.DataFrame, renderer: Renderer, limits: Limits, too_long: TooLong) -> pl.DataFrame:
    """The examples under the fit's policy. Every tree has room for a verdict alone (``direct_weight``) besides."""
    direct = renderer.completion("", Verdict.A)

    def excess(rows: pl.DataFrame) -> int:
        trees = (replace(tree, branches=[*tree.branches, direct]) for tree in _trees(rows, renderer))
        return max(map(limits.excess, trees), default=0)

    if too_long == "error":
        for row in examples.iter_slices(1):
            if excess(row) > 0:
                raise UserError(
                    f"examples: pair '{row['pair_id'][0]}' is too long ({limits}); raise the limit, or {REMEDY}"
                )
        return examples
    fitted = fit_rows(examples, excess, renderer, too_long)
    fitted.say("examples", limits)
    return fitted.rows
