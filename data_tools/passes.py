"""Tables larger than memory: narrow columns decide, wide rows follow.

A pass over the wide rows writes a few bytes a row (ids, hashes, lengths). On these it is decided which row stays, for
all rows of some prompts at a time, so that memory is bounded. Another pass writes the rows that stay.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import polars as pl

from data_tools import artifact
from data_tools.split import normalised_prompt

KEY = "_key"  # the hash of the normalised prompt
_LEFT_OVER = 86_400  # seconds
_UNPACKED = 4  # times the bytes of a compressed table that it has in memory
_LEVEL = 2  # of zstd: files a twentieth larger than at polars' own 3, written in four fifths of the time


@contextmanager
def scratch(folder: Path) -> Iterator[Path]:
    """An empty folder inside ``folder`` for files that nobody needs later; a kill's left-over is swept a day later.

    A ``folder`` that was not there before, and is left empty, goes as well.
    """
    new = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    for left in folder.glob(".scratch.*.tmp"):  # of a run that was killed: a younger one may be at work beside us
        if time.time() - left.stat().st_mtime > _LEFT_OVER:
            artifact.remove(left)
    inside = folder / artifact.temporary_name("scratch")
    with artifact.full_disk_told(folder):
        try:
            inside.mkdir()
            yield inside
        finally:
            artifact.remove(inside)
            if new and not any(folder.iterdir()):
                folder.rmdir()


def narrowed(table: pl.LazyFrame, columns: Sequence[pl.Expr], folder: Path) -> Path:
    """A narrow table of a wide one, in a file in ``folder``: ``columns`` over PREFERENCE and ``_text``, the prompt."""
    file = folder / f"{artifact.temporary_name('narrow')}.parquet"
    texts = table.with_columns(_text=normalised_prompt())
    texts.select(columns).sink_parquet(file, compression="uncompressed", maintain_order=True, engine="streaming")
    return file


def decided(narrow: Sequence[Path], decide: Callable[[pl.DataFrame], pl.DataFrame], at_once: int) -> pl.DataFrame:
    """What ``decide`` says of every row of narrow files, in their order.

    Args:
        narrow: parquet files with a column ``_key``.
        decide: of all rows of some keys, with their place ``_row``, a table of ``_row`` and what is said.
        at_once: rows that ``decide`` is given at most, as far as the keys allow.
    """
    rows = pl.scan_parquet(narrow, glob=False).with_row_index("_row")
    total = rows.select(pl.len()).collect().item()
    pieces = max(1, -(-total // at_once))
    found = []
    for piece in range(pieces):
        taken = rows if pieces == 1 else rows.filter(pl.col(KEY) % pieces == piece)
        found.append(decide(taken.collect(engine="streaming")))
    result = found[0] if pieces == 1 else pl.concat(found)
    return result.sort("_row").drop("_row")


def write(
    table: pl.LazyFrame,
    beside: pl.DataFrame,
    outs: Mapping[Path, pl.Expr],
    changed: Mapping[str, pl.Expr] | None = None,
    *,
    row_group: int | None = None,
) -> None:
    """Write the rows of a table in one pass, whole files or none.

    Args:
        table: the wide rows.
        beside: as many rows, in the same order, by which they are chosen.
        outs: file -> which rows go there.
        changed: column -> what it becomes, of both tables' columns. Expressions of a row alone: others would be worked
            out over the whole table in memory.
        row_group: rows of a row group; None: polars' own number, however long the rows are.
    """
    schema = table.collect_schema()
    whole = pl.concat([table, beside.lazy()], how="horizontal").with_columns(**(changed or {}))
    with ExitStack() as stack:
        files = {out: stack.enter_context(artifact.atomic_path(out)) for out in outs}
        pl.collect_all(
            [
                whole.filter(chosen)
                .select(list(schema))
                .sink_parquet(
                    files[out], compression_level=_LEVEL, row_group_size=row_group, lazy=True, maintain_order=True
                )
                for out, chosen in outs.items()
            ],
            engine="streaming",
        )


def bytes_a_row(file: Path, rows: int) -> float:
    """About how many bytes a row of a parquet file has in memory, from what it has on the disk."""
    return _UNPACKED * file.stat().st_size / max(rows, 1)
