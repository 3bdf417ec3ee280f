"""A folder that ``evaluate`` wrote: evaluation.json, scores.json, sets/NAME."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from data_tools.errors import UserError
from genrm_lightning.report_page.adapters.files import below, inside, mapping, number, words
from genrm_lightning.report_page.adapters.shapes import check_scores
from genrm_lightning.report_page.model import Method, OnSet, PairSet, Run

DESCRIPTION, SCORES = "evaluation.json", "scores.json"
_SETTINGS = ("judge", "kind", "objective", "judge_prompt", "n_samples", "seed", "versions")


def fits(folder: Path) -> bool:
    return (folder / DESCRIPTION).exists() and (folder / SCORES).exists()


def under_way(folder: Path) -> bool:
    return (folder / DESCRIPTION).exists() or ((folder / "sets").is_dir() and not (folder / SCORES).exists())


def read(folder: Path) -> Run:
    """One method: the judge, with the numbers that scores.json has.

    Raises:
        UserError: a file is missing or not what it should be.
    """
    where = folder / DESCRIPTION
    said = mapping(where, "judge", "kind", "sets")
    scores = mapping(folder / SCORES, "sets")
    check_scores(scores, str(folder / SCORES))
    numbers = inside(scores["sets"], f"{folder / SCORES}: key 'sets'")
    sets, judged = {}, {}
    for i, one in enumerate(inside(said["sets"], f"{where}: key 'sets'", list)):
        at = f"{where}: sets[{i}]"
        inside(one, at)
        name, digest = (inside(one.get(key), f"{at}: key '{key}'", str) for key in ("name", "digest"))
        place = below(folder, one.get("folder"), f"{at}: key 'folder'")
        if name not in numbers:
            raise UserError(f"{folder / SCORES}: has no numbers of the set '{name}'; run evaluate again")
        sets[name] = PairSet(name, place / "pairs.parquet", digest, words(one.get("data", "")))
        own = inside(numbers[name], f"{folder / SCORES}: set '{name}'")
        judged[name] = OnSet([place / "judgments.parquet"], own, number(one.get("seconds")))
    if not judged:
        raise UserError(f"{where}: names no sets; run evaluate with --data")
    method = Method(
        label=_name(said["judge"]),
        run=folder.resolve().name,
        folder=folder,
        kind=str(said["kind"]),
        sets=judged,
        **{name: scores.get(name) or {} for name in ("benchmarks", "hacking", "shift")},
        settings=[(name.replace("_", " "), words(said[name])) for name in _SETTINGS if said.get(name) is not None],
        identity=_identity(said),
    )
    return Run(folder, "evaluation", sets, [method])


def _name(judge: Any) -> str:
    """A judge's name: of a path, what tells it from others (runs/dpo/fit/judge: dpo)."""
    parts = [part for part in str(judge).rstrip("/").split("/") if part not in ("", ".", "..")]
    if len(parts) > 1 and parts[-1] == "judge":
        parts = parts[:-1]
    while len(parts) > 1 and parts[-1] == "fit":
        parts = parts[:-1]
    if len(parts) > 1 and (parts[-1].startswith("iteration-") or parts[-1] == "warm-start"):  # of the run before it
        return "/".join(parts[-2:])
    return parts[-1] if parts else str(judge)


def _identity(said: dict[str, Any]) -> tuple[str, ...]:
    """Equal for one judge that was asked in one way: by its contents, in older folders by all that is said of it."""
    key = said.get("key")
    names = ("judge", "kind", "objective", "judge_prompt", "n_samples", "seed")
    return ("key", key) if isinstance(key, str) and key else tuple(words(said.get(name)) for name in names)
