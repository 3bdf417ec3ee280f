"""Words and their n-grams: what "the text repeats itself" means, in the filters and in the scores alike.

A word is a run of letters and digits, and in scripts that put no spaces between words (Chinese, Japanese, Thai, Lao,
Khmer, Burmese) one letter with its combining marks: a run of these would be a sentence. Bigrams of such letters are
nearly what words are elsewhere. Korean has spaces. What counts as a letter or digit besides is the users' matter:
:mod:`data_tools.ngrams` and :mod:`data_tools.selection.wordlists` cut columns of texts in polars' syntax.
"""

from __future__ import annotations

import re

NGRAM = 3
# Of a character class, in the syntax of Python's and of polars' regular expressions alike: combining marks, and all
# letters and marks, of scripts without spaces. Digits are not among them: a number is one word.
MARKS = (
    r"\u0e31\u0e34-\u0e3a\u0e47-\u0e4e\u0eb1\u0eb4-\u0ebc\u0ec8-\u0ece"  # Thai, Lao
    r"\u102b-\u103e\u1056-\u1059\u105e-\u1060\u1062-\u1064\u1067-\u106d\u1071-\u1074\u1082-\u108d\u108f\u109a-\u109d"
    r"\ua9e5\uaa7b-\uaa7d\u17b4-\u17d3\u17dd"  # the line before and here: Myanmar; Khmer
    r"\u3099\u309a\uff9e\uff9f"  # Kana
)
UNSPACED = (
    r"\u0e01-\u0e3a\u0e40-\u0e4e\u0e81-\u0ebd\u0ec0-\u0ece\u0edc-\u0edf"  # Thai, Lao
    r"\u1000-\u103f\u1050-\u108f\u109a-\u109d\ua9e0-\ua9ef\ua9fa-\ua9fe\uaa60-\uaa76\uaa7a-\uaa7f"  # Myanmar
    r"\u1780-\u17d3\u17d7\u17dc\u17dd"  # Khmer
    r"\u3005\u3007\u3021-\u3029\u3038-\u303b\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufad9\U00020000-\U000323af"  # Han
    r"\u3041-\u3096\u3099\u309a\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff\u31f0-\u31ff\uff66-\uff9f"  # Hiragana, Katakana
    r"\U0001aff0-\U0001b167"
)
LETTER = rf"[{UNSPACED}][{MARKS}]*"  # a word of theirs
_UNSPACED = re.compile(f"[{UNSPACED}]")
_WORD = re.compile(rf"{LETTER}|[^\W{UNSPACED}]+")
_SPACED_WORD = re.compile(r"\w+")


def words(text: str) -> list[str]:
    """Runs of letters, digits and underscores, or letters of scripts without spaces, in lower case.

    >>> words("Go to 東京 24!")
    ['go', 'to', '東', '京', '24']
    """
    text = text.lower()
    unspaced = not text.isascii() and _UNSPACED.search(text)
    return (_WORD if unspaced else _SPACED_WORD).findall(text)


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
