"""The way back from a file: from manifest to manifest, to files that have none.

Three kinds of manifests are understood: of a single file (``NAME.manifest.json``), of a folder of tables, and of a
stage of a run. Those two stand as ``manifest.json`` in their folder; a stage names what it read by digests of *keys*,
so its run is searched for the folders that have them.

Manifests may come from anywhere: they are data, of which nothing is believed but what has the right type.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data_tools import lineage
from data_tools.artifact import MANIFEST, digest_of, read_json
from data_tools.errors import UserError

STARTED = "started.json"  # what a stage under way has in the place of a manifest
# What a walk takes at most; a way that is longer says so.
MAX_BYTES = 64 << 20  # of a manifest
MAX_NODES = 200_000
MAX_ENTRIES = 20_000  # of folders looked through for the stages of a run
LEVELS = 4  # above a stage's folder, and below each of those

CHANGED, GONE, REPLACED = "changed since", "no longer there", "replaced by what was made of it"
UNREADABLE = "its manifest cannot be read"
_DIGEST = re.compile(r"[0-9a-f]{32}")
# Inputs of a stage that are no stages of its run where they are not found there: a model, a file of another folder.
_OUTSIDE = ("judge", "start", "reader", "tokens", "file", "pairs", "train", "test", "ood", "judgments")


@dataclass
class Node:
    """A file or folder on the way, and how it was made.

    Attributes:
        name: what to call it.
        path: where it is, or was; None where nobody knows.
        digest: what its reader found it to be, "" where the reader does not say.
        state: "" or what is wrong with it: CHANGED, GONE, REPLACED, UNREADABLE.
        note: what else there is to say.
        manifest: of its making; None where it has none, so everything below is empty.
        command: or stage.
        made: when, as the manifest says.
        settings, counts, versions: as they stand in the manifest.
        inputs: what it was made of.
        again: whether it stands elsewhere with its own inputs.
    """

    name: str
    path: Path | None = None
    digest: str = ""
    state: str = ""
    note: str = ""
    manifest: Path | None = None
    command: str = ""
    made: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    counts: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    inputs: list[Node] = field(default_factory=list)
    again: bool = False

    def __iter__(self) -> Iterator[Node]:
        """This one and all it was made of, readers first."""
        waiting = [self]
        while waiting:
            node = waiting.pop()
            yield node
            waiting += reversed(node.inputs)


def trace(path: str | Path, check: bool = False, look_in: Sequence[str | Path] = ()) -> Node:
    """The way back from a file, or a folder with a manifest.

    Args:
        check: read every input that is there and compare digests; else only sizes are compared.
        look_in: folders where inputs are looked for, by name and digest, that are not where they were.

    Raises:
        UserError: nothing there, a folder without a manifest, a manifest of its own that cannot be read, or a way of
            more than MAX_NODES steps.
    """
    path = Path(path)
    if lineage.is_manifest(path) and path.is_file():  # of what it is the manifest, the way is asked
        path = path.parent if path.name == MANIFEST else path.with_name(path.name.removesuffix(lineage.SUFFIX))
    root, own = Node(str(path), path), _manifest_for(path)
    if own is None and not os.path.lexists(path):
        raise UserError(f"{path}: no such file or folder, and no manifest of one")
    if own is None and path.is_dir():
        raise UserError(f"{path}: the folder has no {MANIFEST}; name a file in it, or the folder of a stage")
    walk = _Walk(check, [Path(folder) for folder in look_in])
    walk.describe(root)
    return root


class _Walk:
    def __init__(self, check: bool, look_in: list[Path]) -> None:
        self.check = check
        self.look_in = look_in
        self.seen: set[str] = set()
        self.stages = _Stages()

    def describe(self, root: Node) -> None:
        """Fill in how a file was made, and what it was made of, and so on."""
        waiting, n = [root], 1
        while waiting:
            node = waiting.pop()
            try:
                node.inputs = self._made_of(node)
            except UserError as error:
                if node is root:
                    raise
                node.state, node.note = UNREADABLE, str(error)
            n += len(node.inputs)
            if n > MAX_NODES:
                raise UserError(f"{root.name}: made of more than {MAX_NODES:,} files; name one of its inputs instead")
            waiting += reversed(node.inputs)

    def _made_of(self, node: Node) -> list[Node]:
        """What a node was made of, with whatever its manifest says of the making."""
        manifest = None if node.path is None or node.state == REPLACED else _manifest_for(node.path)
        if manifest is None:
            return []
        node.manifest = manifest
        if (place := os.path.realpath(manifest)) in self.seen:
            node.again = True
            said = _read(manifest)
            node.command = _command(said)
            return []
        self.seen.add(place)
        said = _read(manifest)
        if manifest.name not in (MANIFEST, STARTED) and node.path.is_file():
            # What lies there may have been made otherwise since.
            self.compare(node, _text(said.get("digest")), said.get("bytes"))
        elif manifest.name == MANIFEST:
            self._compare_outputs(node, _dict(said.get("outputs")))
        key = _dict(said.get("key"))
        node.command, node.made = _command(said), _text(said.get("made"))
        references = _references(key)
        node.settings = _dict(said.get("settings")) or {
            name: value for name, value in key.items() if name not in ("stage", "inputs", *references)
        }
        node.counts = _dict(said.get("counts")) or {
            name: value for name, value in _dict(said.get("facts")).items() if name != "steps"
        }
        node.versions = {name: value for name, value in _dict(said.get("versions")).items() if isinstance(value, str)}
        if manifest.name == STARTED:
            node.note = "not finished"
        entries, unplaced = _list(said.get("inputs")), _list(key.get("inputs"))
        if max(len(entries), len(unplaced)) > MAX_NODES:
            raise UserError(f"{manifest}: names more than {MAX_NODES:,} inputs")
        given = [self._input(entry, manifest.parent) for entry in entries]
        if not given:  # ingest's manifests of before name their inputs without a place
            given = [self._unplaced(entry) for entry in unplaced]
        known = {child.digest for child in given}
        stages = [self._stage(name, value, manifest) for name, value in references.items() if value not in known]
        return [*_judged(said, manifest.parent), *stages, *given]

    def _input(self, entry: Any, folder: Path) -> Node:
        entry = _dict(entry)
        name = _text(entry.get("file"))
        if not name:
            return Node("an input", note="its manifest does not say which")
        # The folder with links resolved, as it was when the path from it was written.
        path = Path(os.path.normpath(os.path.join(os.path.realpath(folder), name)))
        node = Node(_shown(path), path, _text(entry.get("digest")))
        if entry.get("replaced") is True:
            node.state = REPLACED
            return node
        if not _is_there(path) and (found := self._moved(path.name, node.digest)):
            node.path, node.note = found, f"moved from {_shown(path)}"
            node.name = _shown(found)
        self.compare(node, node.digest, entry.get("bytes"))
        return node

    def _unplaced(self, entry: Any) -> Node:
        name, digest = (*map(_text, _list(entry)[:2]), "", "")[:2]
        if found := self._moved(name, digest):
            return Node(_shown(found), found, digest)
        return Node(name or "an input", None, digest, note="its place is not recorded; look for it with --look-in")

    def _moved(self, name: str, digest: str) -> Path | None:
        """A file of that name and digest in the folders to look in."""
        for folder in self.look_in if digest else ():
            for found in _files_below(folder):
                if found.name == name and lineage.digest(found) == digest:
                    return found
        return None

    def _stage(self, name: str, digest: str, manifest: Path) -> Node:
        outside = name in _OUTSIDE or name.endswith("_digest")
        if folder := self.stages.find(digest, manifest.parent, outside):
            return Node(_shown(folder), folder, digest, note=name)
        if outside:
            return Node(name, None, digest, note="not of this run: its place is not recorded")
        return Node(name, None, digest, GONE, "no stage with this key in the run")

    def _compare_outputs(self, node: Node, outputs: dict[str, Any]) -> None:
        """Say where a file of a folder of tables, or one of all where the folder is asked for, is not what was made."""
        folder = node.path.is_dir()
        for name, said in outputs.items() if folder else [(node.path.name, outputs.get(node.path.name))]:
            if not isinstance(said, dict) or Path(name).name != name:  # of a manifest from before, or from elsewhere
                continue
            one = Node(name, node.path / name if folder else node.path)
            self.compare(one, _text(said.get("digest")), said.get("bytes"))
            if one.state:
                node.state, node.note = CHANGED, f"{name}: {one.state}" if folder else node.note
                return

    def compare(self, node: Node, digest: str, size: Any) -> None:
        """Say where a file is not what it was. Only files are read, never a device or a pipe."""
        path = node.path
        if path is None or not _is_there(path):
            node.state = GONE
            return
        try:
            if path.is_dir():
                return
            other_size = isinstance(size, int) and path.stat().st_size != size
            if other_size or (self.check and digest and lineage.digest(path) != digest):
                node.state = CHANGED
        except OSError as error:
            node.note = f"cannot be read ({error.strerror})"


class _Stages:
    """The stages of a run, by the digests of their keys: found by looking around, near folders first."""

    def __init__(self) -> None:
        self.left = MAX_ENTRIES
        self.folders: dict[str, list[Path]] = {}
        self.roots: set[Path] = set()  # runs: folders with a stage of data
        self.looked: set[Path] = set()

    def find(self, digest: str, near: Path, in_run: bool) -> Path | None:
        """The folder of a stage; ``in_run``: it lies in the same run, or nowhere that can be found."""
        near = Path(os.path.realpath(near))
        for around in list(near.parents)[:LEVELS]:
            self._look(around, LEVELS)
            of_these = [folder for folder in self.folders.get(digest, ()) if folder.is_relative_to(around)]
            if of_these:
                return of_these[0]
            if in_run and around in self.roots:
                return None
        return None

    def _look(self, folder: Path, levels: int) -> None:
        if folder in self.looked or self.left <= 0:
            return
        self.looked.add(folder)
        inner = []
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    self.left -= 1
                    if self.left <= 0:
                        break
                    if entry.name == MANIFEST and entry.is_file():
                        self._know(folder)
                    elif levels and not entry.name.startswith(".") and entry.is_dir(follow_symlinks=False):
                        inner.append(folder / entry.name)
        except OSError:  # a folder that may not be read
            return
        for below in sorted(inner):
            self._look(below, levels - 1)

    def _know(self, folder: Path) -> None:
        try:
            key = _read(folder / MANIFEST).get("key")
            self.folders.setdefault(digest_of(key), []).append(folder)
            if _dict(key).get("stage") == "data":
                self.roots.add(folder.parent)
        except (UserError, OSError, RecursionError, UnicodeError):
            return  # none of ours


def _manifest_for(path: Path) -> Path | None:
    """The manifest that says how a file was made, where one does."""
    path = Path(os.path.abspath(path))
    try:
        if path.name and (own := lineage.manifest_of(path)).is_file():
            return own
        if path.is_dir():
            for name in (MANIFEST, STARTED):
                if (own := path / name).is_file():
                    return own
        # A stage covers what lies in its folder, such as the files of a judge; a command only the tables it wrote.
        for above, folder in enumerate(list(path.parents)[:2]):
            for manifest in (folder / MANIFEST, folder / STARTED):
                if manifest.is_file():
                    return manifest if _covers(manifest, path, above) else None
    except (OSError, ValueError):  # a name that no file can have
        return None
    return None


def _covers(manifest: Path, path: Path, above: int) -> bool:
    try:
        said = _read(manifest)
    except UserError:
        # A raw file may lie beside anything of that name; tables do not.
        return path.suffix == ".parquet"
    tables = said.get("tables")
    if isinstance(tables, list):
        return not above and path.suffix == ".parquet" and path.stem in tables
    return bool({"stage", "kind"} & _dict(said.get("key")).keys())


def _read(manifest: Path) -> dict[str, Any]:
    """Raises UserError for a manifest that is none."""
    if manifest.stat().st_size > MAX_BYTES:
        raise UserError(f"{manifest}: is larger than any manifest; remove it, or name another file")
    said = read_json(manifest)
    if not isinstance(said, dict) or not (_command(said) or isinstance(said.get("key"), dict)):
        raise UserError(f"{manifest}: is no manifest of ours (it has neither 'command' nor 'key')")
    return said


def _judged(said: dict[str, Any], folder: Path) -> list[Node]:
    """Of a method of a comparison: the stage in its folder that its numbers come from."""
    name = _text(_dict(said.get("facts")).get("judged"))
    parts = Path(name).parts
    if not name or ".." in parts or Path(name).is_absolute() or not _is_there(folder / name / MANIFEST):
        return []
    return [Node(_shown(folder / name), folder / name, note="judged")]


def _command(said: dict[str, Any]) -> str:
    key = _dict(said.get("key"))
    return _text(said.get("command")) or _text(key.get("stage")) or _text(key.get("kind"))


def _references(key: dict[str, Any]) -> dict[str, str]:
    """The digests in a stage's key, by what they are of; the data stage has them under ``source``."""
    found = {**_dict(key.get("source")), **key}
    return {name: value for name, value in found.items() if isinstance(value, str) and _DIGEST.fullmatch(value)}


def _files_below(folder: Path) -> Iterator[Path]:
    for here, _, names in os.walk(folder):
        yield from (file for name in sorted(names) if (file := Path(here, name)).is_file())


def _is_there(path: Path) -> bool:
    try:
        return path.is_file() or path.is_dir()
    except (OSError, ValueError):
        return False


def _shown(path: Path) -> str:
    """A path from here where it is below, else whole."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
