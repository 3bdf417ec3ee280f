"""What a run shows to the processes that help it (``join``): that it is under way, and what it wants drawn.

All of it lies in ``<run>/.shared`` while the run lasts. A helper takes every setting from there, so it has no other.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import polars as pl

from data_tools.artifact import digest, write_json, write_table
from data_tools.schema import PREFERENCE
from genrm_lightning.claims import Claims

SHARED = ".shared"
OWNER = "run"  # the claim of the process whose run it is
ASKED = "asked.json"
PAIRS = "pairs.parquet"


@contextmanager
def under_way(run: Path) -> Iterator[None]:
    """Show that ``run`` is this process' work, which must hold the folder's lock."""
    folder = run / SHARED
    folder.mkdir(parents=True, exist_ok=True)
    for left in (ASKED, OWNER):  # of a killed one: the lock is ours
        (folder / left).unlink(missing_ok=True)
    with Claims(folder) as claims:
        try:
            claims.take(OWNER)
            yield
        finally:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def asking(run: Path, pairs: pl.DataFrame, ask: dict[str, Any]) -> Iterator[Claims | None]:
    """Ask helpers for a draw as long as the context lasts; yields claims for the shards that are drawn here.

    Args:
        ask: what :func:`~genrm_lightning.star.joining.join` reads.

    Outside of a run (:func:`under_way`) nobody is asked, and None comes.
    """
    folder = run / SHARED
    if not (folder / OWNER).exists():
        yield None
        return
    write_table(pairs, folder / PAIRS, PREFERENCE)
    write_json(folder / ASKED, {**ask, "pairs": digest(folder / PAIRS)})
    with Claims(folder) as claims:
        try:
            yield claims
        finally:
            with suppress(OSError):
                (folder / ASKED).unlink()
