"""The three tables of the project as polars schemas (architecture: docs/architecture.md).

PREFERENCE  pairs of responses to one conversation, with the one people prefer
JUDGMENT    one row a sampled rationale with its verdict
EXAMPLE     one row a training example for a judge
"""

from __future__ import annotations

from typing import TypeVar

import polars as pl

from data_tools.errors import UserError

Frame = TypeVar("Frame", pl.DataFrame, pl.LazyFrame)

MESSAGES = pl.List(pl.Struct({"role": pl.String, "content": pl.String}))

PREFERENCE = pl.Schema(
    {
        "pair_id": pl.String,
        "group_id": pl.String,  # ties the pairs of one N-way comparison; null where there is none
        "source": pl.String,
        "category": pl.String,
        "subset": pl.String,
        "split": pl.String,
        "prompt": MESSAGES,  # the last turn is the user's
        "chosen": pl.String,
        "rejected": pl.String,
        "margin": pl.Float64,  # strength of the preference in (0, 1]; null = unknown
        "label_kind": pl.String,
    }
)

JUDGMENT = pl.Schema(
    {
        "pair_id": pl.String,
        "swapped": pl.Boolean,  # False: the order that order.py draws for the pair; True: the other one
        "iteration": pl.Int32,
        "sample_index": pl.Int32,
        "rationale": pl.String,
        # Rationale, verdict frame, voted letter, end: what training takes; null: tokenise the text (a server's).
        "token_ids": pl.List(pl.Int32),
        "verdict": pl.String,  # what the model's own text says: A, B or INVALID
        "vote": pl.String,  # A or B: drawn from p_a at the forced verdict, so every sample casts one
        "p_a": pl.Float32,  # probability of A among {A, B} at the forced verdict
        "logp": pl.Float32,  # summed over the rationale's tokens, nats; null where a server does not tell
        "mean_token_prob": pl.Float32,  # of the rationale's tokens; null likewise
        "n_tokens": pl.Int32,  # of the rationale
        "finish_reason": pl.String,  # stop (the model ended it) or length (the budget did)
        "seed": pl.Int64,
        "judge": pl.String,
    }
)

EXAMPLE = pl.Schema(
    {
        "pair_id": pl.String,
        "swapped": pl.Boolean,
        "prompt": MESSAGES,  # the judge prompt, without any hint of the answer
        "completion": pl.String,  # rationale and verdict
        "completion_ids": pl.List(pl.Int32),  # the same as sampled; null or empty: tokenise the text
        "rejected_completion": pl.String,
        "rejected_ids": pl.List(pl.Int32),
        "ref_logp": pl.Float32,  # of the completion under the reference policy, nats; filled by `score`
        "ref_rejected_logp": pl.Float32,
    }
)

TABLES = {"PREFERENCE": PREFERENCE, "JUDGMENT": JUDGMENT, "EXAMPLE": EXAMPLE}
SPLITS = ("train", "validation", "test")
ROLES = ("system", "user", "assistant")


def conform(frame: pl.DataFrame | pl.LazyFrame, schema: pl.Schema):
    """Select the schema's columns in its order; absent ones become null. Works on frames and lazy frames."""
    present = frame.collect_schema().names()
    return frame.select(
        (pl.col(name) if name in present else pl.lit(None)).cast(dtype).alias(name) for name, dtype in schema.items()
    )


def check(frame: Frame, schema: pl.Schema, where: object) -> Frame:
    """Return ``frame`` if it has exactly the schema's columns and types. Works on frames and lazy frames.

    Raises:
        UserError: naming ``where`` (the file the frame came from), the column, and what was expected.
    """
    found = frame.collect_schema()
    name = next((n for n, s in TABLES.items() if s == schema), "table")
    for column, dtype in schema.items():
        if column not in found:
            raise UserError(f"{where}: column '{column}' is missing; a {name} table has {', '.join(schema)}")
        if found[column] != dtype:
            raise UserError(f"{where}: column '{column}' is {found[column]}, a {name} table has {dtype} there")
    return frame.select(list(schema))


_role = pl.element().struct.field("role")
_content = pl.element().struct.field("content")
# Table -> (column, is a row bad?, what to say): what a file must hold beside columns and types.
_VALUES: dict[str, list[tuple[str, pl.Expr, str]]] = {
    "PREFERENCE": [
        *((column, pl.col(column).is_null(), "is null") for column in ("pair_id", "prompt", "chosen", "rejected")),
        ("prompt", pl.col("prompt").list.len() == 0, "has no turns"),
        (
            "prompt",
            pl.col("prompt").list.eval(pl.element().is_null() | _role.is_null() | _content.is_null()).list.any(),
            "has a turn without role or content",
        ),
        (
            "prompt",
            ~pl.col("prompt").list.eval(_role.is_in(ROLES)).list.all(),
            f"has a turn of an unknown role; there are: {', '.join(ROLES)}",
        ),
    ],
    "JUDGMENT": [(column, pl.col(column).is_null(), "is null") for column in ("pair_id", "swapped")],
}


def check_values(frame: Frame, schema: pl.Schema, where: object) -> Frame:
    """Return ``frame`` if it holds the values that every reader of such a table relies on; a lazy one is streamed.

    A PREFERENCE row has a pair id, a prompt of whole turns of known roles, and two responses; a JUDGMENT row has a
    pair id and an order. Other columns may be null, and other tables are not looked at.

    Args:
        frame: a table that :func:`check` has passed.

    Raises:
        UserError: naming ``where``, the first bad row (from 1), its column and what is wrong.
    """
    checks = next((_VALUES.get(name, []) for name, known in TABLES.items() if known == schema), [])
    rows = frame.lazy().with_row_index("_row")
    bad_rows = [pl.col("_row").filter(bad).min().alias(str(i)) for i, (_, bad, _) in enumerate(checks)]
    firsts = rows.select(bad_rows).collect(engine="streaming").row(0) if checks else ()
    found = [(row, i) for i, row in enumerate(firsts) if row is not None]
    if found:
        row, i = min(found)
        column, _, message = checks[i]
        raise UserError(f"{where}: row {row + 1}: column '{column}' {message}; correct the row or leave it out")
    return frame


def check_unique_ids(frame: pl.DataFrame, where: object) -> pl.DataFrame:
    """Return ``frame`` if each of its pair ids stands for one row: A/B order and samples are drawn from the id.

    Raises:
        UserError: naming ``where`` (the files the frame came from) and the smallest id that occurs again.
    """
    twice = frame.filter(pl.col("pair_id").is_duplicated())["pair_id"]
    if not twice.is_empty():
        rows = int((twice == twice.min()).sum())
        raise UserError(f"{where}: id '{twice.min()}' stands for {rows} rows; make the ids unique")
    return frame
