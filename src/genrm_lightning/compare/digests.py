"""What the files are that a comparison names: their digests, remembered beside its methods.

A digest holds as long as size, times and inode of the file do, so a backbone of gigabytes is read once, and not at each
call to find that nothing is left to do.
"""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import Any

from data_tools.artifact import digest, digest_of, read_json, write_json
from data_tools.errors import UserError
from genrm_lightning.star.settings import OWN, REFERENCE, StarSettings
from genrm_lightning.star.stage import identity

FILE = ".digests.json"


class Digests:
    """Digests of files, kept in the folder of a comparison if it is there.

    Args:
        folder: of the comparison.
    """

    def __init__(self, folder: Path) -> None:
        self.file = folder / FILE
        self._known = self._read()
        self._kept = dict(self._known)

    def _read(self) -> dict[str, Any]:
        """{path: [stamp, digest]}; nothing where nothing was kept, or what was kept is damaged."""
        try:
            said = read_json(self.file) if self.file.exists() else {}
        except UserError:
            return {}
        return said if isinstance(said, dict) else {}

    def of(self, path: str | Path) -> str:
        """The digest of a file. Raises UserError where there is none."""
        name, stamp = os.path.abspath(path), _stamp(path)
        if stamp is None or self._known.get(name, [None])[0] != stamp:
            found = digest(path)
            if _stamp(path) != stamp:  # it is being written
                return found
            self._known[name] = [stamp, found]
        return self._known[name][1]

    def keep(self) -> None:
        """Write what is new."""
        if self._known != self._kept and self.file.parent.is_dir():
            write_json(self.file, self._known)
            self._kept = dict(self._known)


def digests_of(folder: Path, star: StarSettings, drawn: bool) -> dict[str, str]:
    """Digests of what the settings of a method name by a path: backbone, rationales, the judge that writes them.

    A hub id is known by its name.

    Args:
        folder: of the comparison.
        drawn: whether the method trains on rationales.

    Raises:
        UserError: no such file.
    """
    known = _of(folder)
    files, judges = {}, {"backbone": star.backbone}
    if drawn and star.bootstrap is not None:
        files["bootstrap"], judges["bootstrap"] = star.bootstrap.file, star.bootstrap.judge
    if drawn and star.warm_start is not None and star.warm_start.rationales not in (OWN, REFERENCE):
        files["rationales"] = star.warm_start.rationales
    found = {f"{name}_digest": known.of(file) for name, file in files.items() if file is not None}
    for name, judge in judges.items():
        if judge is not None and Path(judge).is_dir():
            found[f"{name}_digest"] = digest_of(identity(judge, known.of))
    known.keep()
    return found


@cache
def _of(folder: Path) -> Digests:
    """One for all methods of a comparison: they name the same files."""
    return Digests(folder)


def _stamp(path: str | Path) -> list[int] | None:
    """What changes with a file; None where there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return [found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino]
