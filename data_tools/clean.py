"""Rows that would teach or measure nothing, or the wrong thing, are dropped and counted.

Everything is decided on a narrow table: a row's place, its id, and 64-bit hashes of its texts. All rules but the first
three look at rows of one prompt only, so a narrow table may be cut by prompts and decided a piece at a time.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from data_tools import passes
from data_tools.errors import UserError
from data_tools.split import normalised_prompt, text_of_prompt

EMPTY = "empty prompt or response"
IDENTICAL = "chosen equals rejected"
TOO_LONG = "too long"
IN_TEST = "prompt of a test row"
IN_VALIDATION = "prompt of a validation row"
BOTH_ORDERS = "both orders occur"
REPEAT = "repeat"
REASONS = (EMPTY, IDENTICAL, TOO_LONG, IN_TEST, IN_VALIDATION, BOTH_ORDERS, REPEAT)
REASON = pl.Enum(REASONS)


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

    Texts are compared by 64-bit hashes: two of ten million different ones are taken for the same with a chance of three
    in a million.

    Raises:
        UserError: ``max_chars`` below 1.
    """
    texts = frame.lazy().with_row_index("_row").with_columns(_text=normalised_prompt())
    found = reasons(texts.select("_row", "split", *narrow()).collect(), max_chars=max_chars)
    return frame.filter(found["reason"].is_null()), count(found["reason"])


def clean_file(
    table: pl.LazyFrame, scratch: Path, *, max_chars: int | None = None, at_once: int = 8_000_000
) -> pl.Series:
    """Why each row of a table goes (one of REASONS; null: it stays), as :func:`clean` says, in bounded memory.

    Args:
        table: PREFERENCE.
        scratch: folder for a narrow table.
        at_once: rows of it that are decided at once.
    """
    file = passes.narrowed(table, [pl.col("split"), *narrow()], scratch)
    return passes.decided([file], lambda rows: reasons(rows, max_chars=max_chars), at_once)["reason"]


def count(reason: pl.Series) -> dict[str, int]:
    """Rows by reason, in the order of the rules."""
    found = dict(reason.drop_nulls().value_counts().iter_rows())
    return {name: found.get(name, 0) for name in REASONS}


def narrow() -> list[pl.Expr]:
    """What :func:`reasons` looks at, of PREFERENCE with ``_text``, the normalised prompt; hashes hold in a process."""
    chosen, rejected = pl.col("chosen").str.strip_chars(), pl.col("rejected").str.strip_chars()
    length = text_of_prompt().str.len_chars() + pl.max_horizontal(
        pl.col("chosen").str.len_chars(), pl.col("rejected").str.len_chars()
    )
    turns = pl.element().struct.field("role") + "\x1f" + pl.element().struct.field("content").str.strip_chars()
    return [
        pl.col("pair_id"),
        ((pl.col("_text") == "") | (chosen == "") | (rejected == "")).alias("_empty"),
        length.alias("_length"),
        pl.col("_text").hash().alias("_key"),
        pl.col("prompt").list.eval(turns).list.join("\x1e").hash().alias("_prompt"),
        chosen.hash().alias("_chosen"),
        rejected.hash().alias("_rejected"),
    ]


def reasons(rows: pl.DataFrame, *, max_chars: int | None = None) -> pl.DataFrame:
    """``_row`` and ``reason`` (one of REASONS, null: it stays) of a narrow table, in its order.

    Args:
        rows: ``_row``, ``split`` and the columns of :func:`narrow`; either all rows of a normalised prompt or none.

    Raises:
        UserError: ``max_chars`` below 1.
    """
    if max_chars is not None and max_chars < 1:
        raise UserError(f"max_chars={max_chars}: must be at least 1")
    split, key = pl.col("split"), pl.col("_key")
    row_of_itself = (
        pl.when(pl.col("_empty"))
        .then(pl.lit(EMPTY))
        .when(pl.col("_chosen") == pl.col("_rejected"))
        .then(pl.lit(IDENTICAL))
    )
    rows = rows.with_columns(reason=row_of_itself.cast(REASON))
    # Too long a test row is a test prompt all the same, so the prompts are looked up before it goes.
    held = {
        name: rows.lazy().filter(pl.col("reason").is_null(), split == name).select(key.unique()).collect()["_key"]
        for name in ("test", "validation")
    }

    def drop(reason: str, bad: pl.Expr) -> None:
        nonlocal rows
        free = pl.col("reason").is_null()
        rows = rows.with_columns(pl.when(free & bad).then(pl.lit(reason, REASON)).otherwise("reason").alias("reason"))

    drop(TOO_LONG, pl.col("_length") > (max_chars or float("inf")))
    drop(IN_TEST, split.ne_missing("test") & key.is_in(held["test"].implode()))
    drop(IN_VALIDATION, (split == "train") & key.is_in(held["validation"].implode()))
    # Rows of one prompt are in one split now, so neither of these can drop a test row for a training row's sake. Few
    # rows occur again: the others need no comparison.
    one = pl.min_horizontal("_chosen", "_rejected"), pl.max_horizontal("_chosen", "_rejected")
    left = rows.filter(pl.col("reason").is_null()).with_columns(_one=one[0], _other=one[1])
    couple = ["_prompt", "_one", "_other"]
    again = left.filter(pl.struct(couple).is_duplicated()).sort("pair_id", "_row")
    both = pl.col("_chosen").n_unique().over(couple) > 1
    why = again.with_columns(
        reason=pl.when(both)
        .then(pl.lit(BOTH_ORDERS, REASON))
        .when(~pl.struct(couple).is_first_distinct())
        .then(pl.lit(REPEAT, REASON))
    )
    return rows.select("_row", "reason").update(
        why.filter(pl.col("reason").is_not_null()).select("_row", "reason"), on="_row"
    )
