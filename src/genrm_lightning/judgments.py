"""Preference pairs -> JUDGMENT tables: both orders of every pair, in shards that a killed run need not draw again."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path

import polars as pl

from data_tools.artifact import read_table, write_table
from data_tools.prompts import prompts
from data_tools.schema import JUDGMENT
from data_tools.told import Told
from genrm_lightning.backbone import context_of, load_renderer
from genrm_lightning.budget import TooLong, fit_rows, judgment_tokens
from genrm_lightning.samplers.base import Request, Sampler, SamplingSettings


def requests(
    pairs: pl.DataFrame, template: str, told: Told | None = None, places: Collection[tuple[str, bool]] | None = None
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


def judge_pairs(
    folder: str | Path,
    pairs: pl.DataFrame,
    sampler: Callable[[], Sampler],
    settings: SamplingSettings,
    *,
    template: str,
    judge: str,
    iteration: int,
    seed: int,
    purpose: str,
    told: Told | None = None,
    places: Collection[tuple[str, bool]] | None = None,
    shard: int = 64,
    advance: Callable[[int, int], None] = lambda samples, tokens: None,
) -> pl.DataFrame:
    """Judge every pair in both orders; shards lie in ``folder`` and finished ones are not drawn again.

    Args:
        sampler: makes the sampler, called only if a shard is missing.
        purpose: part of every random number's key: "sample" or "evaluate"; so is what is told.
        places: (pair id, swapped) of the prompts wanted; None: all.
        shard: judge prompts a shard; part of the draw, since batches are formed within shards.
        advance: told how many samples and tokens each finished prompt brought (finished shards included).

    Returns:
        The JUDGMENT rows, sorted by pair, order and sample.

    Raises:
        UserError: the sampler refuses a prompt; before the first shard is drawn.
    """
    folder = Path(folder)
    salt = f"{purpose}|{iteration if purpose == 'sample' else 0}|{seed}" + (f"|{told}" if told else "")
    made: Sampler | None = None
    tables = []
    asked = requests(pairs, template, told, places)
    for number, chunk in enumerate(_chunks(asked, shard)):
        path = folder / f"shard-{number:05d}.parquet"
        if path.exists():
            table = read_table(path, JUDGMENT)
            advance(len(table), int(table["n_tokens"].sum()))
        else:
            if made is None:
                made = sampler()
                made.check(asked, settings)  # the last shard's prompts too: nothing is drawn in vain
            rows = []
            for index, samples in made.sample(chunk, settings, salt):
                request = chunk[index]
                for sample_index, sample in enumerate(samples):
                    own = {"pair_id": request.pair_id, "swapped": request.swapped, "sample_index": sample_index}
                    rows.append({**vars(sample), **own, "iteration": iteration, "seed": seed, "judge": judge})
                advance(len(samples), sum(s.n_tokens for s in samples))
            table = pl.DataFrame(rows, schema=JUDGMENT).sort("pair_id", "swapped", "sample_index")
            write_table(table, path, JUDGMENT)
        tables.append(table)
    return pl.concat([pl.DataFrame(schema=JUDGMENT), *tables]).sort("pair_id", "swapped", "sample_index")


def _chunks(items: list[Request], size: int) -> list[list[Request]]:
    return [items[i : i + size] for i in range(0, len(items), size)]
