"""Word n-grams of many texts at once, as 64-bit hashes: what near duplicates and contamination are found by.

:mod:`data_tools.words` has the n-grams of one text as tuples. Here a column of texts becomes one long column of
numbers, which polars joins and counts. Two n-grams with the same hash are taken for the same: with a billion different
ones the chance that any two do is 3%. The hashes hold within one version of polars; nothing stores them.
"""

from __future__ import annotations

import polars as pl

from data_tools.order import hash64
from data_tools.words import LETTER, UNSPACED

WORD = rf"{LETTER}|[\w--[{UNSPACED}]]+"


def words(text: pl.Expr) -> pl.Expr:
    """Runs of letters, marks, digits and underscores in lower case, as a list; punctuation separates and is not kept.

    In scripts without spaces a letter is a word: see :mod:`data_tools.words`.

    >>> pl.select(words(pl.lit("Don't panic: 東京!"))).item().to_list()
    ['don', 't', 'panic', '東', '京']
    """
    return text.str.to_lowercase().str.extract_all(WORD)


def grams(texts: pl.DataFrame, n: int, *, seed: int = 0, at: bool = False) -> pl.DataFrame:
    """The word n-grams of each text, in its order, repeats included; none of a text with fewer than ``n`` words.

    Args:
        texts: a list of words in ``_words`` (of :func:`words`), beside any other columns.
        at: also the place of each n-gram's first word in its text, from 0: ``_at``, UInt32.

    Returns:
        A row an n-gram: the other columns of ``texts``, and ``_gram``, UInt64.
    """
    count = pl.col("_words").list.len()
    long = texts.filter(count >= n).with_row_index("_text")
    columns = ["_words"]
    if at:
        long = long.with_columns(_at=pl.int_ranges(0, count, dtype=pl.UInt32))
        columns.append("_at")
    flat = long.explode(columns).with_columns(_gram=pl.col("_words").hash(seed)).drop("_words")
    # A sum with an odd factor a place, modulo 2**64: different orders of the same words differ.
    places = [pl.col("_gram").shift(-k) * pl.lit(hash64("ngram", str(k)) | 1, pl.UInt64) for k in range(n)]
    whole = pl.col("_text") == pl.col("_text").shift(1 - n)  # the last word is one of the same text
    return flat.with_columns(_gram=sum(places[1:], places[0])).filter(whole).drop("_text")
