"""What an OpenAI-compatible server answered, read: text, tokens with their log-probabilities, letters.

Three shapes of log-probabilities are known: that of /chat/completions, the old one of /completions (parallel lists),
and llama.cpp's, which has the first in both places.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from data_tools.judging import Verdict, parse, rationale_of
from genrm_lightning.samplers.cutting import kept

_AROUND = " \t\n\r[](){}*_\"'`.:,"  # what may stand around a letter that was asked for
_ALONE = re.compile(r"(?<![A-Za-z])[AB](?![A-Za-z'’])")


class Garbage(ValueError):
    """A body that is no answer: cut off, not JSON, or without what was asked for."""


@dataclass(frozen=True)
class Token:
    """A token that was written: its bytes, its log-probability (nats), and those of the likeliest tokens there."""

    data: bytes
    logprob: float
    top: dict[str, float]


@dataclass(frozen=True)
class Reply:
    """One continuation. ``tokens`` is None where the server tells no log-probabilities."""

    text: str
    tokens: list[Token] | None
    whole: bool  # the model ended it, not the budget
    n_tokens: int | None  # written, as the server counts; None where it does not, or counts several together


@dataclass(frozen=True)
class Usage:
    """Tokens as the server counts them; None where it does not."""

    prompt: int | None
    completion: int | None


@dataclass(frozen=True)
class Rationale:
    """A reply cut where its verdict begins. ``logprobs``: of the tokens kept, None where the server tells none."""

    text: str
    n_tokens: int
    logprobs: list[float] | None
    finish_reason: str


def usage(body: Any) -> Usage:
    """The counts of an answer, whatever it is."""
    found = body.get("usage") if isinstance(body, dict) else None
    found = found if isinstance(found, dict) else {}
    counts = [found.get(name) for name in ("prompt_tokens", "completion_tokens")]
    return Usage(*(n if isinstance(n, int) and n >= 0 else None for n in counts))


def replies(body: Any) -> list[Reply]:
    """The choices of an answer, in the order of their indices.

    Raises:
        Garbage: it is not one.
    """
    choices = body.get("choices") if isinstance(body, dict) else None
    if not isinstance(choices, list) or not choices or not all(isinstance(c, dict) for c in choices):
        raise Garbage("an answer without 'choices'")
    try:
        choices = sorted(choices, key=lambda choice: choice.get("index") or 0)
        counted = usage(body).completion if len(choices) == 1 else None
        return [
            Reply(_text(c), _tokens(c.get("logprobs")), c.get("finish_reason") != "length", counted) for c in choices
        ]
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
        raise Garbage(f"an answer of another shape ({type(error).__name__})") from None


def _text(choice: dict[str, Any]) -> str:
    message = choice.get("message")
    if message is None:
        found = choice["text"]
    else:
        # A server that splits off what a model thinks may leave nothing else.
        found = message.get("content") or message.get("reasoning_content") or message.get("reasoning") or ""
    if not isinstance(found, str):
        raise TypeError
    return clean(found)


def clean(text: str) -> str:
    """``text`` as UTF-8 can hold it: JSON may escape half a surrogate pair."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _tokens(found: Any) -> list[Token] | None:
    if not found:
        return None
    if isinstance(found.get("content"), list):
        return [Token(_bytes(t), _finite(t["logprob"]), _tops(t.get("top_logprobs"))) for t in found["content"]] or None
    if isinstance(found.get("tokens"), list) and isinstance(found.get("token_logprobs"), list):
        tops = found.get("top_logprobs") or [None] * len(found["tokens"])
        rows = zip(found["tokens"], found["token_logprobs"], tops, strict=True)
        return [Token(t.encode("utf-8", "replace"), _finite(p), _tops(top)) for t, p, top in rows] or None
    return None


def _bytes(token: dict[str, Any]) -> bytes:
    data = token.get("bytes")
    return bytes(data) if isinstance(data, list) else token["token"].encode("utf-8", "replace")


def _finite(number: Any) -> float:
    number = float(number)
    if math.isnan(number):
        raise ValueError
    return min(max(number, -1e4), 0.0)  # some write -9999 or -inf for "below all that are listed"


def _tops(found: Any) -> dict[str, float]:
    """Token -> log-probability; several tokens of one text (as bytes of a character) count together."""
    rows = found.items() if isinstance(found, dict) else ((t["token"], t["logprob"]) for t in found or ())
    result: dict[str, float] = {}
    for token, number in rows:
        number = _finite(number)
        known = result.get(token)
        result[token] = number if known is None else _log_sum(known, number)
    return result


def _log_sum(a: float, b: float) -> float:
    return max(a, b) + math.log1p(math.exp(-abs(a - b)))


def cut(reply: Reply, budget: int) -> Rationale:
    """The rationale of a reply: what stands before its verdict, ``budget`` tokens at most.

    Cut as the local sampler cuts. Without tokens the budget is the request's own, and the count is the server's, in
    proportion to the text that is kept.
    """
    text, tokens = reply.text, reply.tokens
    whole = rationale_of(text)
    written = b"".join(t.data for t in tokens or ())
    if not tokens or written.decode("utf-8", "replace") != text:
        share = len(whole) / max(1, len(text.strip()))
        n = round(share * (reply.n_tokens if reply.n_tokens is not None else len(text.encode()) / 4))
        return Rationale(whole, n, None, "length" if not reply.whole and whole == text.strip() else "stop")
    while tokens and not tokens[-1].data:  # the end of the turn is no text
        tokens = tokens[:-1]
    ends = list(accumulate((len(t.data) for t in tokens), initial=0))

    def until(n: int) -> str:
        return written[: ends[n]].decode("utf-8", "ignore")

    n, over = kept(len(tokens), until, lambda i: not tokens[i].data.strip(), budget)
    ended = over or (not reply.whole and whole == text.strip())
    return Rationale(until(n).strip(), n, [t.logprob for t in tokens[:n]], "length" if ended else "stop")


def p_of_a(reply: Reply, before: str = "", anywhere: bool = False) -> float | None:
    """The probability of A among {A, B} in the reply to a forced or asked-for verdict; None where it is neither.

    With log-probabilities the letters' are compared where the verdict stands, with and without blanks and brackets
    around them; a letter that is not listed counts as impossible. Without, it is 1 or 0.

    Args:
        before: what the server may repeat in front of its continuation.
        anywhere: the letter may stand behind other words.
    """
    for token in (reply.tokens or ())[: None if anywhere else 1]:
        if anywhere and token.data.decode("utf-8", "replace").strip(_AROUND) not in ("A", "B"):
            continue
        found: dict[str, float] = {}
        for text, number in token.top.items():
            letter = text.strip(_AROUND)
            if letter in ("A", "B"):
                found[letter] = _log_sum(found[letter], number) if letter in found else number
        if found:
            a, b = (found.get(letter, -math.inf) for letter in "AB")
            return 1 / (1 + math.exp(min(b - a, 700.0)))
    text = reply.text.removeprefix(before)
    if anywhere:
        said = parse(text)
        match = _ALONE.search(text)
        letter = said if said is not Verdict.INVALID else match and match[0]
    elif reply.tokens:
        return None
    else:
        match = _ALONE.match(text.lstrip(_AROUND))
        letter = match and match[0]
    return {"A": 1.0, "B": 0.0}.get(str(letter))
