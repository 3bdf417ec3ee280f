"""What a preference table is counted by, a row in some seventy bytes: the texts themselves are streamed past.

Tables of any size are measured once; :mod:`data_tools.stats` and :mod:`data_tools.label_noise` go on from there.
"""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

from data_tools.order import chosen_is_a
from data_tools.split import normalised_prompt

# Scripts by their letters, as regular expressions know them; Kana and Han are told apart, as Japanese has both.
SCRIPTS = (
    "Latin", "Cyrillic", "Greek", "Arabic", "Hebrew", "Devanagari", "Bengali", "Tamil", "Thai", "Hangul", "Hiragana",
    "Katakana", "Han",
)  # fmt: skip
_AT_ONCE = 500_000  # rows
LETTERS = 200  # characters at the beginning of a prompt's last turn, which its script is read from

MEASURES = pl.Schema(
    {
        "source": pl.Categorical(),
        "category": pl.Categorical(),
        "subset": pl.Categorical(),
        "split": pl.Categorical(),
        "label_kind": pl.Categorical(),
        "prompt_key": pl.UInt64,  # equal for prompts that are equal, letter case and whitespace aside
        "chosen_key": pl.UInt64,  # equal for texts that are equal, outer whitespace aside
        "rejected_key": pl.UInt64,
        "turns": pl.UInt32,  # of the prompt
        "prompt_chars": pl.UInt32,  # of all its turns
        "chosen_chars": pl.UInt32,
        "rejected_chars": pl.UInt32,
        "margin": pl.Float64,
        "chosen_is_a": pl.Boolean,  # in the pair's own order (order.py)
        "prefix": pl.Boolean,  # one response is the beginning of the other
        "script": pl.Categorical(),  # most letters of the last turn are of it; null: it has none, yet is not ASCII
    }
)


def measure(frame: pl.DataFrame | pl.LazyFrame) -> pl.DataFrame:
    """MEASURES of a PREFERENCE table, a row a pair; a lazy one is streamed. Lengths are characters, not bytes.

    The keys are polars' hashes: for comparisons within one process, not to be stored.
    """
    lengths = pl.col("prompt").list.eval(pl.element().struct.field("content").str.len_chars())
    chosen, rejected = pl.col("chosen"), pl.col("rejected")
    table = frame.lazy().select(
        *(pl.col(name).cast(pl.Categorical) for name in ("source", "category", "subset", "split", "label_kind")),
        prompt_key=normalised_prompt().hash(),
        chosen_key=chosen.str.strip_chars().hash(),
        rejected_key=rejected.str.strip_chars().hash(),
        turns=pl.col("prompt").list.len(),
        prompt_chars=lengths.list.sum(),
        chosen_chars=chosen.str.len_chars(),
        rejected_chars=rejected.str.len_chars(),
        margin=pl.col("margin").fill_nan(None),
        chosen_is_a=own_order(),
        prefix=chosen.str.starts_with(rejected) | rejected.str.starts_with(chosen),
        script=_script(pl.col("prompt").list.last().struct.field("content")),
    )
    return table.cast(dict(MEASURES)).select(list(MEASURES)).collect(engine="streaming")


def by_prompt(measured: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """MEASURES some prompts at a time, each with all of its rows: what takes several times their memory takes it of
    half a million rows, however many there are."""
    pieces = -(-measured.height // _AT_ONCE)
    if pieces <= 1:
        yield measured
    else:
        for piece in range(pieces):
            yield measured.filter(pl.col("prompt_key") % pieces == piece)


def own_order() -> pl.Expr:
    """Whether a pair's own order shows the chosen response as A: :func:`data_tools.order.chosen_is_a` of ``pair_id``.

    The project's hash is none of polars', so this is a loop over ids: about a second a million.
    """

    def of(ids: pl.Series) -> pl.Series:
        return pl.Series([chosen_is_a(pair, False) for pair in ids], dtype=pl.Boolean)

    return pl.col("pair_id").map_batches(of, return_dtype=pl.Boolean, is_elementwise=True)


def longer_chosen() -> pl.Expr:
    """Of MEASURES: 1 where the longer response is the chosen one, 0 where the shorter is, a half for a tie."""
    chosen, rejected = pl.col("chosen_chars"), pl.col("rejected_chars")
    return pl.when(chosen == rejected).then(0.5).otherwise((chosen > rejected).cast(pl.Float64))


def _script(text: pl.Expr) -> pl.Expr:
    """ASCII counts as Latin unseen: a regular expression a script would be most of the work."""
    is_ascii = text.str.len_bytes() == text.str.len_chars()
    begin = pl.when(is_ascii).then(pl.lit("a")).otherwise(text.str.slice(0, LETTERS))
    letters = pl.concat_list(begin.str.count_matches(rf"\p{{{name}}}") for name in SCRIPTS)
    most = letters.list.arg_max().replace_strict(dict(enumerate(SCRIPTS)), return_dtype=pl.String)
    return pl.when(letters.list.max() > 0).then(most)
