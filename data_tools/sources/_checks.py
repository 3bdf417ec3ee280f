"""What makes a row of a raw file a broken one."""

from __future__ import annotations

import polars as pl

from data_tools.clean import EMPTY, IDENTICAL
from data_tools.schema import ROLES, SPLITS
from data_tools.sources._broken import MISSING
from data_tools.split import text_of_prompt

MOST = "_most"  # the largest margin that may be

_role = pl.element().struct.field("role")
_content = pl.element().struct.field("content")
# (is a row bad?, its reason, what to say): over a chunk at once; {…} is filled with the bad row's value.
CHECKS: list[tuple[str, pl.Expr, str, str]] = [
    *(
        (column, pl.col(column).is_null(), MISSING, f"key '{column}' is missing or null")
        # The responses before the prompt: a format may take the prompt from them.
        for column in ("pair_id", "source", "chosen", "rejected", "prompt")
    ),
    (
        "prompt",
        pl.col("prompt").list.eval(_role.is_null() | _content.is_null()).list.any(),
        MISSING,
        "a turn of 'prompt' lacks 'role' or 'content'",
    ),
    (
        "prompt",
        ~pl.col("prompt").list.eval(_role.is_in(ROLES)).list.all(),
        "unknown role",
        f"a turn of 'prompt' has an unknown role; there are: {', '.join(ROLES)}",
    ),
    (
        "prompt",
        (pl.col("prompt").list.last().struct.field("role") != "user") | (pl.col("prompt").list.len() == 0),
        "prompt does not end in a user turn",
        "the last turn of 'prompt' should be the user's; leave the response out of it",
    ),
    (
        "margin",
        ~(pl.col("margin").is_finite() & (pl.col("margin") > 0) & (pl.col("margin") <= pl.col(MOST))),
        "margin out of range",
        "margin is {}, it should be above 0 and at most 1, or null where unknown",
    ),
    (
        "split",
        ~pl.col("split").is_in(SPLITS),
        "unknown split",
        f"split is '{{}}'; there are: {', '.join(SPLITS)}",
    ),
]
# What is well-formed and of no use.
USELESS: list[tuple[str, pl.Expr, str, str]] = [
    (
        "chosen",
        (text_of_prompt().str.strip_chars() == "")
        | (pl.col("chosen").str.strip_chars() == "")
        | (pl.col("rejected").str.strip_chars() == ""),
        EMPTY,
        "the prompt or a response is empty",
    ),
    (
        "chosen",
        pl.col("chosen").str.strip_chars() == pl.col("rejected").str.strip_chars(),
        IDENTICAL,
        "chosen and rejected are the same",
    ),
]
