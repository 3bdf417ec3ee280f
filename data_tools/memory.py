"""How much is worked on at once, from the memory that a command may use."""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass

from data_tools.errors import UserError

_GIB = 2**30
_NARROW = 512  # bytes a row, while a narrow table is decided
_RAW = 16  # times its text, while a chunk is parsed, checked and written
_WORDS = 64  # times its text, while a batch is cut into words and these are hashed, with what was read ahead


@dataclass(frozen=True)
class Memory:
    """Limits that follow from a number of GiB.

    Attributes:
        bytes: in all.
        rows: of a narrow table, decided at once.
        chunk: bytes of raw text that a thread works on.
        threads: that work on chunks.
        text: bytes of text whose words are looked at, at once.
    """

    bytes: int
    rows: int
    chunk: int
    threads: int
    text: int

    def row_group(self, row_bytes: float, files: int) -> int:
        """Rows of a row group, of which a writer holds one for each of so many files, and reads some ahead."""
        return min(max(int(self.bytes / (8 * files * max(row_bytes, 1))), 1024), 122_880)

    @classmethod
    def of(cls, gib: float) -> Memory:
        """Raises UserError for less than a quarter of a GiB."""
        if not 0.25 <= gib < 2**20:
            raise UserError(f"--memory {gib:g}: must be at least 0.25 (GiB), and a number")
        threads = os.cpu_count() or 1
        chunk = min(int(gib * _GIB / (2 * _RAW * threads)), 32 << 20)
        return cls(int(gib * _GIB), int(gib * _GIB / _NARROW), chunk, threads, int(gib * _GIB / _WORDS))


DEFAULT = Memory.of(4.0)


def add_memory(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--memory",
        type=float,
        default=4.0,
        metavar="GIB",
        help="to use, whatever the files' size (default 4)",
    )
