"""Rows that belong together, wherever in a file they stand, sorted into buckets on the disk."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path

import polars as pl

_BUCKET = 8 << 20  # bytes of raw text
MOST = 256  # files that are open at once
_UNPACKED = 5  # times the bytes of a compressed file that it has as text
_PLAIN = (".jsonl", ".ndjson", ".json", ".csv")


def buckets_for(file: Path) -> int:
    """How many buckets a file's rows need. Of the file alone: the order of its rows is the same with any memory."""
    size = file.stat().st_size * (1 if file.suffix.lower() in _PLAIN else _UNPACKED)
    return min(-(-size // _BUCKET), MOST)


def together(chunks: Iterable[tuple[pl.DataFrame, pl.Series]], n: int, folder: Path | None) -> Iterator[pl.DataFrame]:
    """The rows of all chunks by bucket, in each in their own order.

    Args:
        chunks: rows with their ``number``, and the bucket of each, below ``n``.
        folder: where the files lie meanwhile; None: where the system has such.
    """
    with ExitStack() as stack:
        inside = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=folder)))
        files = [stack.enter_context(open(inside / str(i), "w+b")) for i in range(n)]
        empty = None
        for frame, bucket in chunks:
            empty = frame.clear()
            for (i,), rows in frame.with_columns(bucket.alias("_bucket")).partition_by("_bucket", as_dict=True).items():
                written = io.BytesIO()
                rows.drop("_bucket").write_ipc_stream(written)
                files[i].write(written.tell().to_bytes(8, "little") + written.getbuffer())
        for file in files:
            file.seek(0)
            parts = []
            while size := file.read(8):
                parts.append(pl.read_ipc_stream(io.BytesIO(file.read(int.from_bytes(size, "little")))))
            if parts:
                yield pl.concat(parts, rechunk=True).select(empty.columns)
