"""Panics inside polars, of a damaged file's doing, as errors like its others."""

from __future__ import annotations

import os
import re
import select
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import polars as pl

_HEADER = re.compile(rb"(?:\A|(?<=\n))\n?thread '[^\n]*' (?:\(\d+\) )?panicked at ")
# What may become one with the next write: a blank line, the beginning of its words.
_BEGUN = re.compile(rb"(?:\A|(?<=\n))(?:\n?thread '[^\n]*|\n?(?:t|th|thr|thre|threa|thread|thread )|\n)\Z")
_NOTE = re.compile(rb"(?:\A|(?<=\n))note: [^\n]*\n")  # what the first panic ends with, and every one with a backtrace
_FRAME = re.compile(rb"(?:\A|(?<=\n))(?:stack backtrace:| *\d+: | +at )")
_AT_ONCE = 0.1  # seconds in which a panic that seems to begin has begun
_WHOLE = 2.0  # after which one without a note has ended, or after a line of its backtrace, which is slow to work out

_lock = threading.Lock()
_inside = 0  # how many blocks there are now
_end: Callable[[], None] | None = None  # ends what the first of them began


DAMAGED = "it is damaged"


@contextmanager
def contained() -> Iterator[None]:
    """Around reading a file that may be damaged in ways that polars does not expect.

    Its threads then write to the error stream what a developer of polars may want to see. That is kept back, up to its
    note, or for two seconds from its first line or the last of its backtrace; what others write between these is lost
    with it. All else that is written there meanwhile, by whatever part of the process, is passed on as it comes. Only
    what a process says in the instant in which it aborts is lost, too.

    Raises:
        ComputeError: of polars, in the place of its PanicException, which no ``except Exception`` would catch.
    """
    try:
        with _filtered():
            yield
    except pl.exceptions.PanicException:
        raise pl.exceptions.ComputeError(DAMAGED) from None


@contextmanager
def _filtered() -> Iterator[None]:
    """The error stream's descriptor leads through a filter; blocks in each other, or in several threads, share it."""
    global _inside, _end
    with _lock:
        if not _inside:
            _end = _begin()
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if not _inside:
                _end()


def _begin() -> Callable[[], None]:
    """Put a pipe in the place of the error stream; returns what takes it away again, when all is passed on."""
    try:
        sys.stderr.flush()
        shown = os.dup(2)
    except (OSError, ValueError, AttributeError):  # there is no error stream, so nothing to filter
        return lambda: None
    source, sink = os.pipe()
    os.dup2(sink, 2)
    os.close(sink)
    stop, stopped = os.pipe()  # a child may hold the pipe open beyond our end of it
    passing = threading.Thread(target=_pass_on, args=(source, shown, stop), daemon=True)
    passing.start()

    def end() -> None:
        with suppress(OSError, ValueError):
            sys.stderr.flush()
        os.dup2(shown, 2)
        os.close(stopped)
        passing.join()
        for descriptor in (source, shown, stop):
            os.close(descriptor)

    return end


def _pass_on(source: int, shown: int, stop: int) -> None:
    """Everything from ``source`` to ``shown`` but panics, until ``stop`` is closed and nothing is left."""
    stream = _Stream()
    while True:
        ready, _, _ = select.select([source, stop], [], [], _AT_ONCE if stream.waits else None)
        read = os.read(source, 1 << 16) if source in ready else b""
        _write(shown, stream.shown(read, time.monotonic()))
        if ready and not read:  # the end, and nothing is left
            return


class _Stream:
    """Which of the bytes that come are to be shown."""

    def __init__(self) -> None:
        self._held = b""
        self._until = 0.0  # when a panic whose note is not seen is over; 0: there is none

    @property
    def waits(self) -> bool:
        """Whether something is decided by time."""
        return bool(self._held or self._until)

    def shown(self, read: bytes, now: float) -> bytes:
        """What to show once ``read`` has come, at ``now`` seconds; without bytes: none came for a while."""
        text, self._held = self._held + read, b""
        if self._until and now > self._until and not (read and (_FRAME.search(text) or _NOTE.search(text))):
            text, self._until = read, 0.0
        if not read:
            if not self._until:
                return text  # no panic has come of it
            self._held = text
            return b""
        shown = []
        while text:
            if self._until:
                if note := _NOTE.search(text):
                    text, self._until = text[note.end() :], 0.0
                    continue
                if _FRAME.search(text):
                    self._until = now + _WHOLE
                text, self._held = b"", text[text.rfind(b"\n") + 1 :]
            elif header := _HEADER.search(text):
                shown.append(text[: header.start()])
                text, self._until = text[header.end() :], now + _WHOLE
            else:
                self._held = begun.group() if (begun := _BEGUN.search(text)) else b""
                shown.append(text[: len(text) - len(self._held)])
                text = b""
        return b"".join(shown)


def _write(to: int, text: bytes) -> None:
    with suppress(OSError):  # nobody reads it: no reason to stop the work
        while text:
            text = text[os.write(to, text) :]
