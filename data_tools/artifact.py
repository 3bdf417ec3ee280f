"""Files that are whole or absent: atomic writes, digests, and manifests written last.

A stage's folder is complete when it holds ``manifest.json``; the manifest says which inputs and settings the
stage had (its key), so a second call knows what it need not do again.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from hashlib import blake2b
from pathlib import Path
from typing import Any

import polars as pl

from data_tools import panics
from data_tools.errors import DiskFull, UserError, is_full, number_of
from data_tools.schema import check, check_values

MANIFEST = "manifest.json"
_SHUT = {errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO}  # of a place that cannot be written
_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{8}\.tmp(\.[^.]+)?", re.DOTALL)


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """A temporary path beside ``path``, renamed onto it on success and removed on failure.

    The data reach the disk before the name does, so after a power cut the file is the old one or the new one.
    """
    path = Path(path)
    with full_disk_told(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        # The suffix stays last: writers that look at it (polars, safetensors) see the real one.
        temporary = path.with_name(temporary_name(path.stem, path.suffix))
        try:
            yield temporary
            _sync(temporary)
            os.replace(temporary, path)
            _sync(path.parent)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
    """Like :func:`atomic_path` for a folder; an existing folder of that name is replaced.

    No system call exchanges two folders everywhere, so the old one is moved aside first and removed last: under the
    name stands the old folder, for an instant nothing, then the new one; never half a folder.
    """
    path = Path(path)
    with full_disk_told(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary, aside = (path.with_name(temporary_name(path.name)) for _ in range(2))
        try:
            temporary.mkdir()
            yield temporary
            for inner in (*temporary.rglob("*"), temporary):
                if not inner.is_symlink():
                    _sync(inner)
            if path.exists():
                os.replace(path, aside)
            os.replace(temporary, path)
            _sync(path.parent)
        finally:
            if aside.exists() and not path.exists():
                os.replace(aside, path)
            remove(aside)
            remove(temporary)


def replace_folder(temporary: Path, path: Path) -> None:
    """Give a finished folder its name, which another one (or a file) may have.

    Unlike :func:`atomic_folder` this outlives a kill at its narrowest: until the new one stands, the old one does, or
    lies where :func:`put_back` finds it.
    """
    aside = _aside(path)
    for inner in (*temporary.rglob("*"), temporary):
        _sync(inner)
    if path.exists():
        remove(aside)
        os.replace(path, aside)
    os.replace(temporary, path)
    _sync(path.parent)
    remove(aside)


def put_back(path: str | Path) -> None:
    """Where a process was killed between the two renames of :func:`replace_folder`, the old folder gets its name back.

    Several processes may call it, while none replaces the folder.
    """
    path = Path(path)
    if not path.exists():
        with suppress(FileNotFoundError):
            os.replace(_aside(path), path)


@contextmanager
def full_disk_told(folder: Path) -> Iterator[None]:
    """What a writer says of a disk without room, said in one line; of one that cannot be written, with the folder.

    Raises:
        DiskFull: no room in ``folder``.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if is_full(error):
            raise DiskFull(
                f"{folder}: no room left on the disk, or for files of this size; make room there and run the same "
                "command again: what is finished stays, nothing is half-written"
            ) from None
        number = number_of(error)
        if number in _SHUT and isinstance(error, OSError) and error.filename is None:
            raise OSError(number, os.strerror(number), str(folder)) from error
        raise


def temporary_name(stem: str, suffix: str = "") -> str:
    """A new name that :func:`sweep` knows as a left-over: ``.stem.01234567.tmp`` and the suffix."""
    return f".{stem}.{uuid.uuid4().hex[:8]}.tmp{suffix}"


def sweep(folder: str | Path) -> None:
    """Remove what a killed process left of its atomic writes in ``folder`` (not below it), and nothing else."""
    for left in Path(folder).glob(".*"):
        if _TEMPORARY.fullmatch(left.name):
            remove(left)


def write_text(path: str | Path, text: str) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | Path, value: Any) -> None:
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, sort_keys=True) + "\n")


