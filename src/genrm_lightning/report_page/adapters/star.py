"""A folder that ``star`` wrote: summary.json, data, and judgments of every judge on the way."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data_tools.artifact import digest
from data_tools.errors import UserError
from genrm_lightning.report_page.adapters.files import inside, mapping, number, stage, words
from genrm_lightning.report_page.adapters.measuring import numbers_of
from genrm_lightning.report_page.adapters.shapes import ROW, SET, check
from genrm_lightning.report_page.model import Method, Numbers, OnSet, PairSet, Run, Step

SUMMARY = "summary.json"
SETS = ("id", "ood")
_FACTS = ("variant", "backbone", "judge_prompt", "start", "seed")


def fits(folder: Path) -> bool:
    return (folder / SUMMARY).exists() and (folder / "data").is_dir()


def under_way(folder: Path) -> bool:
    return (folder / "data").is_dir() and any((folder / name).is_dir() for name in ("zero-shot", "iteration-1"))


def read(folder: Path) -> Run:
    """The zero-shot judge, the warm start where there is one, and the judge of the last iteration.

    Raises:
        UserError: a file is missing or not what it should be.
    """
    summary = mapping(folder / SUMMARY, "rows")
    where = str(folder / SUMMARY)
    rows = inside(summary["rows"], f"{where}: key 'rows'", list)
    check_rows(rows, where)
    if not rows:
        raise UserError(f"{folder / SUMMARY}: has no rows yet; let the run's command finish, then report")
    sets = pair_sets(folder / "data")
    name = folder.resolve().name
    facts = [(key.replace("_", " "), words(summary[key])) for key in _FACTS if summary.get(key) is not None]
    last = rows[-1]
    shown = [row for row in rows[:-1] if row.get("kind") in ("zero_shot", "warm_start")] + [last]
    methods = []
    for row in shown:
        place = folder / _place(row, folder)
        label = str(row.get("label"))
        methods.append(
            Method(
                label=label if row is not last or row.get("kind") != "iteration" else f"{name}, {label}",
                run=name,
                folder=place,
                kind="star",
                sets={key: judged([place], key, sets[key], row) for key in SETS},
                steps=steps(rows) if row is last and len(rows) > 1 else (),
                training={"seconds": sum(number(one.get("seconds")) or 0.0 for one in rows)} if row is last else {},
                settings=[*facts, *_sampling(place)],
            )
        )
    return Run(folder, "star", sets, methods)


def pair_sets(data: Path) -> dict[str, PairSet]:
    """The held-out sets of a data stage."""
    source = stage(data).get("key", {}).get("source", {})
    found = {}
    for key in SETS:
        file = data / f"{key}.parquet"
        found[key] = PairSet(key, file, digest(file), words({k: v for k, v in source.items() if k != "warm_start"}))
    return found


def check_rows(rows: list[Any], where: str) -> None:
    """Whether a summary's rows hold what their keys promise.

    Raises:
        UserError: names the file and the key.
    """
    check(rows, [ROW], where, "rows")
    for i, row in enumerate(rows):
        for key in SETS:
            check(of_row(row, key), SET, where, f"rows[{i}], of the set '{key}'")


def judged(places: list[Path], key: str, pairs: PairSet, row: Mapping[str, Any]) -> OnSet:
    """A set as these folders judged it, a folder a seed."""
    files = [place / f"{key}.parquet" for place in places]
    dropped = stage(places[0]).get("facts", {}).get("dropped", {}).get(key, [])
    known = {name: value for name, value in of_row(row, key).items() if value is not None}
    first = numbers_of(files[0], pairs.pairs, dropped)
    if known.get("categories"):
        known["by"] = {**(first.get("by") or {}), "category": known["categories"]}
    return OnSet(files, {**first, **known}, first=first)  # the row: of all seeds


def steps(rows: list[dict[str, Any]]) -> list[Step]:
    """The judges of a summary, in their order."""
    return [
        Step(str(row.get("label")), int(row.get("iteration") or 0), {key: of_row(row, key) for key in SETS})
        for row in rows
    ]


def of_row(row: Mapping[str, Any], key: str) -> Numbers:
    """A row's numbers of one set under their own names: ``accuracy_id_low`` is ``accuracy_low``."""
    found = {}
    for name, value in row.items():
        end = next((end for end in ("_low", "_high") if name.endswith(end)), "")
        if name.removesuffix(end).endswith(f"_{key}"):
            found[name.removesuffix(end).removesuffix(f"_{key}") + end] = value
    return found


def _place(row: Mapping[str, Any], folder: Path) -> str:
    kind = row.get("kind")
    if kind == "iteration" and isinstance(row.get("iteration"), int):
        return f"iteration-{row['iteration']}/evaluate"
    if kind not in ("zero_shot", "warm_start"):
        raise UserError(f"{folder / SUMMARY}: a row of the unknown kind '{kind}'; use the version that wrote the run")
    return {"zero_shot": "zero-shot", "warm_start": "warm-start/evaluate"}[kind]


def _sampling(place: Path) -> list[tuple[str, str]]:
    key = stage(place).get("key", {})
    return [(name, words(key[name])) for name in ("sampling", "dtype") if name in key]
