"""What a bag of words can tell: of the responses, and of the judge prompt with the responses masked.

The first is a rule that was learnt: which words do preferred responses have, whatever they are put together to. The
second is a control that must come out at chance: with the responses masked, nothing is left that could tell the right
letter, unless the order of the pairs, or what they are called, does.
"""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

from data_tools.judging import render_prompt
from data_tools.logistic import Sparse, fit
from data_tools.order import hash64
from data_tools.selection.wordlists import mixed, word_codes

MASK = "(masked)"
CHARS = 4000  # of a text: what stands behind is not looked at
LEAST_ROWS = 3  # that a word or bigram must occur in
PENALTY = 100.0  # of half the squared weights, beside a sum of losses; 50 to 200 tell about as much on real pairs
_PAIRS = 4096  # at a time


def response_words(pairs: pl.DataFrame) -> pl.DataFrame:
    """``row``, ``feature``, ``value``: log(1 + count) of words and bigrams in the chosen response minus rejected."""
    parts = []
    for start, batch in _batches(pairs):
        texts = pl.concat([batch["chosen"].rename("text"), batch["rejected"].rename("text")])
        sign = pl.when(pl.col("text") < batch.height).then(1.0).otherwise(-1.0)
        differences = (
            _words_and_bigrams(texts)
            .select(
                "feature",
                row=(pl.col("text") % batch.height + start).cast(pl.UInt32),
                value=sign * pl.col("count").cast(pl.Float64).log1p(),
            )
            .group_by("row", "feature")
            .agg(pl.sum("value"))
        )
        parts.append(differences.filter(pl.col("value") != 0))
    return pl.concat(parts)


def template_words(pairs: pl.DataFrame, template: str = "mt_bench") -> pl.DataFrame:
    """The same of the rendered judge prompt with both responses masked, with source, category, subset and kind of label
    as words of their own, and a constant.

    Args:
        template: the judge prompt's name (judging.PROMPTS).
    """
    parts = []
    for start, batch in _batches(pairs):
        prompts = pl.Series([render_prompt(turns, MASK, MASK, template)[-1]["content"] for turns in batch["prompt"]])
        of_text = _words_and_bigrams(prompts).select(
            "feature", row=pl.col("text").cast(pl.UInt32) + start, value=pl.col("count").cast(pl.Float64).log1p()
        )
        rows = pl.int_range(start, start + batch.height, dtype=pl.UInt32, eager=True)
        called = [batch[name].fill_null("") for name in ("source", "category", "subset", "label_kind")]
        for series in (*called, pl.repeat("", batch.height, eager=True).alias("constant")):
            hashes = {word: hash64(series.name, word) for word in series.unique()}
            feature = series.replace_strict(hashes, return_dtype=pl.UInt64)
            parts.append(
                pl.DataFrame({"feature": feature, "row": rows, "value": pl.repeat(1.0, batch.height, eager=True)})
            )
        parts.append(of_text)
    return pl.concat(part.select("row", "feature", "value") for part in parts)


def held_out(entries: pl.DataFrame, signs: pl.Series, folds: pl.Series) -> pl.Series:
    """What logistic regressions say of rows that they were not fitted to: (rows,) x·w.

    Args:
        entries: ``row``, ``feature``, ``value``; features that fewer than ``LEAST_ROWS`` rows have are not used.
        signs: (rows,) 1 or -1, what is to be told.
        folds: (rows,) the number of the fold that a row is held out in; negative: trained on always, and given null.
    """
    known = entries.group_by("feature").len().filter(pl.col("len") >= LEAST_ROWS).sort("feature").select("feature")
    known = known.with_row_index("column")
    matrix = Sparse(entries.join(known, on="feature").select("row", "column", "value"), (len(folds), known.height))
    said = pl.repeat(None, len(folds), dtype=pl.Float64, eager=True)
    for fold in folds.filter(folds >= 0).unique().sort():
        weights = fit(matrix, signs, folds != fold, PENALTY)
        said = matrix.times(weights).zip_with(folds == fold, said)
    return said


def _batches(pairs: pl.DataFrame) -> Iterator[tuple[int, pl.DataFrame]]:
    for start in range(0, pairs.height, _PAIRS):
        yield start, pairs.slice(start, _PAIRS)


def _words_and_bigrams(texts: pl.Series) -> pl.DataFrame:
    """``text``, ``feature`` (a hash of 64 bits), ``count``."""
    words, vocabulary = word_codes(texts.str.slice(0, CHARS))
    hashes = pl.Series([hash64("word", word) for word in vocabulary], dtype=pl.UInt64)
    hashed = words.select("text", feature=hashes.gather(words["word"]))
    following = hashed.select(
        "text",
        feature=mixed(pl.col("feature")) + pl.col("feature").shift(-1),
        whole=pl.col("text") == pl.col("text").shift(-1),
    )
    bigrams = following.filter("whole").drop("whole")
    return pl.concat([hashed, bigrams]).group_by("text", "feature").agg(count=pl.len())
