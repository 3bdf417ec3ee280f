"""The one kind of error a user can cause and mend."""

from __future__ import annotations

import errno
import re

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}  # of a disk, a quota, a limit on file sizes
# Some tell it in their text alone: polars, safetensors, what wraps an error of Python's.
_NUMBER = re.compile(r"\(os error (\d+)\)|Os \{ code: (\d+)|\[Errno (\d+)\]")


class UserError(Exception):
    """A mistake the user can mend: one line that says what, where (file, line, key) and what to do.

    Entry points print it as ``error: …`` without a traceback and exit with status 2.
    """


class DiskFull(UserError):
    """No room in a folder. Nothing there is half-written: with room the same command works, or goes on."""


def number_of(error: BaseException) -> int | None:
    """The system's number of an error; None where the system is not to blame."""
    told = _NUMBER.search(str(error))
    return getattr(error, "errno", None) or (int(told[told.lastindex]) if told else None)


def is_full(error: BaseException) -> bool:
    """Whether a disk, a quota or a limit left no room: the error says so, or the one that it came after (torch's)."""
    return number_of(error) in _FULL or (error.__context__ is not None and is_full(error.__context__))
