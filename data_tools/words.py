"""Words and their n-grams: what "the text repeats itself" means, in the filters and in the scores alike."""

from __future__ import annotations

import re

NGRAM = 3


def words(text: str) -> list[str]:
    """Runs of letters, digits and underscores, in lower case."""
    return re.findall(r"\w+", text.lower())


def ngrams(text: str, n: int = NGRAM) -> list[tuple[str, ...]]:
    """The word n-grams of a text in its order; none for a text of fewer than ``n`` words.

    >>> ngrams("Very, very good.", 2)
    [('very', 'very'), ('very', 'good')]
    """
    found = words(text)
    return list(zip(*(found[start:] for start in range(n)), strict=False))


def distinct_share(text: str, n: int = NGRAM) -> float:
    """Distinct word n-grams over all word n-grams, in (0, 1]; 1 for a text of fewer than ``n`` words.

    >>> distinct_share("a b c a b c a b")  # abc bca cab abc bca cab
    0.5
    """
    grams = ngrams(text, n)
    return len(set(grams)) / len(grams) if grams else 1.0
