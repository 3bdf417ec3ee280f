"""Whether a rationale's quotations are any: words in quotation marks that the pair does not hold are made up."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache

import polars as pl

from data_tools.order import responses
from data_tools.words import words

_QUOTATION = re.compile(r'"([^"\n]+)"|“([^”\n]+)”')
_NAME = re.compile(r"\b(?:response|assistant|answer)\s*[\[(*]*([AB])\b", re.IGNORECASE)
_SENTENCE_END = re.compile(r'[.!?]["”)\]]*\s+')
_DENIED = re.compile(
    r"\b(?:not|no|never|neither|nor|without|lacks?|omits?|misse[ds]|missing|instead of)\b|n['’]t\b", re.I
)
_WORD = re.compile(r"\w+")


def quotations(rationale: str) -> Iterator[tuple[str, str | None]]:
    """(what is quoted, the letter of the response that it is said to be in; None where none is named before it).

    The response is the one named last in the same sentence. A quotation that is denied ("B does not say "x"") is left
    out: it is of the one or the other.

    >>> list(quotations('It asks for "ox". Response A has "ass", response B does not have "ox".'))
    [('ox', None), ('ass', 'A')]
    """
    # A sentence that is quoted ends none of the rationale's own.
    bare = _QUOTATION.sub(lambda found: "_" * len(found[0]), rationale)
    ends = [found.end() for found in _SENTENCE_END.finditer(bare)]
    names = [(found.start(), found[1].upper()) for found in _NAME.finditer(bare)]
    for found in _QUOTATION.finditer(rationale):
        begins = max((end for end in ends if end <= found.start()), default=0)
        start, letter = max((place for place in names if begins <= place[0] < found.start()), default=(begins, None))
        if not _DENIED.search(bare, start, found.start()):
            yield found[1] or found[2], letter


def counted(
    rationale: str, conversation: Sequence[Mapping[str, str]], response_a: str, response_b: str
) -> tuple[int, int]:
    """(quotations, how many of them are false).

    One said to be in a response has to be in that response; any other one in the conversation or either response. Case,
    punctuation and spaces do not count; a quotation of nothing but those is none.
    """
    if '"' not in rationale and "“" not in rationale:
        return 0, 0
    places = {"A": _plain(response_a), "B": _plain(response_b)}
    anywhere = "|".join((*(_plain(turn["content"]) for turn in conversation), *places.values()))
    n = false = 0
    for text, letter in quotations(rationale):
        if _WORD.search(text):
            n += 1
            false += _plain(text) not in (places[letter] if letter else anywhere)
    return n, false


def with_quotations(judgments: pl.DataFrame, preferences: pl.DataFrame) -> pl.DataFrame:
    """JUDGMENT rows with ``quotations`` and ``misquotations`` (:func:`counted`), UInt32; null of an unknown pair."""
    pairs = {row["pair_id"]: row for row in preferences.select("pair_id", "prompt", "chosen", "rejected").to_dicts()}
    counts: list[tuple[int | None, int | None]] = []
    for pair_id, swapped, rationale in judgments.select("pair_id", "swapped", "rationale").iter_rows():
        pair = pairs.get(pair_id)
        if pair is None:
            counts.append((None, None))
            continue
        a, b, _ = responses(pair_id, swapped, pair["chosen"], pair["rejected"])
        counts.append(counted(rationale or "", pair["prompt"], a, b))
    schema = {"quotations": pl.UInt32, "misquotations": pl.UInt32}
    return judgments.hstack(pl.DataFrame(counts, schema=schema, orient="row"))


@lru_cache(maxsize=1024)  # the samples of a pair are about the same texts
def _plain(text: str) -> str:
    """The words alone, in lower case, each between two spaces: found within another only where whole words are."""
    return f" {' '.join(words(text))} "
