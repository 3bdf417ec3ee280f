"""What a stage is: inputs, settings and seed in; a folder with a manifest out. Done once, taken up where it was killed.

A stage whose folder has the manifest of the same key is skipped; a key holds the stage's settings and the keys of
what it reads, so a change anywhere upstream shows.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data_tools import lineage
from data_tools.artifact import MANIFEST, digest, digest_of, is_complete, read_json, sweep, write_json, write_manifest
from data_tools.errors import UserError
from genrm_lightning.judge_folder import judge_info
from genrm_lightning.star.sharing import SHARED

STARTED = "started.json"  # the key of a stage that is under way: a resume with other settings must not mix with it


@dataclass(frozen=True)
class Artifact:
    """What a stage made.

    Attributes:
        folder: where it lies.
        digest: of its key; part of the keys downstream.
        facts: for people; ``seconds`` is among them.
        made: whether this call worked on it (else it was there).
    """

    folder: Path
    digest: str
    facts: dict[str, Any] = field(default_factory=dict)
    made: bool = False


def run_stage(
    folder: Path, key: dict[str, Any], work: Callable[[], dict[str, Any]], inputs: Iterable[str | Path] = ()
) -> Artifact:
    """Do a stage unless its manifest says that it is done.

    Its ``seconds`` are those of the attempt that ended it, and of each killed attempt up to the last file that this
    one left (a shard, a checkpoint): what came after is lost work and nobody knows how long it took.

    Args:
        key: everything the result depends on.
        work: writes into ``folder`` and returns facts for the manifest; may find what a killed run left there.
        inputs: files that are no stages' of this run, whose digests the key has; the manifest says where they lie, so
            ``python -m data_tools lineage`` finds the way on.

    Raises:
        UserError: the folder was made, or begun, with another key.
    """
    done = is_complete(folder, key)
    started = folder / STARTED
    if not done:
        spent = _spent_before(folder, key)
        sweep(folder)
        write_json(started, {"key": key, "began": time.time(), "seconds": spent})
        clock = time.perf_counter()
        try:
            named = lineage.inputs_of(inputs, folder)
            facts = work()
        except BaseException:
            if _is_empty(folder):  # nothing to go on from: leave no trace
                started.unlink()
                with suppress(OSError):  # a folder of the user's own
                    folder.rmdir()
            raise
        seconds = round(spent + time.perf_counter() - clock, 1)
        write_manifest(folder, key, seconds=seconds, facts=facts, **({"inputs": named} if named else {}))
    started.unlink(missing_ok=True)
    manifest = read_json(folder / MANIFEST)
    facts = {**manifest["facts"], "seconds": manifest["seconds"]}
    return Artifact(folder, digest_of(key), facts, made=not done)


def _spent_before(folder: Path, key: dict[str, Any]) -> float:
    """Seconds that killed attempts at this stage have worked, 0 where there was none."""
    if not (folder / STARTED).exists() or _is_empty(folder):
        return 0.0
    before = began(folder, key)
    last = max(path.stat().st_mtime for path in folder.rglob("*") if path.is_file())
    return before["seconds"] + max(0.0, last - before["began"])


def began(folder: Path, key: dict[str, Any]) -> dict[str, Any]:
    """What the stage's beginning wrote. Raises UserError where it was another stage's, or nothing that can be read."""
    started = folder / STARTED
    before = read_json(started)
    if not isinstance(before, dict) or not isinstance(before.get("key"), dict):
        raise UserError(f"{started}: does not say with which settings the stage was begun; remove {folder}")
    for name in sorted(key.keys() | before["key"].keys()):
        if key.get(name) != before["key"].get(name):
            raise UserError(
                f"{folder}: begun with another '{name}'; use another run folder, or remove this one to begin the "
                "stage anew"
            )
    return before


def _is_empty(folder: Path) -> bool:
    """Whether a begun stage left nothing that a resume could use."""
    left = (path for path in folder.rglob("*") if path.is_file() and path.parent != folder / SHARED)  # claims are none
    return not any(path.name != STARTED and ".tmp" not in path.name for path in left)


def remove_shards(folder: Path) -> None:
    """Their rows stand in the stage's table now; what several processes shared for them goes, too."""
    sweep(folder)
    shutil.rmtree(folder / SHARED, ignore_errors=True)
    for shard in folder.glob("shard-*.parquet"):
        shard.unlink()
    if folder.exists() and not any(folder.iterdir()):
        folder.rmdir()


def identity(backbone: str, of: Callable[[Path], str] = digest) -> Any:
    """What a backbone or judge is known by: its name, and for a folder what its files hold; an adapter's base too.

    Args:
        of: the digest of a file.
    """
    if not Path(backbone).is_dir():
        return backbone
    folder = Path(backbone)
    files = sorted(f for f in folder.rglob("*") if f.is_file())
    found = [backbone, [[str(f.relative_to(folder)), of(f)] for f in files]]
    info = judge_info(folder)
    return [*found, identity(info["base"], of)] if info.get("adapter") else found
