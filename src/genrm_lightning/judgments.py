"""Preference pairs -> JUDGMENT tables: both orders of every pair, in shards that a killed run need not draw again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl

from data_tools.judging import Verdict, render_prompt
from data_tools.order import hash64, responses
from genrm_lightning.backbone import context_of, load_renderer
from genrm_lightning.budget import TooLong, fit_rows, judgment_tokens
from genrm_lightning.claims import Claims
from genrm_lightning.samplers.base import Request, Sampler, SamplingSettings
from genrm_lightning.shards import Shards


def requests(pairs: pl.DataFrame, template: str, told: bool = False) -> list[Request]:
    """Both orders of every pair as judge prompts, in the order of the pair ids' hashes.

    Args:
        told: tell the answer (post-rationalization; never for evaluation).
    """
    result = []
    for row in sorted(pairs.iter_rows(named=True), key=lambda row: (hash64("shard", row["pair_id"]), row["pair_id"])):
        for swapped in (False, True):
            a, b, right = responses(row["pair_id"], swapped, row["chosen"], row["rejected"])
            messages = render_prompt(row["prompt"], a, b, template, Verdict(right) if told else None)
            result.append(Request(row["pair_id"], swapped, messages))
    return result


def fitting(
    pairs: pl.DataFrame,
    judge: str,
    settings: SamplingSettings,
    *,
    template: str,
    told: bool,
    too_long: TooLong,
    where: str,
) -> pl.DataFrame:
    """The pairs whose judge prompts leave room for a judgment in the context, conversations shortened where needed.

    What was shortened or dropped is said in a line on stderr. Under ``too_long: error`` all pairs: the sampler refuses
    one that leaves no room, and names it.

    Raises:
        UserError: no pair fits; names ``where``.
    """
    context = None if too_long == "error" else context_of(judge)
    if context is None:
        return pairs
    renderer = load_renderer(judge)
    room = context - judgment_tokens(renderer, settings.rationale_tokens)

    def excess(rows: pl.DataFrame) -> int:
        return max(len(renderer.prompt(request.messages)) for request in requests(rows, template, told)) - room

    fitted = fit_rows(pairs, excess, renderer, too_long)
    fitted.say(where, f"the model's context of {context} leaves {room} tokens for a judge prompt")
    return fitted.rows


def shards_of(
    folder: str | Path,
    pairs: pl.DataFrame,
    settings: SamplingSettings,
    *,
    template: str,
    judge: str,
    iteration: int,
    seed: int,
    purpose: str,
    told: bool = False,
    shard_size: int = 64,
) -> Shards:
    """Both orders of every pair as shards in ``folder``.

    Args:
        judge: what the rows call the one who judges.
        purpose: part of every random number's key: "sample" or "evaluate".
        shard_size: judge prompts a shard.
    """
    salt = f"{purpose}|{iteration if purpose == 'sample' else 0}|{seed}"
    facts = {"iteration": iteration, "seed": seed, "judge": judge}
    return Shards(Path(folder), requests(pairs, template, told), settings, shard_size, salt, facts)


def judge_pairs(
    folder: str | Path,
    pairs: pl.DataFrame,
    sampler: Callable[[], Sampler],
    settings: SamplingSettings,
    *,
    claims: Claims | None = None,
    advance: Callable[[int, int], None] = lambda samples, tokens: None,
    **asked: Any,
) -> pl.DataFrame:
    """Judge every pair in both orders; shards lie in ``folder`` and finished ones are not drawn again.

    Args:
        sampler: makes the sampler, called only if a shard is missing.
        claims: where other processes draw shards of the same folder (:meth:`Shards.complete`).
        advance: told how many samples and tokens each finished prompt brought, finished shards' samples included.
        asked: see :func:`shards_of`.

    Returns:
        The JUDGMENT rows, sorted by pair, order and sample.

    Raises:
        UserError: the sampler refuses a prompt, before the first shard is drawn; a shard there is of another draw.
    """
    return shards_of(folder, pairs, settings, **asked).complete(sampler, claims, advance)
