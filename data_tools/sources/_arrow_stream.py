"""Arrow's stream format cut into smaller streams at its messages, since polars reads a stream whole.

A message is its length, its metadata (a flatbuffer, of which few fields are looked at) and its body:
https://arrow.apache.org/docs/format/Columnar.html#encapsulated-message-format
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

import polars as pl

_CONTINUES = b"\xff\xff\xff\xff"
_END = _CONTINUES + bytes(4)
_DICTIONARY, _BATCH = 2, 3  # types of messages; another is the schema, the first of a stream


class _Message(NamedTuple):
    """Where a message lies in its file, its type, and of a dictionary its id."""

    begin: int
    end: int
    kind: int
    id: int | None


def tables(path: Path, size: int) -> Iterator[pl.DataFrame]:
    """The stream's rows, at least ``size`` bytes of messages in each table but the last; first, one without rows.

    A dictionary holds for the rows behind it until another of its id replaces it, as pyarrow's writer does wherever the
    next batch has a dictionary of its own.

    Raises:
        PolarsError: damaged, or with dictionaries that grow by deltas, which polars does not read.
    """
    with open(path, "rb") as handle:
        known: dict[int | None, bytes] = {}  # what the next rows need: the schema, and the dictionaries by id
        part: list[_Message] = []
        told = False
        for message in _messages(handle, path.stat().st_size):
            if message.kind == _BATCH and not told:
                yield _read(handle, known, part)
                part, told = [], True
            part.append(message)
            if message.kind == _BATCH and message.end - part[0].begin >= size:
                yield _read(handle, known, part)
                part = []
        if not told or any(message.kind == _BATCH for message in part):
            yield _read(handle, known, part)


def _read(handle: BinaryIO, known: dict[int | None, bytes], part: list[_Message]) -> pl.DataFrame:
    """Messages that follow each other, behind those of before that they need; ``known`` then holds what later ones do.

    In the stream's order: a dictionary that is replaced between two batches is read between them.
    """
    begin, end = (part[0].begin, part[-1].end) if part else (0, 0)
    before = b"".join(known.values())
    stream = io.BytesIO(bytes(len(before) + end - begin + len(_END)))
    with stream.getbuffer() as buffer:
        buffer[: len(before)], buffer[-len(_END) :] = before, _END
        messages = buffer[len(before) : -len(_END)]
        handle.seek(begin)
        if handle.readinto(messages) < len(messages):
            raise pl.exceptions.ComputeError("it became shorter while it was read")
        for message in part:
            if message.kind != _BATCH:
                known[message.id] = bytes(messages[message.begin - begin : message.end - begin])
        messages.release()
    return pl.read_ipc_stream(stream)


def _messages(handle: BinaryIO, size: int) -> Iterator[_Message]:
    """Each message up to the mark of the end, or the end of the file; ``handle`` may be moved meanwhile."""
    end = 0
    while True:
        begin = end
        handle.seek(begin)
        start = handle.read(4)
        if start == _CONTINUES:  # which files of before 2019 lack
            start = handle.read(4)
        length = int.from_bytes(start, "little", signed=True)
        if not length:
            return
        if not 8 <= length <= size:
            raise pl.exceptions.ComputeError("it is no stream of Arrow's, or damaged")
        metadata = handle.read(length)
        try:
            kind, body, id, delta = _fields(metadata)
        except struct.error:
            raise pl.exceptions.ComputeError("it is damaged") from None
        if not 0 <= body <= size:
            raise pl.exceptions.ComputeError("it is damaged")
        end = handle.tell() + body
        if len(metadata) < length or end > size:
            raise pl.exceptions.ComputeError("it ends within a record batch")
        if delta:
            raise pl.exceptions.ComputeError("a dictionary of it grows by deltas: they are not supported")
        yield _Message(begin, end, kind, id)


def _fields(metadata: bytes) -> tuple[int, int, int | None, bool]:
    """(type, length of the body, id of a dictionary, whether that is a delta) in the flatbuffer of a message.

    Raises:
        struct.error: it is none.
    """
    table = _at(metadata, 0, "<I")
    kind, body = _field(metadata, table, 1, "<B"), _field(metadata, table, 3, "<q")
    if kind != _DICTIONARY:
        return kind, body, None, False
    header = table + _place(metadata, table, 2)
    header += _at(metadata, header, "<I")
    return kind, body, _field(metadata, header, 0, "<q"), bool(_field(metadata, header, 2, "<B"))


def _at(data: bytes, place: int, format: str) -> int:
    return struct.unpack_from(format, data, place)[0]


def _field(data: bytes, table: int, number: int, format: str) -> int:
    """A number of a flatbuffer's table; 0, its default, where it is not there."""
    place = _place(data, table, number)
    return _at(data, table + place, format) if place else 0


def _place(data: bytes, table: int, number: int) -> int:
    """Where a field stands, from the table's beginning; 0: it is not there."""
    entries = table - _at(data, table, "<i")
    if entries < 0:
        raise struct.error("before the beginning")
    place = 4 + 2 * number
    return _at(data, entries + place, "<H") if place < _at(data, entries, "<H") else 0