def read_json(path: str | Path) -> Any:
    """Raises UserError for a file that is missing or is not JSON."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except RecursionError:
        raise UserError(
            f"{path}: not valid JSON of ours (nested too deeply); remove it and run the command again"
        ) from None
    except ValueError as error:  # of the syntax, the encoding, or a number of thousands of digits
        raise UserError(f"{path}: not valid JSON ({error}); remove it and run the command again") from None


def write_table(
    frame: pl.DataFrame, path: str | Path, schema: pl.Schema, metadata: dict[str, str] | None = None
) -> None:
    """Write a checked table as parquet, atomically; ``metadata`` stands in the file beside the rows."""
    with atomic_path(path) as temporary:
        check(frame, schema, path).write_parquet(temporary, metadata=metadata)


def read_table(path: str | Path, schema: pl.Schema) -> pl.DataFrame:
    """Read and check a parquet table.

    Raises:
        UserError: no such file, not parquet, a wrong column, or a value that must not be there (such as a null id);
            names the file, the column and the row.
    """
    path = Path(path)
    with _readable(path):
        frame = pl.read_parquet(path, glob=False, hive_partitioning=False)
    return check_values(check(frame, schema, path), schema, path)


def scan_tables(paths: Sequence[str | Path], schema: pl.Schema) -> pl.LazyFrame:
    """Parquet tables of one schema, checked as by :func:`read_table`, to be read as they are needed.

    Args:
        paths: files; at least one.
    """
    paths = [Path(path) for path in paths]
    for path in paths:
        with _readable(path):
            frame = pl.scan_parquet(path, glob=False, hive_partitioning=False)
            frame.collect_schema()
        frame = check(frame, schema, path)
        with _readable(path):
            check_values(frame, schema, path)
    # Each file has been checked alone: it may have columns of its own.
    scanned = pl.scan_parquet(paths, glob=False, hive_partitioning=False, extra_columns="ignore", schema=schema)
    return scanned.select(list(schema))


@contextmanager
def damage_told(paths: Sequence[str | Path]) -> Iterator[None]:
    """Around a query of tables from :func:`scan_tables`, which has not read all of their columns.

    Raises:
        UserError: the query failed, and of these files one cannot be read to its end, or polars panicked though they
            can; else the query's own error.
    """
    try:
        with panics.contained():
            yield
    except pl.exceptions.PolarsError as error:
        for path in map(Path, paths):
            with _readable(path):
                for _ in pl.scan_parquet(path, glob=False, hive_partitioning=False).collect_batches():
                    pass
        if str(error) == panics.DAMAGED:  # a file can be damaged in ways that not every way to read it meets
            names = ", ".join(map(str, paths))
            raise UserError(f"{names}: polars cannot work with this table; it may be damaged: make it anew") from None
        raise


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    try:
        with panics.contained():
            yield
    except (pl.exceptions.PolarsError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"{path}: not a readable parquet file ({reason}); for raw rows run: python -m data_tools ingest"
        ) from None


def digest(path: str | Path) -> str:
    """BLAKE2b-128 of a file's bytes, or of the names and bytes of every file below a folder, in hex.

    Raises UserError where there is no such file.
    """
    path = Path(path)
    if not path.exists():
        raise UserError(f"{path}: no such file")
    result = blake2b(digest_size=16)
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    for file in files:
        result.update(str(file.relative_to(path)).encode() + b"\0")
        with open(file, "rb") as handle:
            while block := handle.read(1 << 20):
                result.update(block)
    return result.hexdigest()


def digest_of(value: Any) -> str:
    """BLAKE2b-128 of a JSON value with sorted keys, in hex."""
    return blake2b(json.dumps(value, sort_keys=True, ensure_ascii=False).encode(), digest_size=16).hexdigest()


def is_complete(folder: str | Path, key: dict[str, Any]) -> bool:
    """Whether ``folder`` holds a manifest of a stage with this key.

    Raises:
        UserError: the folder is complete, but of other inputs or settings (names the first that differs), or the
            manifest is none of ours.
    """
    manifest = Path(folder) / MANIFEST
    if not manifest.exists():
        return False
    content = read_json(manifest)
    found = content.get("key") if isinstance(content, dict) else None
    if not isinstance(found, dict):
        raise UserError(f"{manifest}: has no 'key', so it is no manifest of a stage; use another output folder")
    for name in sorted(key.keys() | found.keys()):
        if key.get(name) != found.get(name):
            raise UserError(
                f"{manifest}: made with another '{name}' ({_short(found.get(name))}, now {_short(key.get(name))}); "
                "use another output folder, or remove this one to make it anew"
            )
    return True


def write_manifest(folder: str | Path, key: dict[str, Any], **facts: Any) -> None:
    """Say that ``folder`` is complete: written last. ``key`` is compared later, ``facts`` are for people."""
    write_json(Path(folder) / MANIFEST, {"key": key, **facts})


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."


def _aside(path: Path) -> Path:
    return path.with_name(f".{path.name}.previous")


def remove(path: Path) -> None:
    """A file, a link or a folder; missing is fine, and what cannot be removed of a folder stays."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    """A file's data, or a folder's names, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:  # some network file systems have none for folders
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)
