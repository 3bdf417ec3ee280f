"""Arrow's stream format cut into smaller streams at its messages, since polars reads a stream whole.

A message is its length, its metadata (a flatbuffer, of which two fields are looked at) and its body:
https://arrow.apache.org/docs/format/Columnar.html#encapsulated-message-format
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import polars as pl

_CONTINUES = b"\xff\xff\xff\xff"
_END = _CONTINUES + bytes(4)
_BATCH = 3  # the type of a message of rows; others (the schema, dictionaries) hold for all rows behind them


def tables(path: Path, size: int) -> Iterator[pl.DataFrame]:
    """The stream's rows, at least ``size`` bytes of record batches in each table but the last; first, one without rows.

    Raises:
        PolarsError: damaged.
    """
    with open(path, "rb") as handle:
        shared, batches, held = b"", [], 0
        told = False
        for kind, message in _messages(handle, path.stat().st_size):
            if kind != _BATCH:
                shared += message
                continue
            if not told:
                yield _read(shared)
                told = True
            batches.append(message)
            held += len(message)
            if held >= size:
                yield _read(shared, *batches)
                batches, held = [], 0
        if batches or not told:
            yield _read(shared, *batches)


def _read(*messages: bytes) -> pl.DataFrame:
    return pl.read_ipc_stream(io.BytesIO(b"".join((*messages, _END))))


def _messages(handle: BinaryIO, size: int) -> Iterator[tuple[int, bytes]]:
    """(type, bytes) of each message up to the mark of the end, or the end of the file."""
    while start := handle.read(4):
        if start == _CONTINUES:  # which files of before 2019 lack
            start = handle.read(4)
        length = int.from_bytes(start, "little", signed=True)
        if not length:
            return
        if not 8 <= length <= size:
            raise pl.exceptions.ComputeError("it is no stream of Arrow's, or damaged")
        metadata = handle.read(length)
        try:
            kind, body = _fields(metadata)
        except struct.error:
            raise pl.exceptions.ComputeError("it is damaged") from None
        if not 0 <= body <= size:
            raise pl.exceptions.ComputeError("it is damaged")
        content = handle.read(body)
        if len(metadata) + len(content) < length + body:
            raise pl.exceptions.ComputeError("it ends within a record batch")
        yield kind, _CONTINUES + start + metadata + content


def _fields(metadata: bytes) -> tuple[int, int]:
    """(type, length of the body) in the flatbuffer of a message. Raises struct.error where it is none."""
    (table,) = struct.unpack_from("<I", metadata)
    (back,) = struct.unpack_from("<i", metadata, table)
    if table - back < 0:
        raise struct.error("before the beginning")
    (entries,) = struct.unpack_from("<H", metadata, table - back)

    def field(number: int, format: str) -> int:
        place = 4 + 2 * number
        (at,) = struct.unpack_from("<H", metadata, table - back + place) if place < entries else (0,)
        return struct.unpack_from(format, metadata, table + at)[0] if at else 0

    return field(1, "<B"), field(3, "<q")
