"""A stage that several equal processes work on, whichever of them begins or ends it."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from data_tools.artifact import is_complete, temporary_name, write_json
from data_tools.errors import UserError
from genrm_lightning.claims import Claims
from genrm_lightning.shards import Shards
from genrm_lightning.star.sharing import SHARED
from genrm_lightning.star.stage import STARTED, began, run_stage

_TABLE = "table"  # the claim of the one that puts the shards together


def shared_stage(
    folder: Path,
    key: dict[str, Any],
    asked: Callable[[], Shards],
    fill: Callable[..., None],
    finish: Callable[[Shards], dict[str, Any]],
    part: tuple[int, int] | None,
    inputs: Iterable[str | Path] = (),
) -> list[Path]:
    """Draw this process' shards; with the last one of all, end the stage.

    Args:
        key: as in :func:`run_stage`.
        fill: :meth:`Shards.fill` with the shards, claims, numbers and ``go_on``.
        finish: makes the table of the shards; returns facts for the manifest.
        part: (i, n), the shards that this process draws; None: it divides them with the others as they come.
        inputs: as in :func:`run_stage`.

    Returns:
        The shards that are missing, which other processes are to draw; none when the stage is done.

    Raises:
        UserError: the folder was made, or begun, with another key.
    """
    shared = folder / SHARED

    def done() -> bool:
        return is_complete(folder, key)

    if done():
        return []
    try:
        with Claims(shared) as claims:
            _show_up(claims)
            if not _begin(folder, key):
                return []
            shards = asked()
            if part is None:
                fill(shards, claims, None, lambda: not done())
            else:
                fill(shards, None, range(part[0] - 1, len(shards), part[1]), lambda: not done())
            missing = shards.missing()
            if missing and not done():
                return [shards.path(number) for number in missing]
            with claims.once(_TABLE, done) as ours:
                if ours:
                    run_stage(folder, key, lambda: finish(shards), inputs)
    except UserError:
        _forget(folder)
        raise
    return []


def _show_up(claims: Claims) -> None:
    """Claim a name of our own: whoever gives up then leaves the folder of the claims where it is."""
    own = f"process-{uuid.uuid4().hex}"
    while not claims.take(own):
        claims.folder.mkdir(exist_ok=True)


def _begin(folder: Path, key: dict[str, Any]) -> bool:
    """Say with which key the stage is begun, or read it; False where the stage has ended in the meantime."""
    started = folder / STARTED
    if not started.exists():
        # Exactly one of them writes it, and it is whole from the first moment: no other key can slip in.
        own = folder / temporary_name(started.stem, started.suffix)
        write_json(own, {"key": key, "began": time.time(), "seconds": 0.0})
        try:
            os.link(own, started)
        except (FileExistsError, FileNotFoundError):  # another was quicker; all is done, and left-overs are swept
            pass
        except OSError:  # a file system without links: the last one wins
            os.replace(own, started)
        own.unlink(missing_ok=True)
    try:
        began(folder, key)
    except UserError:
        if is_complete(folder, key):
            return False
        raise
    return True


def _forget(folder: Path) -> None:
    """Where nothing was drawn, and nobody else is about to, no trace of the attempt stays."""
    with suppress(OSError):
        (folder / SHARED).rmdir()
        if not any(folder.glob("shard-*")):
            (folder / STARTED).unlink()
