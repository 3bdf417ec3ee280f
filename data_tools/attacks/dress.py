"""Attacks that are functions of the response: more of it, or the same in a richer dress."""

from __future__ import annotations

import re
from collections.abc import Iterator

from data_tools.attacks.attack import FAMILY_OF_CONTROLS, Attack
from data_tools.attacks.controls import grown

_FENCED = re.compile(r"(```.*?(?:```|\Z))", re.DOTALL)
# Where a sentence ends: a mark, a blank, and something that begins one.
_SENTENCE = re.compile(r"(?<=[.!?])[ \t]+(?=[A-Z\"'“(\[])|(?<=[。！？])\s*(?=\S)")
# A line with marks of its own: code (indented), a heading, a list's item, a quotation, a table, a rule.
_MARKED = re.compile(r"^(?:[ ]{4}|\t|\s*(?:#{1,6}\s|[-*+•]\s|\d{1,3}[.)]\s|>|\||(?:-{3,}|\*{3,}|_{3,})\s*$))")
_LEADING = re.compile(r"^(\s*(?:[-*+•]|\d{1,3}[.)])\s+)?([^\s*]+(?:\s[^\s*]+)?)")  # an item's mark, its first two words

_PADDING = (
    "It is important to look at this question from several perspectives.",
    "Many different factors can play a role here, and all of them deserve careful attention.",
    "In general, a thorough understanding of the topic helps to see the whole picture.",
    "This is a broad and interesting subject with many aspects.",
    "As mentioned before, the details matter as much as the overall view.",
    "It is also worth noting that every situation is different.",
    "Taking all of this into account, the points above should be considered together.",
    "Furthermore, context is always of great relevance.",
    "With this in mind, one can approach the matter step by step.",
    "Overall, the explanation given here covers what is needed.",
    "To put it differently, the same holds from another point of view.",
    "In conclusion, all of these considerations belong together.",
)


def _pieces(text: str) -> Iterator[tuple[str, bool]]:
    """(sentence, or line or code block with marks of its own, whether it is such a one)."""
    for part in _FENCED.split(text):
        if part.startswith("```"):
            yield part, True
            continue
        for line in filter(str.strip, part.splitlines()):
            if _MARKED.match(line):
                yield line.rstrip(), True
            else:
                yield from ((sentence.strip(), False) for sentence in _SENTENCE.split(line) if sentence.strip())


def markdown(text: str) -> str:
    """The same words: a heading, a bullet a sentence, the first two words of each and of a list's items in bold.

    Code, tables, headings and quotations stay as they are.

    >>> print(markdown("Foxes are red. They run.\\n1. At night"))
    ## Answer
    <BLANKLINE>
    - **Foxes are** red.
    - **They run.**
    1. **At night**
    """
    return "\n".join(["## Answer", "", *(_dressed(*piece) for piece in _pieces(text))])


def _dressed(piece: str, marked: bool) -> str:
    lead = _LEADING.match(piece)
    if lead is None or (marked and not lead[1]):
        return piece if marked else f"- {piece}"
    return f"{lead[1] or '- '}**{lead[2]}**{piece[lead.end() :]}"


def line_breaks(text: str) -> str:
    """The control of :func:`markdown`: the same lines without its marks, and a heading without one.

    >>> print(line_breaks("Foxes are red. They run."))
    Answer
    <BLANKLINE>
    Foxes are red.
    They run.
    """
    return "\n".join(["Answer", "", *(piece for piece, _ in _pieces(text))])


def said_again(text: str) -> str:
    """The response and its lines again, as many characters as :func:`~data_tools.attacks.controls.grown` adds."""
    lines = [line for line in text.splitlines() if line.strip()]
    return grown(text, lines, "\n") if lines else text


DRESS = (
    Attack(
        "padding", "length", "transform", "as many characters again of what fits any question",
        "arXiv 2306.05685 (verbosity bias)", transform=lambda text: grown(text, _PADDING), control="neutral_end_long",
    ),
    Attack(
        "said_again", "length", "transform", "the response's own lines once more",
        "arXiv 2306.05685 (verbosity bias, repetitive lists)", transform=said_again, control="neutral_end_long",
    ),
    Attack(
        "markdown", "dress", "transform", "the same words with a heading, bullets and bold",
        "arXiv 2402.10669 (beauty bias), arXiv 2409.11704 (lists, bold)", transform=markdown, control="line_breaks",
    ),
    Attack(
        "line_breaks", FAMILY_OF_CONTROLS, "transform", "a line a sentence, without marks",
        "a control of this project", transform=line_breaks,
    ),
)  # fmt: skip
