"""Panics inside polars, of a damaged file's doing, as errors like its others."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

import polars as pl


@contextmanager
def contained() -> Iterator[None]:
    """Around reading a file that may be damaged in ways that polars does not expect.

    Its threads then write to the error stream what a developer of polars may want to see. That is held back, and so is
    all else that is written there meanwhile: let nothing that shows progress run inside.

    Raises:
        ComputeError: of polars, in the place of its PanicException, which no ``except Exception`` would catch.
    """
    try:
        with _held_back():
            yield
    except pl.exceptions.PanicException:
        raise pl.exceptions.ComputeError("it is damaged") from None


@contextmanager
def _held_back() -> Iterator[None]:
    """What goes to the error stream's descriptor goes there at the end, or nowhere after a panic."""
    try:
        sys.stderr.flush()
        shown = os.dup(2)
    except (OSError, ValueError, AttributeError):  # there is no error stream, so nothing to hold back
        yield
        return
    panicked = False
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except pl.exceptions.PanicException:
            panicked = True
            raise
        finally:
            os.dup2(shown, 2)
            os.close(shown)
            held.seek(0)
            while not panicked and (said := held.read(1 << 16)):
                os.write(2, said)
