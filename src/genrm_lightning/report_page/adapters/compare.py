"""A folder that ``compare`` wrote: summary.json, data, and a folder a seed with one a method."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from data_tools.artifact import MANIFEST
from data_tools.errors import UserError
from genrm_lightning.report_page.adapters import star
from genrm_lightning.report_page.adapters.files import below, inside, mapping, stage, words
from genrm_lightning.report_page.adapters.files import number as usable
from genrm_lightning.report_page.adapters.shapes import check, number
from genrm_lightning.report_page.model import Method, Run

SUMMARY = "summary.json"
COSTS = ("pairs", "samples", "sampled_tokens", "steps", "trained_tokens", "seconds")
_FACTS = ("kind", "objective", "backbone", "judge_prompt", "iterations", "dtype")


def fits(folder: Path) -> bool:
    return (folder / SUMMARY).exists() and any(folder.glob("seed-*"))


def under_way(folder: Path) -> bool:
    return (folder / "data").is_dir() and any(folder.glob("seed-*"))


def read(folder: Path) -> Run:
    """The methods of the summary, each with its seeds.

    Raises:
        UserError: a file is missing or not what it should be.
    """
    summary = mapping(folder / SUMMARY, "rows", "seed")
    sets = star.pair_sets(folder / "data")
    rows = inside(summary["rows"], f"{folder / SUMMARY}: key 'rows'", list)
    star.check_rows(rows, str(folder / SUMMARY))
    check(summary["seed"], number, str(folder / SUMMARY), "seed")
    if not rows:
        raise UserError(f"{folder / SUMMARY}: has no rows yet; let the comparison's command finish, then report")
    notes = [f"not run yet: {words(one)}" for one in summary.get("missing") or ()]
    notes += [f"failed: {name}: {words(why)}" for name, why in (summary.get("failed") or {}).items()]
    methods = [_method(folder, summary, row, sets) for row in rows]
    if notes:
        methods[0] = Method(**{**vars(methods[0]), "notes": [*methods[0].notes, *notes]})
    return Run(folder, "compare", sets, methods)


def _method(folder: Path, summary: dict[str, Any], row: dict[str, Any], sets) -> Method:
    where = f"{folder / SUMMARY}: key 'rows'"
    name = inside(inside(row, where).get("method"), f"{where}: 'method'", str)
    first = summary["seed"]
    homes = [below(folder, f"seed-{first + i}/{name}", where) for i in range(int(row.get("seeds") or 1))]
    manifests = [stage(home) for home in homes]
    if not all(manifests):
        lacking = next(home for home, found in zip(homes, manifests, strict=True) if not found)
        raise UserError(f"{lacking / MANIFEST}: no such file; run the same compare again, then report")
    places = [
        below(home, found.get("facts", {}).get("judged"), f"{home / MANIFEST}: key 'judged'")
        for home, found in zip(homes, manifests, strict=True)
    ]
    key = manifests[0].get("key", {})
    run = mapping(homes[0] / SUMMARY, "rows") if (homes[0] / SUMMARY).exists() else {"rows": []}
    star.check_rows(run["rows"], str(homes[0] / SUMMARY))
    several = [f"{len(homes)} seeds: accuracies are their means; other numbers are of the first seed"]
    return Method(
        label=str(row.get("label") or name),
        run=folder.resolve().name,
        folder=homes[0],
        kind=str(key.get("kind", "")),
        sets={one: star.judged(places, one, sets[one], row) for one in star.SETS},
        steps=star.steps(run["rows"]) if len(run["rows"]) > 1 else (),
        training={cost: value for cost in COSTS if (value := usable(row.get(cost)))},
        settings=[(fact.replace("_", " "), words(key[fact])) for fact in _FACTS if key.get(fact)]
        + [("seeds", f"{len(homes)}, from {first}"), ("sampling", words(key.get("evaluation") or key.get("sampling")))],
        notes=several if len(homes) > 1 else (),
    )
