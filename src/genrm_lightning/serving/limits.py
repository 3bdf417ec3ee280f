"""What requests may take of a server; needs no extra."""

from __future__ import annotations

from dataclasses import dataclass

from data_tools.errors import UserError


@dataclass(frozen=True)
class Limits:
    """What one request, and all together, may take.

    Attributes:
        batch: pairs, or conversations, judged together.
        wait_ms: that the first of a batch waits for others.
        queue: pairs that may wait, and requests that may be under way.
        items: of one request.
        tokens: that one request may have written: its n times max_tokens; and the conversations of a batch together.
        characters: bytes of a request's body; and characters of the texts of a batch that holds more than one item.
        seconds: for one request, from its head on; and in which a client must read what its connection cannot hold.
        head: seconds for a request's head, from when the connection is there or the answer before it was sent.
        grace: seconds that requests under way are given when the server is stopped.
    """

    batch: int = 32
    wait_ms: float = 5.0
    queue: int = 512
    items: int = 256
    tokens: int = 16384
    characters: int = 1_000_000
    seconds: float = 120.0
    head: float = 10.0
    grace: float = 30.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not (value >= 0 if name in ("wait_ms", "grace") else value > 0) or value == float("inf"):
                raise UserError(f"limits.{name}: {value} is not above 0")
