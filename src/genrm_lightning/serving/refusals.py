"""What a client is told where its request is not answered: a status and one sentence."""

from __future__ import annotations

from collections.abc import Mapping

RETRY_SECONDS = 1


_MOST = 400  # characters of a sentence


class Refused(Exception):
    """A request that is not answered.

    Attributes:
        status: of HTTP.
        sentence: what is wrong, and what to do.
        headers: beside it.
    """

    def __init__(self, status: int, sentence: str, headers: Mapping[str, str] | None = None) -> None:
        sentence = " ".join(sentence.split())
        sentence = sentence if len(sentence) <= _MOST else f"{sentence[:_MOST]} …"  # it may quote what was sent
        super().__init__(sentence)
        self.status, self.sentence, self.headers = status, sentence, dict(headers or {})


class Unfit(Refused):
    """What was asked about is too long for the judge."""

    def __init__(self, what: str) -> None:
        super().__init__(
            400, f"{what} does not fit the judge's context, its prompt shortened as far as may be; send less"
        )


def full() -> Refused:
    return Refused(429, "the queue is full; send the request again later", {"Retry-After": str(RETRY_SECONDS)})


def stopping() -> Refused:
    return Refused(503, "the server is being stopped; ask another one", {"Connection": "close"})


def gone() -> Refused:
    """For the counters alone: there is nobody who could read it."""
    return Refused(499, "the client has gone away")


def too_slow(seconds: float) -> Refused:
    return Refused(
        504, f"no answer within {seconds:g} s (--limits.seconds); send less at a time, or the same again later"
    )
