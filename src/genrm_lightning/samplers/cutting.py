"""Where a rationale ends: the one rule for samplers that see tokens."""

from __future__ import annotations

from collections.abc import Callable

from data_tools.judging import rationale_of


def kept(n_tokens: int, until: Callable[[int], str], is_blank: Callable[[int], bool], budget: int) -> tuple[int, bool]:
    """(tokens of the rationale, whether the budget ended it) of a judgment of ``n_tokens`` written tokens.

    The verdict, and blanks before it, are not rationale; and a budget that ends in the middle of what then looks like
    a verdict's frame leaves no half frame behind.

    Args:
        until: text of the first n tokens.
        is_blank: whether a token is nothing but blanks.
        budget: most tokens of a rationale.
    """
    text = until(n_tokens)
    lead = len(text) - len(text.lstrip())
    n, length = min(n_tokens, budget), len(rationale_of(text))

    def characters(n: int) -> int:
        return len(until(n).rstrip()) - lead

    ended = n < n_tokens and characters(n) < length
    if n < n_tokens:
        length = min(length, len(rationale_of(until(n))))
    while n and characters(n) > length:  # tokens do not end where characters do: walk back
        n -= 1
    while n and is_blank(n - 1):
        n -= 1
    return n, ended
