"""What an evaluation leaves: a folder of sets with what was judged, and files with the numbers.

evaluation.json    who judged what, how, and what it took
scores.json        the numbers of each set, and of the benchmarks among them
sets/NAME/         pairs.parquet (PREFERENCE), judgments.parquet (JUDGMENT), of scores rewards.parquet
README.md          the numbers as a model card
rewardbench/       RewardBench's own files, where a set has its rows
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from data_tools import hub, sources
from data_tools.artifact import read_json, read_table
from data_tools.errors import UserError
from data_tools.schema import PREFERENCE
from genrm_lightning.judges.base import Judged
from genrm_lightning.judges.stage import read_judged

EVALUATION, SCORES, SETS, PAIRS = "evaluation.json", "scores.json", "sets", "pairs.parquet"
HUB = "hub:"


@dataclass(frozen=True)
class EvaluationSet:
    """Pairs to judge.

    Attributes:
        name: of its folder.
        source: as it was given.
        pairs: PREFERENCE.
    """

    name: str
    source: str
    pairs: pl.DataFrame


def load_sets(given: Iterable[str], split: str | None = None, flag: str = "--data") -> list[EvaluationSet]:
    """Evaluation sets from PREFERENCE tables, raw files or folders of any known format, or the hub.

    Args:
        given: files, folders, or ``hub:OWNER/NAME[@REVISION][:SPLIT]``; a set each.
        split: of PREFERENCE to take; None: all rows.
        flag: that named them, for messages.

    Raises:
        UserError: no such file, an unknown format, a broken row, no row of that split, or the same source twice.
    """
    sets: dict[str, EvaluationSet] = {}
    for source in given:
        if any(source == one.source for one in sets.values()):
            raise UserError(f"{flag}: {source}: is named twice; leave one out")
        pairs = _load(source)
        if split is not None:
            pairs = pairs.filter(pl.col("split") == split)
            if not len(pairs):
                raise UserError(f"--split: {source} has no rows of '{split}'; leave the flag out, or name another")
        name = _name(source, sets)
        sets[name] = EvaluationSet(name, source, pairs)
    return list(sets.values())


def trained_on(given: EvaluationSet) -> EvaluationSet:
    """The rows of a table that a fit on it reads: those of the split train, where there are any."""
    rows = given.pairs.filter(pl.col("split") == "train")
    return EvaluationSet(given.name, given.source, rows) if len(rows) else given


def read_evaluation(folder: str | Path) -> dict[str, Any]:
    """``evaluation.json`` of a folder.

    Raises:
        UserError: it is no evaluation, or one that is not done.
    """
    path = Path(folder) / EVALUATION
    if not path.is_file():
        under_way = (Path(folder) / SETS).is_dir()
        raise UserError(
            f"{folder}: the evaluation is not done; run its command again"
            if under_way
            else f"{folder}: no evaluation ({EVALUATION} is missing); name the --out of an evaluate"
        )
    return read_json(path)


def read_set(folder: str | Path, name: str) -> tuple[pl.DataFrame, Judged]:
    """(PREFERENCE, what was judged of it) of a set of an evaluation."""
    place = Path(folder) / SETS / name
    return read_table(place / PAIRS, PREFERENCE), read_judged(place)


def _load(source: str) -> pl.DataFrame:
    if source.startswith(HUB):
        name, _, split = source.removeprefix(HUB).partition(":")
        repo, _, revision = name.partition("@")
        files = hub.fetch(repo, revision or None, split=split or None).files
        return pl.concat([sources.load(file, most_pairs=None).frame for file in files])
    if source.endswith(".parquet") and _is_table(Path(source)):
        return read_table(source, PREFERENCE)
    loaded = sources.load(source, most_pairs=None)  # a benchmark is all of its pairs
    if not len(loaded.frame):
        raise UserError(f"{source}: no rows that are pairs; name another file")
    return loaded.frame


def _is_table(path: Path) -> bool:
    """Whether a Parquet file is meant as a PREFERENCE table, by its columns; one that cannot be read is, too."""
    try:
        return set(pl.read_parquet_schema(path)) >= {"pair_id", "prompt", "chosen", "rejected"}
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError):
        return True


def _name(source: str, taken: Mapping[str, Any]) -> str:
    """A folder's name: the file's without its endings, with its folder's where that is taken."""
    path = Path(source.removeprefix(HUB).partition("@")[0].replace(":", "-"))
    stem = path.name.split(".")[0] or "set"
    parents = (parent.name for parent in path.parents if parent.name)
    name = _safe(stem)
    while name in taken:
        name = _safe(f"{next(parents, len(taken))}-{name}")
    return name


def _safe(name: str) -> str:
    return re.sub(r"[^\w.-]+", "-", name, flags=re.ASCII).strip(".-") or "set"
