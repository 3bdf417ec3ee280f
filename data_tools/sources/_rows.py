"""What formats share: where a pair came from, turns of conversations, and pairs out of N-way rows.

Every function here makes or takes polars expressions; nothing is collected.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import polars as pl

from data_tools.schema import MESSAGES

ROW = "_row"  # line or number (from 1) of the raw row that a pair came from
LEFT_OUT = "_left_out"  # why a comparison is no pair; null: it is one

TIE = "tie"
DIVERGES = "conversations differ before the last turn"
ALONE = "no response to compare with"

# Optional keys of the formats that trainers define, so that a row can say what PREFERENCE has room for.
EXTRAS = dict.fromkeys(("id", "group_id", "source", "category", "subset", "label_kind", "split"), pl.String)
SHAREGPT = pl.List(pl.Struct({"from": pl.String, "value": pl.String}))
_ROLES = {"human": "user", "gpt": "assistant"}


@dataclass(frozen=True)
class Rows:
    """A raw file as a format sees it.

    Attributes:
        frame: the columns of the format's ``schema`` and ``ROW``, rows in the file's order; absent keys are null.
        first: the first row.
        stem: the file's name up to its first dot.
    """

    frame: pl.LazyFrame
    first: dict[str, Any]
    stem: str


def has_turns(value: Any) -> bool:
    """Whether a value of a first row is a list of objects, and not one of texts."""
    return isinstance(value, list) and all(isinstance(turn, dict) for turn in value)


def has_texts(value: Any) -> bool:
    """Whether a value of a first row is a list of texts."""
    return isinstance(value, list) and all(isinstance(text, str) for text in value)


def user_turn(text: pl.Expr) -> pl.Expr:
    """MESSAGES of one user turn; null where the text is."""
    turn = pl.struct(role=pl.lit("user"), content=text)
    return pl.when(text.is_not_null()).then(pl.concat_list(turn)).cast(MESSAGES)


def before_last(turns: pl.Expr) -> pl.Expr:
    """All turns but the last."""
    return turns.list.head(turns.list.len().cast(pl.Int64) - 1)


def response(turns: pl.Expr) -> pl.Expr:
    """The text of the last turn; null where that is not the assistant's."""
    last = turns.list.last()
    return pl.when(last.struct.field("role") == "assistant").then(last.struct.field("content"))


def messages(turns: pl.Expr) -> pl.Expr:
    """MESSAGES of ShareGPT's turns (``from``, ``value``); roles that it has no name for stay, and are refused later."""
    turn = pl.element().struct
    return turns.list.eval(
        pl.struct(role=turn.field("from").replace(_ROLES), content=turn.field("value"))
    ).cast(MESSAGES)  # fmt: skip


def diverging(one: pl.Expr, other: pl.Expr) -> pl.Expr:
    """``DIVERGES`` where two conversations, both there, differ before their last turn: they have no common prompt."""
    both = one.is_not_null() & other.is_not_null()
    return pl.when(both & before_last(one).ne_missing(before_last(other))).then(pl.lit(DIVERGES))


def content_hash(*columns: str) -> pl.Expr:
    """16 hexadecimal digits of the columns, of a pair's prompt and responses unless named: the same content has the
    same hash in every file and order."""
    return pl.struct(*(columns or ("prompt", "chosen", "rejected"))).map_batches(_hashes, return_dtype=pl.String)


def _hashes(rows: pl.Series) -> pl.Series:
    """:func:`~data_tools.order.hash64` of salt ``pair`` over the fields' texts, which polars joins: the loop over the
    rows does nothing but hash."""
    fields = (_text(name, dtype).fill_null("") for name, dtype in rows.struct.schema.items())
    texts = rows.struct.unnest().select(pl.concat_str(fields, separator="\x1d")).to_series()
    return pl.Series([blake2b(b"pair|" + text.encode(), digest_size=8).hexdigest() for text in texts], dtype=pl.String)


