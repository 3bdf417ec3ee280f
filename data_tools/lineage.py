"""Where a table came from: each output of a command has a manifest beside it, and a manifest names its inputs.

A folder of tables has ``manifest.json`` in it, a single file ``NAME.manifest.json`` beside it. Inputs stand there with
their digests, so the way back to the raw files can be walked (ancestry.py), and a file that was changed since is
noticed; so do the outputs. A file that is changed while a command reads it (:func:`watched`) has no digest to record:
the command ends with an error.

An input is named by its path from the manifest's folder, both with links resolved: what moves together stays found.
Where one moved without the other, its name and digest are enough to find it again (``lineage --look-in``).
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import polars as pl

from data_tools import artifact
from data_tools.errors import UserError

SUFFIX = ".manifest.json"
# A file that was written this short a time (seconds) before it was read may change again within the clock's tick.
_SETTLED = 2.0
_THREADS = 4

_Stamp = tuple[str, int, int, int]  # path, size, time of the last change, inode
_known: dict[_Stamp, Future[str]] = {}
_lock = threading.Lock()
_watched: dict[str, _Stamp] | None = None  # files as they were when the command began to read them; None: no command


def manifest_of(file: str | Path) -> Path:
    """Where the manifest of a single output file stands: ``pairs.parquet`` -> ``pairs.parquet.manifest.json``."""
    file = Path(file)
    return file.with_name(file.name + SUFFIX)


def is_manifest(file: str | Path) -> bool:
    """Whether a file of that name is a manifest, so no raw file though it ends in .json."""
    name = Path(file).name
    return name == artifact.MANIFEST or name.endswith(SUFFIX)


@contextmanager
def watched(files: Iterable[str | Path]) -> Iterator[None]:
    """Around a command that reads these files, or what lies in these folders: its :func:`facts` refuse one that does
    not stand there any more as it stood at the beginning (size, time, inode). Within another, that one's beginning."""
    global _watched
    before, _watched = _watched, dict(_watched or {})
    try:
        _watch(files)
        yield
    finally:
        _watched = before


def _watch(files: Iterable[str | Path]) -> None:
    for file in (file for given in files for file in _files(Path(given)) if file.is_file()):
        if _watched is not None:
            _watched.setdefault(os.path.abspath(file), _stamp(file))


def check_unchanged(files: Iterable[str | Path]) -> None:
    """Raises UserError for a file that was changed, or removed, since the command began."""
    for file in files:
        then = (_watched or {}).get(os.path.abspath(file))
        if then is not None and (not Path(file).is_file() or _stamp(Path(file)) != then):
            raise UserError(f"{file}: was changed while it was read; run the command again")


def _stamp(file: Path) -> _Stamp:
    stat = file.stat()
    return (os.path.abspath(file), stat.st_size, stat.st_mtime_ns, stat.st_ino)


def begin(files: Iterable[str | Path]) -> None:
    """Read the files' digests in threads from now on (hashing leaves the interpreter free), for a later :func:`facts`.

    A file that is not there is passed over: whoever reads it says so.
    """
    files = list(files)
    _watch(files)
    waiting = [(Path(file), future) for file in files if Path(file).is_file() and (future := _promised(Path(file))[0])]

    def work() -> None:
        with suppress(IndexError):
            while True:
                _fulfil(*waiting.pop())

    for _ in range(min(_THREADS, len(waiting))):
        threading.Thread(target=work, daemon=True).start()  # daemons: Ctrl-C does not wait for gigabytes


def digest(path: str | Path) -> str:
    """:func:`artifact.digest`, where a file that did not change since (path, size, time, inode) is read once a process.

    Raises UserError where there is no such file.
    """
    path = Path(path)
    if not path.is_file():
        return artifact.digest(path)
    mine, future = _promised(path)
    if mine is not None:
        _fulfil(path, mine)
    return future.result()


def _promised(file: Path) -> tuple[Future[str] | None, Future[str]]:
    """(the digest that the caller has to work out, if nobody does; the digest)."""
    stamp = _stamp(file)
    with _lock:
        if stamp in _known:
            return None, _known[stamp]
        future: Future[str] = Future()
        if time.time() - stamp[2] / 1e9 > _SETTLED:
            _known[stamp] = future
        return future, future


