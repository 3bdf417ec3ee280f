"""Single keys from a terminal; where there is no termios (Windows), there are lines instead."""

from __future__ import annotations

import codecs
import os
import select
import sys
from collections.abc import Iterator
from contextlib import contextmanager

try:
    import termios
    import tty
except ImportError:  # Windows
    termios = None

_SEQUENCES = {
    "[A": "up", "[B": "down", "[C": "right", "[D": "left", "[5~": "page up", "[6~": "page down",
    "[H": "home", "[F": "end", "[1~": "home", "[4~": "end",
    "OA": "up", "OB": "down", "OC": "right", "OD": "left", "OH": "home", "OF": "end",
}  # fmt: skip
_NAMES = {"\r": "enter", "\n": "enter", "\x7f": "backspace", "\x08": "backspace", " ": "space", "\x04": "q"}


class Keys:
    """Keys of a terminal that is in cbreak mode."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._waiting: list[str] = []

    def next(self, timeout: float) -> str | None:
        """A key: a character, or a name such as ``enter`` or ``page down``; None where none came within seconds.

        A terminal that was closed is ``q``.
        """
        if not self._waiting and self._ready(timeout):
            self._waiting += self._read()
        return self._waiting.pop(0) if self._waiting else None

    def _ready(self, timeout: float) -> bool:
        return bool(select.select([self._descriptor], [], [], timeout)[0])

    def _read(self) -> list[str]:
        data = os.read(self._descriptor, 1024)
        if not data:
            return ["q"]
        text = self._decoder.decode(data)
        if text == "\x1b" and self._ready(0.05):  # a sequence that came in two pieces
            text += self._decoder.decode(os.read(self._descriptor, 1024))
        return list(_split(text))


def _split(text: str) -> Iterator[str]:
    """The keys of what a terminal sent. Sequences without a name are nothing, an escape alone is ``escape``.

    >>> list(_split("n\\x1b[B\\x1b[99~/"))
    ['n', 'down', '/']
    """
    at = 0
    while at < len(text):
        character = text[at]
        at += 1
        if character != "\x1b":
            yield _NAMES.get(character, character)
        elif at == len(text) or text[at] not in "[O":
            yield "escape"
        else:
            end = at + 1
            while end < len(text) and not ("@" <= text[end] <= "~"):
                end += 1
            if (name := _SEQUENCES.get(text[at : end + 1])) is not None:
                yield name
            at = end + 1


def available() -> bool:
    """Whether single keys can be read here: input and output are a terminal, and there is termios."""
    return termios is not None and sys.stdin.isatty() and sys.stdout.isatty()


@contextmanager
def reading() -> Iterator[Keys]:
    """Keys from standard input, one by one and unseen; the terminal is as before afterwards."""
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    try:
        tty.setcbreak(descriptor)
        yield Keys(descriptor)
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
