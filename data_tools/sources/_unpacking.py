"""Compressed files as streams of their bytes: gzip and zstd, known by how they begin."""

from __future__ import annotations

import glob
import gzip
import io
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import polars as pl

from data_tools.errors import UserError

_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_LINES = 2_000  # that polars unpacks at once
# What reading a damaged one raises.
DAMAGE = (OSError, EOFError, zlib.error, pl.exceptions.PolarsError)


def unpacked(path: Path) -> BinaryIO:
    """The file's bytes, unpacked as they are read. Reading may raise DAMAGE, and UserError for a .zst of no UTF-8."""
    with open(path, "rb") as handle:
        start = handle.read(4)
    if start.startswith(_GZIP):
        return gzip.open(path)
    return io.BufferedReader(_Zstd(path), 1 << 20) if start == _ZSTD else open(path, "rb")


def damaged(path: Path, error: Exception) -> UserError:
    """What to say of DAMAGE."""
    return UserError(f"{path}: the compressed file is damaged ({error}); fetch it again")


class _Zstd(io.RawIOBase):
    """Python has no zstd before 3.14; polars unpacks it line by line, no further ahead than a few batches."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._blocks = self._read()
        self._rest = memoryview(b"")

    def _read(self) -> Iterator[bytes]:
        lines = pl.scan_lines(glob.escape(str(self._path)))
        try:
            for batch in lines.collect_batches(maintain_order=True, chunk_size=_LINES):
                yield ("\n".join(batch["line"]) + "\n").encode()
        except pl.exceptions.PolarsError as error:
            if "utf" not in str(error).lower():
                raise
            raise UserError(f"{self._path}: is not UTF-8; unpack it, and the line can be told") from None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:
        while not self._rest:
            block = next(self._blocks, None)
            if block is None:
                return 0
            self._rest = memoryview(block)
        n = min(len(buffer), len(self._rest))
        buffer[:n], self._rest = self._rest[:n], self._rest[n:]
        return n

    def close(self) -> None:
        self._blocks.close()
        super().close()
