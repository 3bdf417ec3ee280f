"""What several methods of a comparison begin with, done once."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from data_tools.artifact import MANIFEST, atomic_folder
from genrm_lightning.compare.place import Place
from genrm_lightning.star.fitting import WARM_START

ZERO_SHOT = "zero-shot"  # where a star run evaluates its backbone
# What a star run takes before its first iteration, and the last manifest in there.
_BEFORE = {ZERO_SHOT: MANIFEST, WARM_START: f"evaluate/{MANIFEST}"}
# Settings that change nothing there; all others must be equal for that to be shared: quality_pairs, too, about which a
# warm start is asked.
_LATER = (
    "run", "iterations", "parts", "fresh", "variant", "start", "filters", "right", "ranking", "pairing", "per_prompt",
    "uncoupled", "rationalize_failed", "bootstrap", "fit", "objective", "quality_pairs", "early_stop",
)  # fmt: skip


def adopt(place: Place, others: Sequence[Place]) -> None:
    """Take the zero-shot and warm-start stages of another method that has them done with the same settings."""
    for other in others:
        if other.name != place.name and other.writes and _before(other) == _before(place):
            # What is asked about rationales anew is another's where it asked about other pairs.
            alike = other.star.quality_pairs == place.star.quality_pairs
            for name, last in _BEFORE.items():
                source, target = other.folder / name, place.folder / name
                wanted = name == ZERO_SHOT or place.kind == "star"
                if wanted and (source / last).exists() and not target.exists():
                    left = None if alike else shutil.ignore_patterns("quality")
                    with atomic_folder(target) as temporary:
                        shutil.copytree(source, temporary, ignore=left, copy_function=_link, dirs_exist_ok=True)


def _before(place: Place) -> dict[str, Any]:
    """What decides the stages before the first iteration. A warm start draws one sample, whatever K is."""
    settings = {name: value for name, value in asdict(place.star).items() if name not in _LATER}
    del settings["sampling"]["n_samples"]
    return settings


def _link(source: str, target: str) -> None:
    """The same file under another name, where the file system can: judges are large, and never written in place."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
