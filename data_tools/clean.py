"""Rows that would teach or measure nothing, or the wrong thing, are dropped and counted."""

from __future__ import annotations

import polars as pl

from data_tools.errors import UserError
from data_tools.split import normalised_prompt

EMPTY = "empty prompt or response"
IDENTICAL = "chosen equals rejected"
TOO_LONG = "too long"
IN_TEST = "prompt of a test row"
IN_VALIDATION = "prompt of a validation row"
BOTH_ORDERS = "both orders occur"
REPEAT = "repeat"
REASONS = (EMPTY, IDENTICAL, TOO_LONG, IN_TEST, IN_VALIDATION, BOTH_ORDERS, REPEAT)


def clean(frame: pl.DataFrame, *, max_chars: int | None = None) -> tuple[pl.DataFrame, dict[str, int]]:
    """PREFERENCE without unusable rows, in the same order, and how many rows went for each reason.

    Each row counts once, under the first reason that applies:

    - ``empty prompt or response``: nothing but whitespace;
    - ``chosen equals rejected``: apart from outer whitespace;
    - ``too long``: prompt and longer response have more than ``max_chars`` characters together;
    - ``prompt of a test row``: a row of train, validation or no split whose normalised prompt is also a test prompt;
    - ``prompt of a validation row``: likewise a train row and a validation prompt;
    - ``both orders occur``: the same two responses to the same prompt are preferred both ways; all of them go,
      for which one is right is unknown;
    - ``repeat``: prompt and responses occurred before; of several the one with the smallest pair id stays.

    Raises:
        UserError: ``max_chars`` below 1.
    """
    if max_chars is not None and max_chars < 1:
        raise UserError(f"max_chars={max_chars}: must be at least 1")
    chosen, rejected = pl.col("chosen").str.strip_chars(), pl.col("rejected").str.strip_chars()
    contents = pl.col("prompt").list.eval(pl.element().struct.field("content")).list.join("\n")
    length = contents.str.len_chars() + pl.max_horizontal(
        pl.col("chosen").str.len_chars(), pl.col("rejected").str.len_chars()
    )
    turns = pl.element().struct.field("role") + "\x1f" + pl.element().struct.field("content").str.strip_chars()
    working = frame.with_row_index("_row").select(
        "_row",
        "pair_id",
        "split",
        _chosen=chosen,
        _rejected=rejected,
        _length=length,
        _key=normalised_prompt(),
        _prompt=pl.col("prompt").list.eval(turns).list.join("\x1e"),
    )
    counts: dict[str, int] = {}

    def drop(reason: str, bad: pl.Expr) -> None:
        nonlocal working
        kept = working.filter(~bad.fill_null(False))
        counts[reason] = working.height - kept.height
        working = kept

    def prompts_of(split: str) -> list[str]:
        return working.filter(pl.col("split") == split)["_key"].unique().to_list()

    drop(EMPTY, (pl.col("_key") == "") | (pl.col("_chosen") == "") | (pl.col("_rejected") == ""))
    drop(IDENTICAL, pl.col("_chosen") == pl.col("_rejected"))
    # Too long a test row is a test prompt all the same, so the prompts are looked up before it goes.
    test, validation = prompts_of("test"), prompts_of("validation")
    drop(TOO_LONG, pl.col("_length") > (max_chars or float("inf")))
    drop(IN_TEST, pl.col("split").ne_missing("test") & pl.col("_key").is_in(test))
    drop(IN_VALIDATION, (pl.col("split") == "train") & pl.col("_key").is_in(validation))
    # Rows of one prompt are in one split now, so neither of these can drop a test row for a training row's sake.
    couple = ["_prompt", pl.min_horizontal("_chosen", "_rejected"), pl.max_horizontal("_chosen", "_rejected")]
    drop(BOTH_ORDERS, pl.col("_chosen").n_unique().over(couple) > 1)
    working = working.sort("pair_id", "_row")
    drop(REPEAT, ~pl.struct("_prompt", "_chosen", "_rejected").is_first_distinct())
    return frame[working["_row"].sort()], counts
