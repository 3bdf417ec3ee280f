"""Markdown of numbers and of text from elsewhere.

Text of unknown origin stands in code spans, where neither Markdown nor HTML means anything.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from data_tools.visible import visible

NONE = "–"
MOST = 200  # characters of a name


def code(text: Any) -> str:
    """Text of unknown origin as a code span, in a table too.

    >>> code("a|b"), code("`x`")
    ('`a∣b`', '`` `x` ``')
    """
    text = " ".join(visible(str(text)).split())
    text = text[:MOST] + "…" if len(text) > MOST else text
    # No escape of a bar in a code span is read alike by all readers of tables.
    text = text.replace("|", "∣") or "(empty)"
    ticks = "`" * (1 + max((len(run) for run in re.findall("`+", text)), default=0))
    pad = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{ticks}{pad}{text}{pad}{ticks}"


def escape(text: str) -> str:
    r"""A sentence in which punctuation means itself, at its beginning too.

    >>> escape("- a *b*: [c]")
    '\\- a \\*b\\*: \\[c\\]'
    """
    text = re.sub(r"([\\`*_\[\]()<>#|~&!$])", r"\\\1", " ".join(visible(text).split()))
    return re.sub(r"^(\d*)([-+=.])", r"\1\\\2", text)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return [f"| {' | '.join(line)} |" for line in lines]


def percent(value: float | None) -> str:
    return NONE if value is None else f"{100 * value:.1f}"


def points(value: float | None) -> str:
    """A difference of shares in points, with its sign."""
    return NONE if value is None else f"{100 * value:+.1f}"


def decimals(value: float | None) -> str:
    return NONE if value is None else f"{value:.3f}"


def number(value: float | None, digits: int) -> str:
    return NONE if value is None else f"{value:,.{digits}f}"


def count(value: int | None) -> str:
    return NONE if value is None else f"{value:,}"


def interval(
    one: Mapping[str, Any], key: str, ends: tuple[str, str] | None = None, form: Callable[[Any], str] = percent
) -> str:
    """A measure with its interval, where it has one.

    Args:
        one: measures by name.
        key: the measure's name.
        ends: names of the interval's ends; None: the key with _low and _high behind it.
        form: how a number is written.
    """
    low, high = (one.get(end) for end in ends or (f"{key}_low", f"{key}_high"))
    value = form(one.get(key))
    return value if None in (one.get(key), low, high) else f"{value} [{form(low)}, {form(high)}]"
