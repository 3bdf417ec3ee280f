"""Rules that prefer a response without reading it: what a judge must beat, and what it may have learnt instead.

A rule compares a number of the two responses; the one with more wins. To add one, write a line of ``RULES``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import polars as pl

from data_tools.measures import own_order
from data_tools.ngrams import WORD

PROMPT = "_prompt"  # the prompt's normalised text (split.normalised_prompt), which the caller adds to the table


@dataclass(frozen=True)
class Rule:
    """A rule by two names: that of what it says, and that of its opposite, whose score is 1 minus the rule's.

    Attributes:
        says: whose response wins, in words that fit before "wins".
        opposite: the same for the opposite.
        points: an expression on PREFERENCE and ``PROMPT``: 2 where the rule prefers the chosen response, 0 where the
            rejected one, 1 where it cannot tell. Twice the outcome, so that sums stay whole numbers.
        splits_words: takes texts apart, which costs more than all other rules together: scored on the sample.
    """

    says: str
    opposite: str
    points: pl.Expr
    splits_words: bool = False


def _more(number: Callable[[pl.Expr], pl.Expr]) -> pl.Expr:
    chosen, rejected = number(pl.col("chosen")), number(pl.col("rejected"))
    return pl.when(chosen > rejected).then(2).when(chosen < rejected).then(0).otherwise(1).cast(pl.Int8)


def _count(pattern: str) -> Callable[[pl.Expr], pl.Expr]:
    return lambda text: text.str.count_matches(pattern)


def _literal(mark: str) -> Callable[[pl.Expr], pl.Expr]:
    return lambda text: text.str.count_matches(mark, literal=True)


def _words(text: pl.Expr) -> pl.Expr:
    return text.str.to_lowercase().str.extract_all(WORD)


_SORRY = (
    r"(?i)\b(?:(?:i['’]?m|i am) (?:sorry|unable|not able)|i['’]?m just an?|i apologi[sz]e|i cannot|i (?:can|won)['’]?t"
    r"|as an? (?:ai|language model)|it is not (?:appropriate|ethical))\b"
)
_EAGER = r"(?i)^\s*(?:sure|certainly|of course|absolutely|great question|i['’]d be happy|happy to)\b"

RULES = {
    "longer": Rule("longer", "shorter", _more(lambda text: text.str.len_chars())),
    "first": Rule("first position", "second position", own_order().cast(pl.Int8) * 2),
    "lines": Rule("more lines", "fewer lines", _more(_literal("\n"))),
    "list_items": Rule(
        "more list items", "fewer list items", _more(_count(r"(?m)^[ \t]*(?:[-*+•]|\d{1,3}[.)])[ \t]"))
    ),
    "headers": Rule("more headers", "fewer headers", _more(_count(r"(?m)^#{1,6}[ \t]"))),
    "bold": Rule("more bold", "less bold", _more(_count(r"\*\*[^*\n]+\*\*"))),
    "code": Rule("more code fences", "fewer code fences", _more(_literal("```"))),
    "numbers": Rule("more numbers", "fewer numbers", _more(_count(r"[0-9]+"))),
    "citations": Rule("more links, citations", "fewer links, citations", _more(_count(r"https?://|\[[0-9]+\]"))),
    "questions": Rule("more question marks", "fewer question marks", _more(_literal("?"))),
    "exclamations": Rule("more exclamation marks", "fewer exclamation marks", _more(_literal("!"))),
    "refusals": Rule("more refusal phrases", "fewer refusal phrases", _more(_count(_SORRY))),
    "eager": Rule("opens with \"Sure\"", "opens without \"Sure\"", _more(lambda text: text.str.contains(_EAGER))),
    "ended": Rule(
        "ends a sentence", "is cut off", _more(lambda text: text.str.contains(r"[.!?…:;)\]}>\"”'’`*|。！？]\s*$"))
    ),
    "non_ascii": Rule(
        "more than ASCII", "only ASCII", _more(lambda text: text.str.len_bytes() - text.str.len_chars())
    ),
    "long_words": Rule(
        "longer words", "shorter words",
        _more(lambda text: text.str.len_chars() / (text.str.count_matches(" ", literal=True) + 1)),
    ),
    "prompt_words": Rule(
        "more of the prompt's words", "fewer of the prompt's words",
        _more(lambda text: _words(text).list.set_intersection(_words(pl.col(PROMPT))).list.len()),
        splits_words=True,
    ),
    "variety": Rule(
        "more varied words", "words that repeat",
        _more(lambda text: (_words(text).list.n_unique() / _words(text).list.len()).fill_nan(0.0)),
        splits_words=True,
    ),
}  # fmt: skip