def _text(name: str, dtype: pl.DataType) -> pl.Expr:
    """A column as text, with separators that no text has: records \x1e, their fields \x1f."""
    if isinstance(dtype, pl.List):
        fields = (
            [_field(field) for field in dtype.inner.fields] if isinstance(dtype.inner, pl.Struct) else [pl.element()]
        )
        return pl.col(name).list.eval(pl.concat_str(fields, separator="\x1f")).list.join("\x1e", ignore_nulls=True)
    return pl.col(name).cast(pl.String)


def _field(field: pl.Field) -> pl.Expr:
    return pl.element().struct.field(field.name).cast(pl.String).fill_null("")


def identified(frame: pl.LazyFrame, rows: Rows) -> pl.LazyFrame:
    """With ``pair_id`` (the key ``id`` where the first row has one, else a hash of the content) and a ``source`` (the
    file's name where the row has none)."""
    identity = pl.col("id") if rows.first.get("id") is not None else content_hash()
    return frame.with_columns(pair_id=identity, source=pl.col("source").fill_null(rows.stem))


def each_with_each(frame: pl.LazyFrame, identity: str) -> pl.LazyFrame:
    """A row for each of the list ``chosen`` with each of the list ``rejected``.

    ``group_id`` becomes the column ``identity``, ``pair_id`` the same with both places (from 0): ``id/1-2``;
    ``_i`` and ``_j`` keep the places.
    """
    places = {place: pl.int_ranges(pl.col(side).list.len()) for place, side in (("_i", "chosen"), ("_j", "rejected"))}
    frame = frame.with_columns(group_id=pl.col(identity), **places)
    # Of an empty list a row stays, without a response: it is an error to tell and not a row less.
    frame = frame.explode("chosen", "_i", empty_as_null=True).explode("rejected", "_j", empty_as_null=True)
    return frame.with_columns(pair_id=_placed())


def ranked(frame: pl.LazyFrame, responses: str, identity: str) -> pl.LazyFrame:
    """A row for every two of the list ``responses`` of structs (``text``, ``score``): the higher score is chosen.

    As :func:`each_with_each`, and with ``gap``, the difference of the scores. Equal scores are left out as ties, and so
    are rows of fewer than two responses, once each. A null score makes ``chosen`` null.
    """
    sides = {side: pl.col(responses) for side in ("_a", "_b")}
    places = {place: pl.int_ranges(pl.col(responses).list.len()) for place in ("_p", "_q")}
    n = pl.col(responses).list.len()
    scores = (pl.col(side).struct.field("score") for side in ("_a", "_b"))
    a, b = (pl.when(score.is_finite()).then(score) for score in scores)
    first = a > b
    frame = frame.with_columns(group_id=pl.col(identity), _n=n, **sides, **places)
    frame = frame.explode("_a", "_p", empty_as_null=True).explode("_b", "_q", empty_as_null=True)
    frame = frame.filter((pl.col("_p") < pl.col("_q")) | (pl.col("_n") < 2).fill_null(True))
    text = {side: pl.col(side).struct.field("text") for side in ("_a", "_b")}
    frame = frame.with_columns(
        chosen=pl.when(first).then(text["_a"]).when(a <= b).then(text["_b"]),
        rejected=pl.when(first).then(text["_b"]).when(a <= b).then(text["_a"]),
        _i=pl.when(first).then("_p").otherwise("_q"),
        _j=pl.when(first).then("_q").otherwise("_p"),
        gap=(a - b).abs(),
    )
    why = pl.when(pl.col("_n") < 2).then(pl.lit(ALONE)).when(a == b).then(pl.lit(TIE))
    return frame.with_columns(why.alias(LEFT_OUT), pair_id=_placed())


def _placed() -> pl.Expr:
    # A list that is not there has no places, but an id: what is missing is a response.
    return pl.format("{}/{}-{}", "group_id", pl.col("_i").fill_null(0), pl.col("_j").fill_null(0))
