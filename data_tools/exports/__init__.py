"""Formats of trainers that a PREFERENCE table can be written in: one small module each, found by its presence here.

A format is a module whose name is the format's, with - for _, and which has

    SUMMARY      who takes it, and in which shape
    READER       the format of data_tools.sources that reads it again
    ENDINGS      of the files that its trainer opens, keys of KINDS; none: it is a folder
    rows(frame)  a query of the format's rows over PREFERENCE; :data:`_rows.EXTRAS` travel as keys of their own
    UNFIT        optional: {why: whether a pair is one that the format has no room for}, beside UNFIT of _rows.py
    KEPT         optional: keys that stand there though no row has a value
    notes(found, frame)  optional: lines about what the trainer makes of the rows
    beside(out)  optional: {path: JSON} of what the trainer wants beside the file
    write(rows, frame, out)  optional, of a folder: writes it
    forget(out)  optional: removes what is there of an earlier export; else it is the file

Nothing else has to be touched to add one. Pairs that do not fit are left out and counted. No format fills in what a
table does not say: keys that no row has a value for are left out, other nulls are null.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from types import ModuleType

import polars as pl

from data_tools import artifact
from data_tools.errors import UserError
from data_tools.exports import _rows
from data_tools.exports._rows import Found

# Ending of a file -> how polars writes it. The names of temporary files end otherwise: check_extension.
KINDS: dict[str, Callable[..., object]] = {
    ".jsonl": partial(pl.LazyFrame.sink_ndjson, check_extension=False),
    ".jsonl.gz": partial(pl.LazyFrame.sink_ndjson, check_extension=False, compression="gzip"),
    ".jsonl.zst": partial(pl.LazyFrame.sink_ndjson, check_extension=False, compression="zstd"),
    ".parquet": pl.LazyFrame.sink_parquet,
}
# datasets, with which all these trainers read JSON Lines, takes a column's type from the first 10 MB and fails at a
# value behind them of a column that was null there: a row with a value stands among so many first ones.
_TYPED_BY = 8


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        pairs: number of them.
        left_out: reason -> pairs that the format has no room for, where there are any.
        notes: lines about what is in the files.
        files: what was written beside.
    """

    pairs: int
    left_out: dict[str, int]
    notes: list[str]
    files: list[Path]


def formats() -> dict[str, ModuleType]:
    """The formats there are, by name."""
    names = sorted(found.name for found in pkgutil.iter_modules(__path__) if not found.name.startswith("_"))
    return {name.replace("_", "-"): import_module(f"{__name__}.{name}") for name in names}


def export(frame: pl.LazyFrame, name: str, out: str | Path) -> Exported:
    """Write a PREFERENCE table in the format of that name, streaming; whole, or not at all.

    Args:
        frame: a checked table (:func:`data_tools.artifact.scan_tables`).
        out: a file of one of the format's endings, or a folder.

    Raises:
        UserError: an unknown format, another ending, a folder of something else, or no pair that fits.
    """
    out, module = Path(out), _format(name)
    kind = _kind(out, name, module)
    unfit = {**_rows.UNFIT, **getattr(module, "UNFIT", {})}
    why = pl.coalesce(pl.when(bad).then(pl.lit(reason)) for reason, bad in unfit.items())
    left_out = frame.select(_why=why).drop_nulls().group_by("_why").len().sort("_why").collect(engine="streaming")
    fitting = frame.filter(why.is_null())
    found = _find(fitting)
    if not found.pairs:
        told = ", ".join(f"{reason}: {n:,}" for reason, n in left_out.iter_rows())
        raise UserError(f"{out}: no pair can be written as {name} ({told or 'the table has no rows'})")
    kept = getattr(module, "KEPT", ())
    empty = [key for key, column in _rows.EXTRAS.items() if not found.values[column] and key not in kept]

    def rows(table: pl.LazyFrame) -> pl.LazyFrame:
        return module.rows(table).drop(empty, strict=False)

    # Before anything is written: the table may be the file that is replaced, and what lies beside may be wrong.
    notes = [*(module.notes(found, fitting) if hasattr(module, "notes") else []), *_rows.notes(found)]
    beside = module.beside(out) if hasattr(module, "beside") else {}
    if kind is None:
        module.write(rows, fitting, out)
    else:
        ordered = fitting if kind == ".parquet" else _typed_first(fitting, found)
        with artifact.atomic_path(out) as temporary:
            KINDS[kind](rows(ordered), temporary, engine="streaming")
    for path, value in beside.items():
        artifact.write_json(path, value)
    return Exported(found.pairs, dict(left_out.iter_rows()), notes, list(beside))


def forget(name: str, out: Path) -> None:
    """Remove an earlier export in the format of that name, if there is one."""
    getattr(formats()[name], "forget", partial(Path.unlink, missing_ok=True))(out)


def _format(name: str) -> ModuleType:
    known = formats()
    if name not in known:
        raise UserError(f"format '{name}' is unknown; there are: {', '.join(known)}")
    return known[name]


def _kind(out: Path, name: str, module: ModuleType) -> str | None:
    """The file's ending; None where the format is a folder."""
    if not module.ENDINGS:
        if out.exists() and not out.is_dir():
            raise UserError(f"{out}: is a file; name a folder for --out")
        return None
    if out.is_dir():
        raise UserError(f"{out}: is a folder; name a file for --out")
    ending = next((ending for ending in module.ENDINGS if out.name.lower().endswith(ending)), None)
    if ending is None or len(out.name) == len(ending):
        raise UserError(f"{out}: {name} takes files that end in {', '.join(module.ENDINGS)}; name it so")
    return ending


def _find(frame: pl.LazyFrame) -> Found:
    columns = list(_rows.EXTRAS.values())
    counted = [pl.col(column).count().alias(f"values {column}") for column in columns]
    row = pl.int_range(pl.len())
    firsts = [row.filter(pl.col(column).is_not_null()).min().alias(f"first {column}") for column in columns]
    counts = frame.select(pl.len().alias("pairs"), *counted, *firsts).collect(engine="streaming")
    one = counts.row(0, named=True)
    return Found(
        pairs=one["pairs"],
        values={column: one[f"values {column}"] for column in columns},
        firsts={column: one[f"first {column}"] for column in columns if one[f"first {column}"] is not None},
    )


def _typed_first(frame: pl.LazyFrame, found: Found) -> pl.LazyFrame:
    late = sorted({first for first in found.firsts.values() if first >= _TYPED_BY})
    if not late:
        return frame
    numbered = frame.with_row_index("_row")
    is_late = pl.col("_row").is_in(late)
    return pl.concat([numbered.filter(is_late), numbered.filter(~is_late)]).drop("_row")
