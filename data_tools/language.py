"""The language of a pair, told by lingua from the text alone."""

from __future__ import annotations

from collections.abc import Iterable
from types import ModuleType

import polars as pl

from data_tools.errors import UserError
from data_tools.extras import needed
from data_tools.memory import DEFAULT, Memory
from data_tools.removal import batches

CHARACTERS = 300  # of prompt and of response that are looked at, each: lingua's time grows with the text
LETTERS = 20  # fewer say too little
# Between the probabilities of the two likeliest languages. Less takes English names and code for other languages: of
# 2,500 real pairs, nearly all English, 0.25 drops 19, of which seven are English, and 0.9 drops 14, of which three are.
DISTANCE = 0.9
FOUND = pl.Schema({"_row": pl.UInt32, "pair_id": pl.String, "words": pl.String})


def other_languages(
    table: pl.LazyFrame, languages: Iterable[str], *, memory: Memory = DEFAULT
) -> tuple[pl.DataFrame, int]:
    """The rows whose prompt and chosen response are certainly in another language than the given ones.

    Looked at are the beginnings of the prompt's last turn and of the response, without what stands in a fence of
    three backquotes. Rows of no certain language stay: those with few letters (much of code and mathematics), and those
    whose two likeliest languages are near each other (Bosnian and Croatian are most of the time).

    Compared are all 75 languages that lingua knows, on all cores, in its low accuracy mode: that takes 340 MB, not 1.3
    GB, and in texts of 120 characters or more both modes read nothing but sequences of three letters.

    Args:
        table: PREFERENCE with ``_row``.
        languages: ISO 639-1 codes of what stays.
        memory: what the batches follow from.

    Returns:
        (a row a removed row, by ``_row``: ``pair_id`` and ``words``, the code of its language; how many rows stay for
        want of certainty).

    Raises:
        UserError: an unknown code or none, or lingua is not installed.
    """
    lingua = needed("lingua", "a choice of languages")
    wanted = _codes(lingua, languages)
    detector = (
        lingua.LanguageDetectorBuilder.from_all_languages()
        .with_low_accuracy_mode()
        .with_minimum_relative_distance(DISTANCE)
        .build()
    )
    last = pl.col("prompt").list.last().struct.field("content")
    start = pl.concat_str(_beginning(last), _beginning(pl.col("chosen")), separator="\n")
    found, uncertain = [pl.DataFrame(schema=FOUND)], 0
    for batch in batches(table.select("_row", "pair_id", _text=start), memory.text):
        texts = batch.select("_text").filter(pl.col("_text").str.count_matches(r"\p{L}") >= LETTERS).unique()
        told = detector.detect_languages_in_parallel_of(texts["_text"].to_list())
        codes = [None if language is None else language.iso_code_639_1.name.lower() for language in told]
        rows = batch.join(texts.with_columns(words=pl.Series(codes, dtype=pl.String)), on="_text", how="left")
        uncertain += rows["words"].null_count()
        found.append(rows.filter(~pl.col("words").is_in(wanted)).select(list(FOUND)))
    return pl.concat(found).sort("_row"), uncertain


def _beginning(text: pl.Expr) -> pl.Expr:
    return text.str.replace_all(r"(?s)```.*?(```|$)", " ").str.strip_chars().str.head(CHARACTERS)


def _codes(lingua: ModuleType, languages: Iterable[str]) -> list[str]:
    known = {language.iso_code_639_1.name.lower() for language in lingua.Language.all()}
    wanted = [code.lower() for code in languages]
    if not wanted:
        raise UserError("no languages to keep; give ISO 639-1 codes such as en de")
    if unknown := [code for code in wanted if code not in known]:
        raise UserError(f"language '{unknown[0]}' is unknown; there are: {', '.join(sorted(known))}")
    return wanted
