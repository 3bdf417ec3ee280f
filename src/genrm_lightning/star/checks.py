"""What would fail a run hours later, found before it begins."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import polars as pl

from data_tools.contamination import contaminated, evaluation
from data_tools.errors import UserError
from data_tools.judging import Verdict, hint, render_prompt
from data_tools.order import responses
from data_tools.removal import CONTAMINATED, Left, write_report
from data_tools.split import normalised_prompt
from genrm_lightning.budget import REMEDY, judgment_tokens, least, of_fit
from genrm_lightning.star.settings import HELD_OUT, StarSettings, model_args
from genrm_lightning.star.variants import VARIANTS


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


def decontaminated(tables: dict[str, pl.DataFrame], where: dict[str, str | None], folder: Path) -> dict[str, int]:
    """Take the training pairs whose prompt overlaps a held-out one out of ``tables``, and say how many.

    The rule is that of Tülu 3 (:mod:`data_tools.contamination`). What went, and what it matched, stands in
    ``decontamination.jsonl`` of ``folder``, where anything did.

    Returns:
        Held-out file -> training pairs that overlap it.

    Raises:
        UserError: no training pair is left.
    """
    held_out = {where[name] or name: tables[name].lazy() for name in HELD_OUT}
    (folder / "decontamination.jsonl").unlink(missing_ok=True)
    left = Left(tables["train"].lazy())
    left.drop(CONTAMINATED, contaminated(left.rows(), evaluation(held_out)))
    if not left.height:
        raise UserError(
            f"{where['train'] or 'train'}: each of its {left.read} prompts overlaps a held-out one; use other data, or "
            "set data.decontaminate: false"
        )
    if left.height < left.read:
        report = left.report()
        write_report(report, folder / "decontamination.jsonl")
        print(
            f"data: {left.read - left.height:,} of {left.read:,} training pairs are left out, whose prompts overlap "
            f"held-out ones: {folder / 'decontamination.jsonl'}",
            file=sys.stderr,
            flush=True,
        )
        tables["train"] = left.rows().drop("_row").collect()
        return dict(report["file"].value_counts().sort("file").iter_rows())
    return {}


def lengths(settings: StarSettings, tables: dict[str, pl.DataFrame]) -> None:
    """A judge prompt with its judgments must fit the model's context, and a training tree data's max_tokens and
    batch_tokens.

    Under ``too_long: error`` that is every one; else one of each table, shortened where it may be: the rest is the
    policy's matter, but a table of which nothing is left would end the run later. No policy shortens a tree for
    batch_tokens.

    Raises:
        UserError: names a pair, or the table, and the number that it breaks.
    """
    from genrm_lightning.backbone import context_of, load_renderer

    renderer = load_renderer(settings.backbone)
    # A config that does not say has no limit.
    context = settings.sampler.context(settings.backbone) or context_of(settings.backbone) or sys.maxsize
    frame = judgment_tokens(renderer, 0)  # as the sampler reserves it
    judgment = settings.sampling.rationale_tokens + frame
    objective, _, told_answers = VARIANTS[settings.variant]
    told = bool(told_answers or settings.rationalize_failed)
    # Beside its prompt a tree holds: a verdict, and a right and a wrong judgment, or one behind either prompt's end.
    branches = dict.fromkeys(("train", "warm"), judgment + frame)
    if objective == "dpo":
        branches["train"] += judgment
    if objective == "own" or model_args(settings).get("told_weight"):
        ends = [{"role": "user", "content": hint(settings.judge_prompt, letter)} for letter in (Verdict.A, Verdict.B)]
        branches["train"] += judgment + max(len(renderer.prompt([end])) for end in ends)
        told = True
    limits, batches = {}, {}
    for name in tables:
        trained = name in branches
        sampling = settings.sampling if trained else settings.evaluation
        sampled = context - sampling.rationale_tokens - frame
        limits[name] = (sampled, f"the model's context of {context}")
        if trained:
            section = "warm_start.fit" if name == "warm" else "fit"
            fit = settings.warm_start.fit if name == "warm" else settings.fit
            most, _ = of_fit(fit)
            where = f"{section}.data.init_args"
            limits[name] = min(limits[name], (most - branches[name], f"{where}.max_tokens of {most}"))
            budget = ((fit.get("data") or {}).get("init_args") or {}).get("batch_tokens")
            if budget is not None and budget < most:  # else no tree that the fit takes can be longer
                batches[name] = where, budget, sampled

    def tokens(name: str, row: dict[str, Any], conversation: list[dict[str, str]]) -> int:
        a, b, _ = responses(row["pair_id"], False, row["chosen"], row["rejected"])
        answers = (Verdict.A, Verdict.B) if told and name == "train" else (None,)
        shown = (render_prompt(conversation, a, b, settings.judge_prompt, answer) for answer in answers)
        return max(len(renderer.prompt(messages)) for messages in shown)

    for name, table in tables.items():
        room, limit = limits[name]
        rows = table.iter_rows(named=True)
        if settings.too_long == "error":
            for row in rows:
                n = tokens(name, row, row["prompt"])
                if n > room:
                    raise UserError(
                        f"pair '{row['pair_id']}' ({name}): its judge prompt has {n} tokens, {limit} leaves "
                        f"{max(0, room)} for it beside the rationale; {REMEDY}"
                    )
        elif not any(
            tokens(name, row, row["prompt"]) <= room
            or (settings.too_long == "shorten" and tokens(name, row, least(row["prompt"])) <= room)
            for row in rows
        ):
            raise UserError(
                f"{name}: none of {len(table)} pairs fits, {limit} leaves {max(0, room)} tokens for a judge prompt "
                "beside the rationale; raise it, or lower rationale_tokens"
            )
    for name, (where, budget, sampled) in batches.items():
        for row in tables[name].iter_rows(named=True):
            n = tokens(name, row, row["prompt"])
            tree = min(n, limits[name][0]) + branches[name]  # what is longer is shortened, or dropped
            if tree > budget and not (settings.too_long == "drop" and n > sampled):
                raise UserError(
                    f"{where}.batch_tokens: {budget} is less than the {tree} tokens of pair '{row['pair_id']}' "
                    f"({name}) with all that may be sampled; raise it, or lower {where}.max_tokens"
                )
