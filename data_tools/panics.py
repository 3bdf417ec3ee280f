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
_AT_ONCE = 0.1  # seconds in which a panic is written, or not begun

_lock = threading.Lock()
_inside = 0  # how many blocks there are now
_end: Callable[[], None] | None = None  # ends what the first of them began


@contextmanager
def contained() -> Iterator[None]:
    """Around reading a file that may be damaged in ways that polars does not expect.

    Its threads then write to the error stream what a developer of polars may want to see. That is kept back, and what
    comes within a tenth of a second of its beginning; all else that is written there meanwhile, by whatever part of the
    process, is passed on as it comes. Only what a process says in the instant in which it aborts is lost with it.

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
    held, quiet_until = b"", 0.0
    while True:
        ready, _, _ = select.select([source, stop], [], [], _AT_ONCE if held else None)
        if source in ready:
            read = os.read(source, 1 << 16)
        elif ready:  # the end, and nothing is left
            read = b""
        else:  # no panic has come of it
            _write(shown, held)
            held = b""
            continue
        if not read:
            if time.monotonic() >= quiet_until:
                _write(shown, held)
            return
        if time.monotonic() < quiet_until:  # the panic's message, its note
            continue
        text = held + read
        if header := _HEADER.search(text):
            _write(shown, text[: header.start()])
            held, quiet_until = b"", time.monotonic() + _AT_ONCE
            continue
        begun = _BEGUN.search(text)
        held = begun.group() if begun else b""
        _write(shown, text[: len(text) - len(held)])


def _write(to: int, text: bytes) -> None:
    with suppress(OSError):  # nobody reads it: no reason to stop the work
        while text:
            text = text[os.write(to, text) :]
