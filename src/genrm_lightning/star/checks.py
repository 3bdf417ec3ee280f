"""What would fail a run hours later, found before it begins."""

from __future__ import annotations

import sys
from inspect import signature

import polars as pl

from data_tools.errors import UserError
from data_tools.judging import Verdict, hint, render_prompt
from data_tools.order import responses
from data_tools.split import normalised_prompt
from genrm_lightning.star.settings import HELD_OUT, VARIANTS, StarSettings, model_args


def no_shared_prompts(tables: dict[str, pl.DataFrame], where: dict[str, str | None]) -> None:
    """A held-out prompt in training makes every number of the run worthless.

    Raises:
        UserError: names the file and how many of its prompts are also trained on.
    """
    keys = {name: set(table.select(normalised_prompt().alias("key"))["key"]) for name, table in tables.items()}
    for name in HELD_OUT:
        if shared := keys["train"] & keys[name]:
            raise UserError(
                f"{where[name] or name}: {len(shared)} of its prompts also occur in {where['train'] or 'train'}; "
                "separate them with: python -m data_tools split --redo on all pairs together"
            )


def lengths(settings: StarSettings, tables: dict[str, pl.DataFrame]) -> None:
    """Every judge prompt with its judgments must fit the model's context, and a training tree data.max_tokens.

    Raises:
        UserError: names the longest pair and the number that it breaks.
    """
    from genrm_lightning.backbone import context_of, load_renderer
    from genrm_lightning.data import Tables

    renderer = load_renderer(settings.backbone)
    context = context_of(settings.backbone) or sys.maxsize  # a config that does not say has no limit
    frame = 2 * len(renderer.frame_ids) + 1 + len(renderer.close_ids)  # as the sampler reserves it
    judgment = settings.sampling.rationale_tokens + frame
    objective, _, told = VARIANTS[settings.variant]
    # Beside its prompt a tree holds: a verdict, and a right and a wrong judgment, or one behind either prompt's end.
    branches = dict.fromkeys(("train", "warm"), judgment + frame)
    if objective == "dpo":
        branches["train"] += judgment
    if objective == "own" or (model_args(settings).get("told_weight") and told):
        ends = [{"role": "user", "content": hint(settings.judge_prompt, letter)} for letter in (Verdict.A, Verdict.B)]
        branches["train"] += judgment + max(len(renderer.prompt([end])) for end in ends)
        told = True
    limits = {}
    for name in tables:
        trained = name in branches
        sampling = settings.sampling if trained else settings.evaluation
        limits[name] = (context - sampling.rationale_tokens - frame, f"the model's context of {context}")
        if trained:
            section = "warm_start.fit" if name == "warm" else "fit"
            fit = settings.warm_start.fit if name == "warm" else settings.fit
            arguments = (fit.get("data") or {}).get("init_args") or {}
            most = arguments.get("max_tokens", signature(Tables).parameters["max_tokens"].default)
            limits[name] = min(limits[name], (most - branches[name], f"{section}.data.init_args.max_tokens of {most}"))
    for name, table in tables.items():
        for row in table.iter_rows(named=True):
            a, b, right = responses(row["pair_id"], False, row["chosen"], row["rejected"])
            answer = Verdict(right) if told and name == "train" else None
            n = len(renderer.prompt(render_prompt(row["prompt"], a, b, settings.judge_prompt, answer)))
            room, limit = limits[name]
            if n > room:
                raise UserError(
                    f"pair '{row['pair_id']}' ({name}): its judge prompt has {n} tokens, {limit} leaves "
                    f"{max(0, room)} for it beside the rationale; drop long pairs with: "
                    "python -m data_tools clean --max-chars"
                )
