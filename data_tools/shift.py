"""How far a test set lies from a training set, by its words: "out of distribution" as a number.

**Of a pair**: one minus the cosine of its text with the nearest training text, in [0, 1]. A text is its ``TERMS``
heaviest words; a word weighs ``(1 + ln count) (ln((1 + N) / (1 + n)) + 1)`` with N training texts of which n have it
(sublinear tf-idf: G. Salton, C. Buckley, "Term-weighting approaches in automatic text retrieval", 1988, smoothed). The
heaviest words carry nearly all of a cosine, and with few of them the texts that share one stay few (D. Carmel et al.,
"Static index pruning for information retrieval systems", SIGIR 2001). A word that no training text has brings nothing
near and weighs most. Distance to the nearest neighbour is what D. Hendrycks' and others' detectors use on embeddings
(Y. Sun et al., "Out-of-distribution detection with deep nearest neighbors", arXiv 2204.06507); words need no model.

**Of a category**: besides the mean of its pairs, the Jensen-Shannon divergence of word frequencies (J. Lin, "Divergence
measures based on the Shannon entropy", 1991; as a measure of domains: B. Plank, G. van Noord, "Effective measures of
domain similarity for parsing", ACL 2011), in bits, in [0, 1]. Few texts are far from anything, themselves included: its
floor is what as many texts drawn from the training set have against the rest of it.

Neither knows what words mean: another language is far, a paraphrase in other words too, and a rare word brings texts of
two kinds together. The first says how near the nearest topic is, of which varied chat has few: held-out prompts of a
training source may lie farther than a test set of narrow questions. The second says how alike the mixtures are: what is
a small part of the training set, as code may be, diverges from the whole of it though each text has near ones.
"""

from __future__ import annotations

from typing import Literal, get_args

import polars as pl

from data_tools.errors import UserError
from data_tools.order import hash64
from data_tools.selection.wordlists import word_codes
from data_tools.split import normalised_prompt

Text = Literal["prompt", "pair"]
TERMS = 32  # heaviest words of a text that are compared
SAMPLE = 50_000  # training texts that are compared with, at most
CHARS = 4000  # of a prompt or a response: what stands behind is not looked at
NO_CATEGORY = "(none)"
_TEXTS = 4096  # that are taken apart at a time
_PRODUCTS = 4_000_000  # of a word's weights in two texts: as many at once


def distances(train: pl.LazyFrame, test: pl.LazyFrame, *, text: Text = "prompt", sample: int = SAMPLE) -> pl.DataFrame:
    """How far each test pair lies from the nearest training text.

    Time grows with the texts on both sides that share one of their heaviest words; equal texts are looked up once. All
    texts are in memory, and a few million products of weights.

    Args:
        train, test: PREFERENCE.
        text: ``prompt`` compares prompts alone, ``pair`` prompts with both responses (which one is preferred does not
            matter).
        sample: compare with at most so many different training texts, drawn by the hash of their pair's id. Of fewer
            the nearest lies farther: compare distances of one training set and one sample.

    Returns:
        pair_id, distance (0: the same words, 1: none shared), nearest (the training pair; null where no word is
        shared), a row a test pair, sorted by pair_id.

    Raises:
        UserError: an unknown text, ``sample`` below 1, or no rows on one side.
    """
    ours, theirs = _texts(train, text, "training table"), _texts(test, text, "test table")
    known, asked = _sampled(ours, sample), theirs.select("_text").unique(maintain_order=True)
    nearest = _nearest(_counts(known["_text"]), _counts(asked["_text"]), known.height)
    found = (
        asked.with_row_index("asked")
        .join(nearest, on="asked", how="left")
        .join(known.select(nearest="pair_id").with_row_index("known"), on="known", how="left")
        .select("_text", distance=1 - pl.col("cosine").fill_null(0.0).clip(0.0, 1.0), nearest="nearest")
    )
    return theirs.join(found, on="_text", how="left").select("pair_id", "distance", "nearest").sort("pair_id")


