"""Which words of two texts differ, in bounded time."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from data_tools.words import LETTER, UNSPACED

# Words of either text that are compared, counted from the first difference; what follows is left unmarked.
MAX_WORDS = 2_000
# Words of the first text that difflib may look at, all its searches together; texts made for it could keep it busy
# longer. What no search has reached by then counts as different.
MAX_STEPS = 1_000_000
# Below this share of common words the two are different texts, and marks on nearly every word would hide them.
FEW_IN_COMMON = 0.3
# Fewer common words in a row than this, between two differences, are chance: "the", a comma.
SHORTEST_RUN = 2

_WORD = re.compile(rf"{LETTER}|[^\W{UNSPACED}]+|[^\w\s]")

Piece = tuple[str, bool]  # a part of a text, and whether it is marked as different


@dataclass(frozen=True)
class Differences:
    """Two texts in pieces. The pieces of a side, put together, are its text.

    Attributes:
        first, second: pieces in their order.
        note: what a reader should know of the marks in a few words; empty where they say it all.
    """

    first: list[Piece]
    second: list[Piece]
    note: str = ""


def differences(first: str, second: str) -> Differences:
    """Mark the words that one text has and the other has not, at their place.

    A word is a run of letters, digits and underscores, in scripts without spaces a letter, or one other character;
    whitespace is not compared. The words in common are those that difflib finds, its rule for very frequent words
    included. Texts with less than 30 % of their words in common are not marked, and no more than 2,000 words from the
    first difference are compared: ``note`` says so where it happens.

    >>> differences("It is 12 km.", "It is 13 km.").second
    [('It is ', False), ('13', True), (' km.', False)]
    """
    spans = [[match.span() for match in _WORD.finditer(text)] for text in (first, second)]
    words = [[text[a:b] for a, b in its] for text, its in zip((first, second), spans, strict=True)]
    start = _common(words[0], words[1])
    end = _common(words[0][start:][::-1], words[1][start:][::-1])
    inner = [its[start : len(its) - end] for its in words]
    compared = [its[:MAX_WORDS] for its in inner]
    cut = any(len(its) > MAX_WORDS for its in inner)
    note = f"words from the first difference on that are compared: {MAX_WORDS:,}" if cut else ""
    if first == second:
        note = "the two are equal"
    elif not any(inner):
        note = "only spaces differ"
    runs = _common_runs(*compared)
    in_common = start + (0 if cut else end) + sum(n for _, _, n in runs)
    if 2 * in_common < FEW_IN_COMMON * (2 * start + (0 if cut else 2 * end) + sum(map(len, compared))):
        return Differences(_unmarked(first), _unmarked(second), "few words in common: differences are not marked")
    marked = []
    for side in (0, 1):
        different = [True] * len(compared[side])
        for run in runs:
            different[run[side] : run[side] + run[2]] = [False] * run[2]
        flags = [False] * start + different
        marked.append(flags + [False] * (len(spans[side]) - len(flags)))
    return Differences(_pieces(first, spans[0], marked[0]), _pieces(second, spans[1], marked[1]), note)


def _common(first: Sequence[str], second: Sequence[str]) -> int:
    """How many words both begin with."""
    n = 0
    for one, other in zip(first, second, strict=False):
        if one != other:
            break
        n += 1
    return n


def _common_runs(first: list[str], second: list[str]) -> list[tuple[int, int, int]]:
    """(place in the first, place in the second, words) of common runs: difflib's matching blocks, with a budget."""
    matcher = SequenceMatcher(None, first, second)  # very frequent words start no run: a search stays near linear
    found, left = [], MAX_STEPS
    todo = deque([(0, len(first), 0, len(second))])
    while todo and left > 0:
        a, a_end, b, b_end = todo.popleft()  # the widest first: where the budget ends, details are missing
        left -= a_end - a
        i, j, n = matcher.find_longest_match(a, a_end, b, b_end)
        if n < SHORTEST_RUN:
            continue
        found.append((i, j, n))
        todo.extend(
            (a0, a1, b0, b1) for a0, a1, b0, b1 in ((a, i, b, j), (i + n, a_end, j + n, b_end)) if a0 < a1 and b0 < b1
        )
    return found


def _pieces(text: str, spans: list[tuple[int, int]], different: list[bool]) -> list[Piece]:
    """The text in marked and unmarked pieces; space between two marked words is marked, other space is not."""
    pieces: list[Piece] = []
    done = at = 0
    while at < len(spans):
        end = at
        while end < len(spans) and different[end] == different[at]:
            end += 1
        if different[at]:
            start, stop = spans[at][0], spans[end - 1][1]
            if start > done:
                pieces.append((text[done:start], False))
            pieces.append((text[start:stop], True))
            done = stop
        at = end
    return pieces + _unmarked(text[done:])


def _unmarked(text: str) -> list[Piece]:
    return [(text, False)] if text else []
