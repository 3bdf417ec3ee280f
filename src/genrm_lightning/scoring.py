"""EXAMPLE tables with the reference policy's log-probabilities: computed once, stored, read by DPO."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import polars as pl
import torch

from data_tools.schema import EXAMPLE, check
from genrm_lightning.backbone import PRECISION, BackboneSettings, LoraSettings, load_policy, load_renderer
from genrm_lightning.prefix import Tree, collate


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
        fit: the fit's config; its backbone and precision are used.
    """
    backbone = ((fit.get("model") or {}).get("init_args") or {}).get("backbone") or {}
    settings = BackboneSettings(**{**backbone, "name": reference})
    if isinstance(settings.lora, dict):
        settings.lora = LoraSettings(**settings.lora)
    renderer = load_renderer(reference)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    policy = load_policy(settings).to(device).eval()
    trees = []
    for number, row in enumerate(examples.iter_rows(named=True)):
        branches = [renderer.judgment(row["completion"], row["completion_ids"])]
        if row["rejected_completion"] is not None:
            branches.append(renderer.judgment(row["rejected_completion"], row["rejected_ids"]))
        trees.append(Tree(str(number), renderer.prompt(row["prompt"]), branches))
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
