"""The order of a comparison: the data once, then every method with every seed, then the tables."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl
from rich.console import Console

from data_tools.artifact import MANIFEST, read_json, read_table, sweep, write_json, write_text
from data_tools.errors import DiskFull, UserError, is_full
from data_tools.schema import JUDGMENT, PREFERENCE
from genrm_lightning.compare import methods, show, table
from genrm_lightning.compare.place import Place, places
from genrm_lightning.compare.settings import CompareSettings
from genrm_lightning.evaluation.report import percent
from genrm_lightning.locking import only_one
from genrm_lightning.star import stages
from genrm_lightning.star.loop import note
from genrm_lightning.star.settings import HELD_OUT
from genrm_lightning.star.stage import Artifact

SUMMARY = "summary.json"
RESULTS = "results.md"
LOGDIR = "tensorboard"
_PATIENCE = 2.0  # seconds for a killed comparison's processes to let go of its folder


def run(settings: CompareSettings) -> dict[str, Any]:
    """Run what is missing, print the tables, write summary.json and results.md, and return the summary.

    A method that fails is named at the end; the others are run all the same.

    Raises:
        UserError: a method failed, or the methods have not in common what the settings say they must.
    """
    root = Path(settings.out)
    shared = settings.star_settings()
    nowhere = Artifact(root / "data", "")
    for name in settings.methods:  # a misspelt key is told before anything is done
        settings.star_settings(name)
    with only_one(root, "--out", _PATIENCE):
        sweep(root)
        wanted = [place for place in places(settings, nowhere) if place.name in settings.chosen]
        if any(not (place.folder / MANIFEST).exists() for place in wanted):
            for place in wanted:
                if not place.seed:
                    methods.check(place)
        pairs = stages.data(shared, root / "data")
        every = places(settings, pairs)
        done = {place: facts for place in every if (facts := place.finished()) is not None}
        failed: dict[str, str] = {}
        made = 0
        for place in every:
            if place in done or place.name not in settings.chosen:
                continue
            others = [other for other in every if other.seed == place.seed]
            try:
                done[place] = methods.run(place, others)
            except DiskFull:  # the others would fail of it, too
                raise
            except (UserError, SystemExit) as error:
                failed[_called(place, settings)] = _why(error)
            except Exception as error:  # hours of other methods must not hang on it
                if is_full(error):
                    raise
                traceback.print_exc()
                failed[_called(place, settings)] = f"{type(error).__name__}: {error}"
            if place in done:
                made += 1
                summary = _summary(settings, pairs, every, done, failed)
                _tell(place, settings, summary)
                _write(root, summary)
        if not done:
            raise UserError(_failures(failed))
        summary = _summary(settings, pairs, every, done, failed)
        _write(root, summary)
        # Where there is no terminal rich would take 80 columns and fold the tables.
        show.render(summary, Console(width=None if sys.stdout.isatty() else 160))
        if not made and not failed:
            print(f"nothing to do: {len(summary['rows'])} methods are complete")
        print(f"numbers: {root / SUMMARY}\ntables: {root / RESULTS}\ncurves: make tensorboard LOGDIR={root}")
    if failed:
        raise UserError(_failures(failed))
    if summary["unequal"]:
        raise UserError(f"equal: the methods differ in {', '.join(summary['unequal'])}; see the lines above")
    return summary


def _summary(
    settings: CompareSettings,
    pairs: Artifact,
    every: Sequence[Place],
    done: dict[Place, dict[str, Any]],
    failed: dict[str, str],
) -> dict[str, Any]:
    preferences = {name: read_table(pairs.folder / f"{name}.parquet", PREFERENCE) for name in HELD_OUT}
    judged = []
    for name in settings.methods:
        mine = [place for place in every if place.name == name and place in done]
        if mine:
            tables = {key: [_judgments(place, done[place], key) for place in mine] for key in HELD_OUT}
            facts = [done[place] for place in mine]
            judged.append(table.Judged(name, settings.label(name), tables, facts, mine[0].writes))
    judged, dropped = table.in_common(judged, preferences)
    rows = [table.row(one, preferences) for one in judged]
    return {
        "rows": rows,
        "differences": table.differences(judged, settings.baselines, preferences),
        "unequal": table.unequal(rows, settings.equal),
        "failed": failed,
        "missing": [
            called for place in every if place not in done and (called := _called(place, settings)) not in failed
        ],
        "n_pairs": {name: len(preferences[name]) - dropped[name] for name in HELD_OUT},
        "n_dropped": dropped,
        "backbone": settings.star_settings().backbone,
        "seeds": settings.seeds,
        "seed": settings.seed,
    }


def _judgments(place: Place, facts: dict[str, Any], key: str) -> pl.DataFrame:
    return read_table(place.folder / facts["judged"] / f"{key}.parquet", JUDGMENT)


def _write(root: Path, summary: dict[str, Any]) -> None:
    """The summary last: on disk it means that everything is."""
    if (root / SUMMARY).exists() and read_json(root / SUMMARY) == summary:
        return
    from genrm_lightning.compare.board import write_board

    write_board(root / LOGDIR, summary["rows"])
    write_text(root / RESULTS, show.markdown(summary))
    write_json(root / SUMMARY, summary)


def _tell(place: Place, settings: CompareSettings, summary: dict[str, Any]) -> None:
    row = next(one for one in summary["rows"] if one["method"] == place.name)
    accuracies = ", ".join(f"{percent(row[f'accuracy_{name}'])} % {name.upper()}" for name in HELD_OUT)
    of = "" if row["seeds"] == 1 else f" (mean of {row['seeds']} seeds)"
    note(f"{_called(place, settings)}: accuracy {accuracies}{of}")


def _called(place: Place, settings: CompareSettings) -> str:
    return place.name if settings.seeds == 1 else f"{place.name}, seed {settings.seed + place.seed}"


def _why(error: BaseException) -> str:
    return str(error) if isinstance(error, UserError) else "its fit has said why"


def _failures(failed: dict[str, str]) -> str:
    told = "; ".join(f"{name} ({why})" for name, why in failed.items())
    return f"{len(failed)} failed: {told}; mend it and run the same command, what is done stays"
