"""One process at a time in an output folder."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from data_tools.errors import UserError


@contextmanager
def only_one(folder: str | Path, flag: str = "--out", patience: float = 0.0, shared: bool = False) -> Iterator[None]:
    """Hold ``folder``, which is made where it is absent, and then removed again if it is left empty.

    The folder itself is locked, so no file tells of it, and the lock ends with the process and those that it began
    (``close_fds=False``): where a fit outlives a killed run, the folder stays locked until it has ended. Where a file
    system cannot lock folders (some network ones), nobody is kept out.

    Args:
        patience: seconds for a killed process to let go of it.
        shared: hold it together with others that hold it so, and with nobody else.

    Raises:
        UserError: another process holds it; ``flag`` is what names another one.
    """
    folder = Path(folder)
    made = absent(folder)
    descriptor = _locked(folder, flag, time.monotonic() + patience, shared)
    os.set_inheritable(descriptor, True)
    try:
        yield
    finally:
        remove_empty(made)
        os.close(descriptor)


def absent(folder: Path) -> list[Path]:
    """The folder and its parents that do not exist, innermost first."""
    return [path for path in (folder, *folder.parents) if not path.exists()]


def remove_empty(folders: list[Path]) -> None:
    """Remove those of the folders, innermost first, that hold nothing."""
    for folder in folders:
        with suppress(OSError):  # it holds something, or is gone
            folder.rmdir()


def _locked(folder: Path, flag: str, until: float, shared: bool) -> int:
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            if time.monotonic() < until:
                time.sleep(0.1)
                continue
            raise UserError(
                f"{folder}: another command is at work in this folder; wait for it, or name another one with {flag}"
            ) from None
        except OSError:
            return descriptor
        # Whoever held it may have removed it in between: then this is a folder without a name.
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), os.stat(folder)):
                return descriptor
        os.close(descriptor)