def _fulfil(file: Path, future: Future[str]) -> None:
    try:
        future.set_result(artifact.digest(file))
    except BaseException as error:  # told to whoever asks; the next one may have more luck
        with _lock:
            for stamp in [stamp for stamp, known in _known.items() if known is future]:
                del _known[stamp]
        future.set_exception(error)


def inputs_of(files: Iterable[str | Path], out: str | Path) -> list[dict[str, Any]]:
    """How a manifest in the folder ``out`` names its inputs, files or folders of them: path from there, digest, bytes.

    Raises:
        UserError: an input that is not there, or was changed while the command read it (:func:`watched`).
    """
    files = list(dict.fromkeys(file for given in files for file in _files(Path(given))))
    check_unchanged(files)
    begin(files)
    named = [{"file": _named_from(file, out), "digest": digest(file), "bytes": file.stat().st_size} for file in files]
    check_unchanged(files)
    return named


def outputs_of(files: Iterable[str | Path]) -> dict[str, dict[str, Any]]:
    """How a folder's manifest names the files in it: name -> digest, bytes."""
    files = [Path(file) for file in files]
    begin(files)
    return {file.name: {"digest": digest(file), "bytes": file.stat().st_size} for file in files}


def _named_from(file: Path, out: str | Path) -> str:
    there = os.path.realpath(file)
    try:
        return Path(os.path.relpath(there, os.path.realpath(out))).as_posix()
    except ValueError:  # another drive of Windows
        return Path(there).as_posix()


def _files(given: Path) -> list[Path]:
    """The file, or those below a folder that are neither hidden nor manifests."""
    if not given.is_dir():
        return [given]
    inside = (file for file in sorted(given.rglob("*")) if file.is_file() and not is_manifest(file))
    return [file for file in inside if not any(part.startswith(".") for part in file.relative_to(given).parts)]


def facts(command: str, inputs: Iterable[str | Path], out: str | Path) -> dict[str, Any]:
    """What every manifest says of its making.

    Args:
        command: the name of the command.
        inputs: files that were read; each is named from the manifest's folder, with its digest and bytes.
        out: the folder that the manifest stands in.

    Raises:
        UserError: an input that is not there.
    """
    return {
        "command": command,
        "inputs": inputs_of(inputs, out),
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": versions(),
    }


def write(
    file: str | Path,
    command: str,
    inputs: Iterable[str | Path],
    settings: Mapping[str, Any],
    counts: Mapping[str, Any],
) -> None:
    """Write the manifest of a single output (a file, or a folder that holds none), which is complete:
    its own digest stands in it, too.

    An input that the output replaced (``--out`` was the input itself) is named without a digest: what it held is gone.

    Args:
        settings: of the command, as JSON values (paths become texts).
        counts: rows in and out, and what was left out by reason.

    Raises:
        UserError: an input that is not there, or the output.
    """
    file, inputs = Path(file), [Path(given) for given in inputs]
    if not file.exists():
        raise UserError(f"{file}: no such file")
    replaced = [given for given in inputs if given.exists() and given.samefile(file)]
    said = facts(command, [given for given in inputs if given not in replaced], file.parent)
    said["inputs"] += [{"file": file.name, "replaced": True}] * bool(replaced)
    said |= {
        "settings": _plain(settings),
        "counts": _plain(counts),
        "digest": digest(file),
    }
    if file.is_file():
        said["bytes"] = file.stat().st_size
    artifact.write_json(manifest_of(file), said)


def _plain(value: Any) -> Any:
    """Paths as texts, tuples as lists: what JSON has."""
    if isinstance(value, Mapping):
        return {str(name): _plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(inner) for inner in value]
    return str(value) if isinstance(value, os.PathLike) else value


def versions() -> dict[str, str]:
    """Of this package and of polars."""
    try:
        own = version("genrm-lightning")
    except PackageNotFoundError:  # a checkout that is not installed
        own = "unknown"
    return {"genrm-lightning": own, "polars": pl.__version__}