def by_category(
    train: pl.LazyFrame, test: pl.LazyFrame, found: pl.DataFrame, *, text: Text = "prompt", sample: int = SAMPLE
) -> pl.DataFrame:
    """How far each category of the test set lies from the training set.

    Args:
        found: of :func:`distances` with the same ``text`` and ``sample``.

    Returns:
        category (null: "(none)"), n_pairs, distance (mean), divergence (of word frequencies, bits), floor (that of as
        many training texts, at most half of them; null where there is but one), the farthest by distance first.

    Raises:
        UserError: as in :func:`distances`.
    """
    ours, theirs = _texts(train, text, "training table"), _texts(test, text, "test table")
    ours = _sampled(ours, sample)
    theirs = theirs.unique(["category", "_text"], keep="first", maintain_order=True)
    of_train = _counts(ours["_text"])
    of_test = _counts(theirs["_text"])
    kinds = theirs.select("category").with_row_index("text")
    whole, rows = _frequencies(of_train), []
    for (category,), texts in kinds.group_by("category"):
        own = _frequencies(of_test.join(texts, on="text", how="semi"))
        drawn = pl.col("text") < min(texts.height, ours.height // 2)  # they stand in the order of their hashes
        floor = divergence(_frequencies(of_train.filter(drawn)), _frequencies(of_train.filter(~drawn)))
        rows.append((category, divergence(own, whole), floor if ours.height > 1 else None))
    schema = {"category": pl.String, "divergence": pl.Float64, "floor": pl.Float64}
    categories = test.select("pair_id", pl.col("category").fill_null(NO_CATEGORY)).collect()
    means = (
        found.join(categories, on="pair_id").group_by("category").agg(n_pairs=pl.len(), distance=pl.mean("distance"))
    )
    joined = means.join(pl.DataFrame(rows, schema, orient="row"), on="category")
    return joined.sort("distance", "category", descending=[True, False])


def divergence(one: pl.DataFrame, other: pl.DataFrame) -> float:
    """Jensen-Shannon divergence in bits of two distributions: ``H((p + q) / 2) - (H(p) + H(q)) / 2``.

    Args:
        one, other: ``word`` and ``share``; the shares of each add up to 1. One without words shares none: 1.

    >>> fair = pl.DataFrame({"word": [0, 1], "share": [0.5, 0.5]})
    >>> divergence(fair, fair), divergence(fair, fair.with_columns(pl.col("word") + 2))
    (0.0, 1.0)
    """
    if one.is_empty() or other.is_empty():
        return 1.0
    both = one.join(other, on="word", how="full", coalesce=True).fill_null(0.0)
    p, q = pl.col("share"), pl.col("share_right")
    middle = (p + q) / 2
    halves = [pl.when(x > 0).then(x * (x / middle).log(2)).otherwise(0.0).sum() / 2 for x in (p, q)]
    return max(0.0, float(both.select(halves[0] + halves[1]).item()))


def _texts(table: pl.LazyFrame, text: str, name: str) -> pl.DataFrame:
    """pair_id, category, _text of each pair, sorted by id."""
    if text not in get_args(Text):
        raise UserError(f"text '{text}' is none to compare; there are: {', '.join(get_args(Text))}")
    parts = [normalised_prompt(), pl.col("chosen"), pl.col("rejected")][: 1 if text == "prompt" else 3]
    whole = pl.concat_str([part.str.head(CHARS) for part in parts], separator="\n")
    found = table.select("pair_id", pl.col("category").fill_null(NO_CATEGORY), _text=whole).collect(engine="streaming")
    if found.is_empty():
        raise UserError(f"the {name} has no rows; name one that has")
    return found.sort("pair_id")


def _sampled(texts: pl.DataFrame, sample: int) -> pl.DataFrame:
    """At most so many distinct texts, in the order of the hashes of their first pairs' ids."""
    if sample < 1:
        raise UserError(f"sample={sample}: at least 1 training text is needed to compare with")
    texts = texts.unique("_text", keep="first", maintain_order=True)
    hashes = pl.Series([hash64("sample", pair_id) for pair_id in texts["pair_id"]], dtype=pl.UInt64)
    return texts.with_columns(_hash=hashes).sort("_hash", "pair_id").drop("_hash").head(sample)


def _counts(texts: pl.Series) -> pl.DataFrame:
    """``text`` (index), ``word`` (a hash), ``count``."""
    parts = [pl.DataFrame(schema={"text": pl.UInt32, "word": pl.UInt64, "count": pl.UInt32})]
    for start in range(0, len(texts), _TEXTS):
        words, vocabulary = word_codes(texts.slice(start, _TEXTS))
        hashed = words.select(pl.col("text") + pl.lit(start, pl.UInt32), word=vocabulary.hash().gather(words["word"]))
        parts.append(hashed.group_by("text", "word").agg(pl.len().cast(pl.UInt32).alias("count")))
    return pl.concat(parts)


def _frequencies(counts: pl.DataFrame) -> pl.DataFrame:
    """``word`` and its share of all words."""
    return counts.group_by("word").agg(pl.sum("count")).select("word", share=pl.col("count") / pl.col("count").sum())


def _weights(counts: pl.DataFrame, having: pl.DataFrame, n_texts: int) -> pl.DataFrame:
    """``text``, ``word``, ``weight``: the heaviest words of each text, as vectors of length 1."""
    rarity = ((1 + n_texts) / (1 + pl.col("having").fill_null(0))).log() + 1
    weighed = counts.join(having, on="word", how="left").with_columns(weight=(1 + pl.col("count").log()) * rarity)
    heaviest = weighed.sort("text", "weight", "word", descending=[False, True, False])
    kept = heaviest.group_by("text", maintain_order=True).head(TERMS)
    length = pl.col("weight").pow(2).sum().over("text").sqrt()
    return kept.select("text", "word", weight=pl.col("weight") / length)


def _nearest(known: pl.DataFrame, asked: pl.DataFrame, n_known: int) -> pl.DataFrame:
    """``asked``, ``known``, ``cosine``: the nearest known text (of equals the first) of each that shares a word."""
    having = known.group_by("word").agg(having=pl.len())
    ours = _weights(known, having, n_known).rename({"text": "known"})
    theirs = _weights(asked, having, n_known).rename({"text": "asked"})
    shared = theirs.join(ours.group_by("word").agg(_n=pl.len().cast(pl.UInt64)), on="word")
    portions = shared.group_by("asked").agg(pl.sum("_n")).sort("asked")
    portions = portions.select("asked", _portion=pl.col("_n").cum_sum() // _PRODUCTS)
    found = [pl.DataFrame(schema={"asked": pl.UInt32, "known": pl.UInt32, "cosine": pl.Float64})]
    for part in shared.drop("_n").join(portions, on="asked").partition_by("_portion", include_key=False):
        products = part.join(ours, on="word").select("asked", "known", cosine=pl.col("weight") * pl.col("weight_right"))
        cosines = products.group_by("asked", "known").agg(pl.sum("cosine"))
        # Rounded: the order in which products are summed must not say which of equals is nearest.
        cosines = cosines.with_columns(pl.col("cosine").round(9))
        best = cosines.filter(pl.col("cosine") == pl.col("cosine").max().over("asked"))
        found.append(best.group_by("asked").agg(pl.min("known"), pl.first("cosine")))
    return pl.concat(found)
