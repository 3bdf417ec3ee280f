"""What formats share: where a pair came from, turns of conversations, and pairs out of N-way rows.

Every function here makes or takes polars expressions; nothing is collected.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import polars as pl

from data_tools.order import hash64
from data_tools.schema import MESSAGES

ROW = "_row"  # line or number (from 1) of the raw row that a pair came from
LEFT_OUT = "_left_out"  # why a comparison is no pair; null: it is one

TIE = "tie"
DIVERGES = "conversations differ before the last turn"
ALONE = "no response to compare with"
OVER = "more pairs of a prompt than --max-pairs-per-prompt"
TIMES = "_times"  # how many comparisons a row with LEFT_OUT stands for; null: one
# Whole are 16 x 16 responses, or 23 that are ranked: more than N-way sets have (UltraFeedback 4, Nectar 7). Others
# share their texts with those, and n x m of hundreds of responses would fill any memory.
MOST_PAIRS = 256

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
        folder: the name of the folder that the file lies in.
        most: pairs of a prompt.
    """

    frame: pl.LazyFrame
    first: dict[str, Any]
    stem: str
    folder: str = ""
    most: int = MOST_PAIRS


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


def each_with_each(frame: pl.LazyFrame, identity: str, most: int = MOST_PAIRS) -> pl.LazyFrame:
    """A row for each of the list ``chosen`` with each of the list ``rejected``.

    ``group_id`` becomes the column ``identity``, ``pair_id`` the same with both places (from 0): ``id/1-2``;
    ``_i`` and ``_j`` keep the places. Of more than ``most`` pairs so many are drawn (:func:`drawn`), and one more row
    says in ``LEFT_OUT`` and ``TIMES`` how many were not.
    """
    n, m = (pl.col(side).list.len().fill_null(0).cast(pl.Int64) for side in ("chosen", "rejected"))
    frame = frame.with_columns(group_id=pl.col(identity), _pairs=n * m)
    places = {place: pl.int_ranges(pl.col(side).list.len()) for place, side in (("_i", "chosen"), ("_j", "rejected"))}
    few = frame.filter(pl.col("_pairs") <= most).with_columns(**places)
    # Of an empty list a row stays, without a response: it is an error to tell and not a row less.
    few = few.explode("chosen", "_i", empty_as_null=True).explode("rejected", "_j", empty_as_null=True)
    many = _some(frame.filter(pl.col("_pairs") > most), most).with_columns(
        _i=pl.col("_pair") // m, _j=pl.col("_pair") % m
    )
    many = many.with_columns(chosen=pl.col("chosen").list.get("_i"), rejected=pl.col("rejected").list.get("_j"))
    both = pl.concat([few, many], how="diagonal").sort(ROW, maintain_order=True)
    left_out = pl.when(pl.col(TIMES).is_not_null()).then(pl.lit(OVER)).alias(LEFT_OUT)
    return both.with_columns(left_out, pair_id=_placed()).drop("_pairs", "_pair")


def ranked(frame: pl.LazyFrame, responses: str, identity: str, most: int = MOST_PAIRS) -> pl.LazyFrame:
    """A row for every two of the list ``responses`` of structs (``text``, ``score``): the higher score is chosen.

    As :func:`each_with_each`, and with ``gap``, the difference of the scores. Equal scores are left out as ties, and so
    are rows of fewer than two responses, once each. A null score makes ``chosen`` null.
    """
    n = pl.col(responses).list.len()
    whole = n.fill_null(0).cast(pl.Int64)
    frame = frame.with_columns(group_id=pl.col(identity), _n=n, _pairs=whole * (whole - 1) // 2)
    sides = {side: pl.col(responses) for side in ("_a", "_b")}
    places = {place: pl.int_ranges(pl.col(responses).list.len()) for place in ("_p", "_q")}
    few = frame.filter(pl.col("_pairs") <= most).with_columns(**sides, **places)
    few = few.explode("_a", "_p", empty_as_null=True).explode("_b", "_q", empty_as_null=True)
    few = few.filter((pl.col("_p") < pl.col("_q")) | (pl.col("_n") < 2).fill_null(True))
    # Pairs in the order 0-1, 0-2, 1-2, 0-3: those of q begin at q (q - 1) / 2.
    later = ((1 + (1 + 8 * pl.col("_pair")).sqrt()) / 2).floor().cast(pl.Int64)
    many = _some(frame.filter(pl.col("_pairs") > most), most).with_columns(_q=later)
    many = many.with_columns(_p=pl.col("_pair") - pl.col("_q") * (pl.col("_q") - 1) // 2)
    many = many.with_columns(_a=pl.col(responses).list.get("_p"), _b=pl.col(responses).list.get("_q"))
    both = pl.concat([few, many], how="diagonal").sort(ROW, maintain_order=True).drop("_pairs", "_pair")
    scores = (pl.col(side).struct.field("score") for side in ("_a", "_b"))
    a, b = (pl.when(score.is_finite()).then(score) for score in scores)
    first = a > b
    text = {side: pl.col(side).struct.field("text") for side in ("_a", "_b")}
    both = both.with_columns(
        chosen=pl.when(first).then(text["_a"]).when(a <= b).then(text["_b"]),
        rejected=pl.when(first).then(text["_b"]).when(a <= b).then(text["_a"]),
        _i=pl.when(first).then("_p").otherwise("_q"),
        _j=pl.when(first).then("_q").otherwise("_p"),
        gap=(a - b).abs(),
    )
    why = pl.when(pl.col(TIMES).is_not_null()).then(pl.lit(OVER)).when(pl.col("_n") < 2).then(pl.lit(ALONE))
    return both.with_columns(why.when(a == b).then(pl.lit(TIE)).alias(LEFT_OUT), pair_id=_placed())


def drawn(identity: str, pairs: int, most: int) -> list[int]:
    """``most`` of the numbers below ``pairs``, in order: by a hash of ``identity`` alone, so the same in every run,
    wherever the row stands."""
    fewer = min(most, pairs - most)  # what is taken, or what is not
    found: set[int] = set()
    draw = 0
    while len(found) < fewer:
        found.add(hash64(f"pairs {draw}", identity) % pairs)
        draw += 1
    return sorted(found) if fewer == most else [i for i in range(pairs) if i not in found]


def _some(frame: pl.LazyFrame, most: int) -> pl.LazyFrame:
    """A row for each of ``most`` of a row's ``_pairs``: ``_pair``; and one with ``TIMES``, the number of the others."""

    def draw(rows: pl.Series) -> pl.Series:
        made = [
            [*({"_pair": i, TIMES: None} for i in drawn(str(row["group_id"]), row["_pairs"], most)),
             {"_pair": None, TIMES: row["_pairs"] - most}]
            for row in rows
        ]  # fmt: skip
        return pl.Series(made, dtype=kind)

    kind = pl.List(pl.Struct({"_pair": pl.Int64, TIMES: pl.Int64}))
    some = pl.struct("group_id", "_pairs").map_batches(draw, return_dtype=kind)
    return frame.with_columns(_some=some).explode("_some").unnest("_some")


def _placed() -> pl.Expr:
    # A list that is not there has no places, but an id: what is missing is a response.
    return pl.format("{}/{}-{}", "group_id", pl.col("_i").fill_null(0), pl.col("_j").fill_null(0))
