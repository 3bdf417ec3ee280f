"""Who does what: processes that share a folder, on one machine or many, divide work by claim files.

A claim is a file that exactly one process can create. Its holder counts up a number in it every few seconds. A claim
whose content has not changed for a stated time, by the clock of whoever looks, is taken over: no two clocks are ever
compared. Where the holder is a process of this machine that has died, nobody waits. A claim taken over from somebody
who was only slow means that a thing is done twice, so what is done must be the same each time and written in one piece.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from data_tools.artifact import full_disk_told

BEAT = 5.0  # seconds between a holder's signs of life
STALE = 60.0  # seconds without one, after which a claim is taken over
_POLL = 0.5  # seconds between looks at what others hold


class Claims:
    """The claims of this process in ``folder``; a context manager that lets go of them at its end.

    Without the folder nothing is claimed (:meth:`take` is False): whoever shares work makes it.
    """

    def __init__(self, folder: Path, beat: float = BEAT, stale: float = STALE) -> None:
        self.folder, self.beat, self.stale = folder, beat, stale
        self._mine: dict[str, int] = {}  # name -> open file
        self._seen: dict[str, tuple[bytes, float]] = {}  # name -> what its holder last wrote, when we first saw that
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._heart = threading.Thread(target=self._beats, daemon=True)

    def __enter__(self) -> Claims:
        self._heart.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._heart.join()
        for name in list(self._mine):
            self.release(name)

    def take(self, name: str) -> bool:
        """Whether ``name`` is now ours: nobody alive held it."""
        with full_disk_told(self.folder):
            descriptor = self._create(name)
            if descriptor is None and not self.held(name) and self._bury(name):
                descriptor = self._create(name)
        if descriptor is None:
            return False
        with self._lock:
            self._mine[name] = descriptor
        return True

    def _create(self, name: str) -> int | None:
        path = self.folder / name
        try:
            descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
        except (FileExistsError, FileNotFoundError):  # another's; or the folder is gone
            return None
        try:
            os.write(descriptor, _sign(0))
        except OSError:
            os.close(descriptor)
            path.unlink(missing_ok=True)
            raise
        return descriptor

    def _bury(self, name: str) -> bool:
        """Remove a claim of somebody who has died, unless another process was quicker and the claim is a new one."""
        path = self.folder / name
        with suppress(FileNotFoundError):
            if name in self._seen and path.read_bytes() != self._seen[name][0]:
                return False
            path.unlink()
        return True

    def release(self, name: str) -> None:
        """Let go of what :meth:`take` gave."""
        path = self.folder / name
        with self._lock:
            descriptor = self._mine.pop(name)
        with suppress(OSError):  # it was taken over, is another's now, or the folder is gone
            if os.path.samestat(os.fstat(descriptor), path.stat()):
                path.unlink()
        with suppress(OSError):
            os.close(descriptor)

    def held(self, name: str) -> bool:
        """Whether somebody alive holds ``name``."""
        if name in self._mine:
            return True
        try:
            sign = (self.folder / name).read_bytes()
        except FileNotFoundError:
            self._seen.pop(name, None)
            return False
        except OSError:  # a network's: whatever it is, it may pass
            sign = b""
        now = time.monotonic()
        if self._seen.get(name, (None, 0.0))[0] != sign:
            self._seen[name] = (sign, now)
        return now - self._seen[name][1] < self.stale and not _has_died(sign)

    def left(self, name: str) -> bool:
        """Whether its holder has died, or is silent, without having let go of ``name``."""
        return (self.folder / name).exists() and not self.held(name)

    @contextmanager
    def once(self, name: str, done: Callable[[], bool]) -> Iterator[bool]:
        """Hold ``name`` as soon as nobody else does; False where it is ``done`` without."""
        while not done():
            if self.take(name):
                try:
                    yield not done()
                finally:
                    self.release(name)
                return
            self.wait()
        yield False

    def wait(self) -> None:
        time.sleep(_POLL)

    def _beats(self) -> None:
        count = 0
        while not self._ended.wait(self.beat):
            count += 1
            with self._lock, suppress(OSError):  # a sign that cannot be given is one that others miss
                for descriptor in self._mine.values():
                    os.pwrite(descriptor, _sign(count), 0)
                    os.fsync(descriptor)


def _sign(count: int) -> bytes:
    """A sign of life: which one, and whose. Of one length, so that a new one covers the old one."""
    return f"{count:012d} {_started(os.getpid()) or 0} {os.getpid()} {_machine()}\n".encode()


def _has_died(sign: bytes) -> bool:
    """Whether it is the sign of a process of this machine that is there no more; False where nobody can tell."""
    words = sign.decode(errors="replace").split()
    if len(words) != 4 or not (words[1] + words[2]).isdigit() or words[3] == "unknown" or words[3] != _machine():
        return False
    return _started(int(words[2])) != int(words[1])


def _machine() -> str:
    """This machine since it was started, and the name space that its process numbers belong to."""
    try:
        booted = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{booted}/{os.stat('/proc/self/ns/pid').st_ino}"
    except OSError:  # not Linux
        return "unknown"


def _started(pid: int) -> int | None:
    """When the process was started, in ticks since the machine was; None for one that is not there, or a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[19])
