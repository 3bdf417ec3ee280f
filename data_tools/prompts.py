"""The judge prompts of a table of pairs: both orders of every pair, as a sampler or any other model is to see them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

import polars as pl

from data_tools.judging import Verdict, render_prompt
from data_tools.order import hash64, responses
from data_tools.told import Told


def prompts(
    pairs: pl.DataFrame, template: str, told: Told | None = None, places: Collection[Sequence] | None = None
) -> Iterator[tuple[str, bool, list[dict[str, str]]]]:
    """(pair id, swapped, chat messages) of both orders of every pair, in the order of the pair ids' hashes.

    Args:
        pairs: PREFERENCE.
        template: name of the judge prompt.
        told: tell the right answer (post-rationalization), or the wrong one as if it were right; never for evaluation.
        places: [pair id, swapped] of those wanted; None: all.
    """
    wanted = None if places is None else {(pair, swapped) for pair, swapped in places}
    for row in sorted(pairs.iter_rows(named=True), key=lambda row: (hash64("shard", row["pair_id"]), row["pair_id"])):
        for swapped in (False, True):
            if wanted is not None and (row["pair_id"], swapped) not in wanted:
                continue
            a, b, right = responses(row["pair_id"], swapped, row["chosen"], row["rejected"])
            wrong = "B" if right == "A" else "A"
            answer = None if told is None else Verdict({"right": right, "wrong": wrong}[told])
            yield row["pair_id"], swapped, render_prompt(row["prompt"], a, b, template, answer)
