"""Words of many texts at once, as numbers: what :mod:`data_tools.words` says of one text, for tables of millions.

No text is split by a regular expression here: texts are cut at spaces, and only the distinct pieces, a few thousand
where the texts have millions, are taken apart into words.
"""

from __future__ import annotations

from collections.abc import Callable

import polars as pl

from data_tools.order import hash64
from data_tools.words import LETTER, NGRAM, UNSPACED

# words.words in the syntax of polars, whose own \w counts combining marks as letters.
WORD = rf"{LETTER}|[\p{{L}}\p{{N}}_--[{UNSPACED}]]+"
BATCH = 16_384  # texts at a time: about 100 MB of words at 500 characters a text


def by_batch(frame: pl.LazyFrame, keep: Callable[[pl.Series], pl.Series]) -> pl.LazyFrame:
    """The rows whose rationale ``keep`` says True of; it is given a batch of texts, and the engine may stream."""

    def some(rows: pl.DataFrame) -> pl.DataFrame:
        kept = [part.filter(keep(part["rationale"])) for part in rows.iter_slices(BATCH)]
        return pl.concat(kept) if kept else rows

    return frame.map_batches(some, streamable=True)


def word_codes(texts: pl.Series) -> tuple[pl.DataFrame, pl.Series]:
    """The words of texts, in their order, and the vocabulary.

    Returns:
        ``text`` (index of the text) and ``word`` (index into the vocabulary), a row a word; the vocabulary, in lower
        case. A text without words has no rows.
    """
    pieces = pl.DataFrame({"text": _indices(len(texts)), "piece": texts.str.split(" ")}).explode("piece")
    codes, distinct = _coded(pieces["piece"])
    words = distinct.str.to_lowercase().str.extract_all(WORD)
    flat, vocabulary = _coded(words.explode(empty_as_null=True))
    # A piece is mostly one word, "and/or" is two, a dash is none.
    of_piece = pl.DataFrame({"piece": _indices(len(words)), "word": words}).explode("word", empty_as_null=True)
    lists = of_piece.with_columns(word=flat).group_by("piece", maintain_order=True).agg("word")["word"]
    return pieces.select("text", word=lists.gather(codes)).explode("word").drop_nulls("word"), vocabulary


def _coded(strings: pl.Series) -> tuple[pl.Series, pl.Series]:
    """Numbers in place of strings, null for null, and the string of each number."""
    coded = strings.cast(pl.Categorical(pl.Categories.random()))
    numbers = coded.to_physical()
    distinct = coded.drop_nulls().unique()
    known = pl.DataFrame({"number": distinct.to_physical(), "string": distinct.cast(pl.String)})
    every = pl.DataFrame({"number": _indices((numbers.max() or 0) + 1).cast(numbers.dtype)})
    return numbers, every.join(known, on="number", how="left", maintain_order="left")["string"].fill_null("")


def _indices(n: int) -> pl.Series:
    return pl.int_range(n, dtype=pl.UInt32, eager=True)


def repetition(texts: pl.Series, n: int = NGRAM) -> pl.DataFrame:
    """How much each text repeats itself.

    Returns:
        A row a text: ``distinct_share``, as words.distinct_share; ``longest_run``, how often a word is repeated in
        immediate succession, at most (1: never, 0: no words).
    """
    words, vocabulary = word_codes(texts)
    text, word = pl.col("text"), pl.col("word")
    # Packed into one number: equal numbers are equal n-grams.
    bits = max(1, (len(vocabulary) - 1).bit_length())
    code = word.cast(pl.UInt64 if n * bits <= 64 else pl.UInt128)
    gram = sum((code.shift(-i) * (1 << bits * (n - 1 - i)) for i in range(1, n)), code * (1 << bits * (n - 1)))
    grams = words.select("text", gram=gram, whole=text == text.shift(1 - n)).filter("whole")
    grams = grams.with_columns(text.set_sorted()).group_by("text").agg(pl.col("gram").n_unique(), all=pl.len())
    # A word like the one before it; those that follow one another keep their distance from their own number.
    again = words.with_row_index().filter((word == word.shift(1)) & (text == text.shift(1)))
    runs = again.group_by("text", run=pl.col("index") - pl.int_range(pl.len())).len()
    runs = runs.group_by("text").agg(longest_run=pl.col("len").max() + 1)
    rows = pl.DataFrame({"text": _indices(len(texts))})
    for measured in (words.select("text", some=pl.lit(1)).unique("text"), grams, runs):
        rows = rows.join(measured, on="text", how="left", maintain_order="left")
    return rows.select(
        distinct_share=(pl.col("gram") / pl.col("all")).fill_null(1.0),
        longest_run=pl.col("longest_run").fill_null(pl.col("some")).fill_null(0),
    )


def sketches(frame: pl.LazyFrame, bins: int, n: int = NGRAM) -> pl.LazyFrame:
    """In place of the rationale ``_0`` … of its set of word n-grams, 16 bits each: equal sets give equal sketches.

    A hash deals the n-grams out to the bins; of each the least is kept, null where there is none. The share of equal
    bins estimates the share of common n-grams.
    """
    names = [f"_{i}" for i in range(bins)]

    def some(rows: pl.DataFrame) -> pl.DataFrame:
        parts = [part.drop("rationale").hstack(_sketch(part["rationale"], bins, n)) for part in rows.iter_slices(BATCH)]
        empty = pl.DataFrame(schema=dict.fromkeys(names, pl.UInt16))
        return pl.concat(parts) if parts else rows.drop("rationale").hstack(empty)

    schema = {key: dtype for key, dtype in frame.collect_schema().items() if key != "rationale"}
    return frame.map_batches(some, streamable=True, schema=schema | dict.fromkeys(names, pl.UInt16))


def _sketch(texts: pl.Series, bins: int, n: int) -> pl.DataFrame:
    words, vocabulary = word_codes(texts)
    hashes = pl.Series([hash64("word", word) for word in vocabulary], dtype=pl.UInt64)
    hashed = words.select("text", hash=hashes.gather(words["word"]))
    gram = pl.col("hash")
    for i in range(1, n):
        gram = mixed(gram) + pl.col("hash").shift(-i)
    whole = pl.col("text") == pl.col("text").shift(1 - n)
    least = (
        hashed.select("text", whole=whole, gram=mixed(gram)).filter("whole")
        .group_by("text", bin=(pl.col("gram") % bins).cast(pl.UInt8)).agg(pl.col("gram").min() // bins)
        .with_columns(pl.col("gram").cast(pl.UInt64) % 65_536)
        .with_columns(pl.col("gram").cast(pl.UInt16))
    )  # fmt: skip
    one = [pl.col("gram").filter(pl.col("bin") == i).first().alias(f"_{i}") for i in range(bins)]
    rows = pl.DataFrame({"text": _indices(len(texts))})
    return rows.join(least.group_by("text").agg(one), on="text", how="left", maintain_order="left").drop("text")


def mixed(number: pl.Expr) -> pl.Expr:
    """Another 64-bit number of each, far apart for near ones (the finaliser of splitmix64)."""
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        number = (number ^ number // 2**shift) * pl.lit(factor, pl.UInt64)  # modulo 2**64
    return number ^ number // 2**31
