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
_AT_ONCE = 0.1  # seconds in which a panic that seems to begin has begun
_SILENCE = 2.0  # and after which one without a note has ended: a backtrace is slow to be worked out

_lock = threading.Lock()
_inside = 0  # how many blocks there are now
_end: Callable[[], None] | None = None  # ends what the first of them began


@contextmanager
def contained() -> Iterator[None]:
    """Around reading a file that may be damaged in ways that polars does not expect.

    Its threads then write to the error stream what a developer of polars may want to see. That is kept back, up
    to its note or two seconds of silence; all else that is written there meanwhile, by whatever part of the process, is
    passed on as it comes. Only what a process says in the instant in which it aborts is lost with it.

    Raises:
        ComputeError: of polars, in the place of its PanicException, which no ``except Exception`` would catch.
    """
    try:
        with _filtered():
            yield
    except pl.exceptions.PanicException:
        raise pl.exceptions.ComputeError("it is damaged") from None


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
    held, panic_until = b"", 0.0  # the time at which a panic whose end is not seen is over; 0: there is none
    while True:
        ready, _, _ = select.select([source, stop], [], [], _AT_ONCE if held or panic_until else None)
        read = os.read(source, 1 << 16) if source in ready else b""
        if not read:
            over = bool(ready) or time.monotonic() > panic_until
            if over and not panic_until:
                _write(shown, held)
            if ready:  # the end, and nothing is left
                return
            if over:  # no panic has come of it, or it had no end
                held, panic_until = b"", 0.0
            continue
        text, held = held + read, b""
        while text:
            if panic_until:
                if note := _NOTE.search(text):
                    text, panic_until = text[note.end() :], 0.0
                else:
                    text, held, panic_until = b"", text[text.rfind(b"\n") + 1 :], time.monotonic() + _SILENCE
            elif header := _HEADER.search(text):
                _write(shown, text[: header.start()])
                text, panic_until = text[header.end() :], time.monotonic() + _SILENCE
            else:
                held = begun.group() if (begun := _BEGUN.search(text)) else b""
                _write(shown, text[: len(text) - len(held)])
                text = b""


def _write(to: int, text: bytes) -> None:
    with suppress(OSError):  # nobody reads it: no reason to stop the work
        while text:
            text = text[os.write(to, text) :]
