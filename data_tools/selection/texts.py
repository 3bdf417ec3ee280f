"""Filters that read rationales, and what gives away that its writer was told the answer."""

from __future__ import annotations

from typing import Literal

import polars as pl

from data_tools.selection.frames import PLACE
from data_tools.selection.wordlists import WORD, by_batch, repetition, sketches

BANDS, ROWS = 8, 4  # of a sketch: texts are compared that agree in a whole band

_GIVEN = (
    r"\b(?:correct|right|better|preferred)\s+(?:answer|response|verdict|choice|one)\s+(?:is|was|has\s+been)\s+"
    r"(?:already\s+)?(?:given|told|stated|provided|known|indicated)\b"
)
_AS_STATED = r"\bas\s+(?:already\s+)?(?:stated|given|indicated)\b"
_TOLD = "|".join(
    (
        r"\bI\s*(?:was|am|['’]m|have\s+been|['’]ve\s+been|had\s+been)\s+(?:told|informed|given\s+the)\b",
        # "we are told that Tom has 5 apples" quotes the request
        r"\bwe\s+(?:were|are|have\s+been)\s+told\s+(?:that\s+)?(?:the\s+)?(?:response|assistant|answer|[AB]\b)",
        r"\bresponse\s+[AB]\s+(?:is|was)\s+(?:said|stated|known|given|declared)\s+(?:to\s+be|as)\s+(?:the\s+)?better\b",
        r"\b(?:given|stated|said|told)\s+that\s+response\s+[AB]\s+(?:is|was)\s+(?:the\s+)?better\b",
        r"\bthe\s+hint\b",
    )
)
# What tells only where no source in the prompt follows: polars' expressions look neither ahead nor behind.
_UNLESS = (
    (_GIVEN, r"\s+(?:in|by)\s+(?:response|assistant|[AB]\b)"),
    (
        _AS_STATED,
        r"\s+(?:in|by)\s+(?:the\s+|its\s+)?"
        r"(?:prompt|request|user|question|conversation|instructions?|response|text)",
    ),
)


def told(text: pl.Expr) -> pl.Expr:
    """Whether a rationale gives away that its writer knew the answer; what only quotes the request does not.

    >>> texts = pl.Series(["As stated, Response A is better.", "A is shorter, as asked."])
    >>> pl.select(told(pl.lit(texts))).to_series().to_list()
    [True, False]
    """

    def times(pattern: str) -> pl.Expr:
        return text.str.count_matches(f"(?i){pattern}")

    found = text.str.contains(f"(?i){_TOLD}")
    for pattern, source in _UNLESS:
        found |= times(pattern) > times(pattern + source)
    return found


def not_told(frame: pl.LazyFrame) -> pl.LazyFrame:
    """Rationales that do not speak of being told the answer."""
    return frame.filter(~told(pl.col("rationale")))


def no_repetition(frame: pl.LazyFrame, min_distinct: float = 0.6, max_run: int = 3) -> pl.LazyFrame:
    """Rationales with at least that share of distinct word 3-grams and no word more often than that in a run."""

    def keep(texts: pl.Series) -> pl.Series:
        measured = repetition(texts)
        return (measured["distinct_share"] >= min_distinct) & (measured["longest_run"] <= max_run)

    return by_batch(frame, keep)


def min_words(frame: pl.LazyFrame, words: int = 5) -> pl.LazyFrame:
    """Rationales of at least that many words."""
    return frame.filter(pl.col("rationale").str.count_matches(WORD) >= words)


def max_words(frame: pl.LazyFrame, words: int = 400) -> pl.LazyFrame:
    """Rationales of at most that many words."""
    return frame.filter(pl.col("rationale").str.count_matches(WORD) <= words)


def distinct_rationales(frame: pl.LazyFrame, scope: Literal["all", "prompt"] = "all") -> pl.LazyFrame:
    """The first of rationales with the same words, whatever their case and punctuation.

    Args:
        scope: all: of the whole table, as a judge that always says the same gives no reasons; prompt: of one pair in
            one order.
    """
    words = pl.col("rationale").str.to_lowercase().str.extract_all(WORD).list.join(" ")
    same = ["_words", *(PLACE if scope == "prompt" else ())]
    narrow = frame.with_columns(_words=words.hash()).drop("rationale")
    return narrow.filter(pl.col("order") == pl.col("order").min().over(same)).drop("_words")


def near_duplicates(
    frame: pl.LazyFrame, similarity: float = 0.8, scope: Literal["all", "prompt"] = "all"
) -> pl.LazyFrame:
    """Rationales that share fewer than that part of their word 3-grams with an earlier one.

    The part (Jaccard's: common 3-grams over all) is estimated from sketches of 32 minima of hashes (one permutation
    MinHash, Li et al. 2012), to about 0.07; candidates agree in one of 8 bands of 4. It is compared with the first
    text of a band's bucket: of equals one is kept, of a chain of similar ones at least one.
    """

    def first_of_each(rows: pl.DataFrame) -> pl.DataFrame:
        bins = [f"_{i}" for i in range(BANDS * ROWS)]
        repeats = pl.Series("order", [], dtype=rows["order"].dtype)
        within = PLACE if scope == "prompt" else []
        for band in (bins[i : i + ROWS] for i in range(0, len(bins), ROWS)):
            known = rows.filter(pl.any_horizontal(pl.col(band).is_not_null()))
            known = known.with_columns(_first=pl.col("order").min().over([*band, *within]))
            later = known.filter(pl.col("_first") < pl.col("order"))
            pairs = later.join(rows.select("order", *bins), left_on="_first", right_on="order", suffix="_of_first")
            equal = pl.sum_horizontal(pl.col(name) == pl.col(f"{name}_of_first") for name in bins)
            either = pl.sum_horizontal(
                pl.col(name).is_not_null() | pl.col(f"{name}_of_first").is_not_null() for name in bins
            )
            repeats = repeats.append(pairs.filter(equal >= similarity * either)["order"])
        return rows.filter(~pl.col("order").is_in(repeats.implode())).drop(bins)

    schema = {name: dtype for name, dtype in frame.collect_schema().items() if name != "rationale"}
    return sketches(frame, BANDS * ROWS).map_batches(first_of_each, schema=schema)
