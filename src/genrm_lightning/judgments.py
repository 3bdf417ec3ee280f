"""Preference pairs -> JUDGMENT tables: both orders of every pair, in shards that a killed run need not draw again."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from data_tools.prompts import prompts
from data_tools.told import Told
from genrm_lightning.backbone import context_of, load_renderer
from genrm_lightning.budget import TooLong, fit_rows, judgment_tokens
from genrm_lightning.rendering import Renderer
from genrm_lightning.samplers.base import Request, SamplingSettings
from genrm_lightning.shards import Shards


def requests(
    pairs: pl.DataFrame, template: str, told: Told | None = None, places: Collection[Sequence] | None = None
) -> list[Request]:
    """Both orders of every pair as judge prompts; arguments as of :func:`data_tools.prompts.prompts`."""
    return [Request(*prompt) for prompt in prompts(pairs, template, told, places)]


def fitting(
    pairs: pl.DataFrame,
    judge: str,
    settings: SamplingSettings,
    *,
    template: str,
    told: Told | None,
    too_long: TooLong,
    where: str,
    context: int | None = None,
    aloud: bool = True,
    load: Callable[[str], Renderer] = load_renderer,
) -> pl.DataFrame:
    """The pairs whose judge prompts leave room for a judgment in the context, conversations shortened where needed.

    What was shortened or dropped is said in a line on stderr (``aloud``). Under ``too_long: error`` all pairs: the
    sampler refuses one that leaves no room, and names it.

    Args:
        judge: whose renderer it is, and whose context where ``context`` is None.
        context: of the engine that samples, where it has a limit of its own (``SamplerSettings.context``).
        load: loads the renderer; of a caller that keeps it.

    Raises:
        UserError: no pair fits; names ``where``.
    """
    if too_long == "error":
        return pairs
    whose = "the model" if context is None else "the engine"
    context = context_of(judge) if context is None else context
    if context is None:
        return pairs
    renderer = load(judge)
    room = context - judgment_tokens(renderer, settings.rationale_tokens)

    def excess(rows: pl.DataFrame) -> int:
        return max(len(renderer.prompt(request.messages)) for request in requests(rows, template, told)) - room

    fitted = fit_rows(pairs, excess, renderer, too_long)
    fitted.say(where, f"{whose}'s context of {context} leaves {room} tokens for a judge prompt", aloud)
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
    told: Told | None = None,
    places: Collection[Sequence] | None = None,
    shard_size: int = 64,
) -> Shards:
    """Both orders of every pair as shards in ``folder``.

    Args:
        judge: what the rows call the one who judges.
        purpose: part of every random number's key: "sample" or "evaluate"; so is what is told.
        places: [pair id, swapped] of the prompts wanted; None: all.
        shard_size: judge prompts a shard.
    """
    salt, facts = named(purpose, judge, iteration, seed, told)
    return Shards(Path(folder), requests(pairs, template, told, places), settings, shard_size, salt, facts)


def named(purpose: str, judge: str, iteration: int, seed: int, told: Told | None) -> tuple[str, dict[str, Any]]:
    """A draw's name, and the columns that are the same in all its rows: ``salt`` and ``facts`` of :class:`Shards`."""
    salt = f"{purpose}|{iteration if purpose == 'sample' else 0}|{seed}" + (f"|{told}" if told else "")
    return salt, {"iteration": iteration, "seed": seed, "judge": judge}
