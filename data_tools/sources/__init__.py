"""Raw preference files: one small module per format, found by its presence in this folder.

A format is a module with

    KEYS          the keys that every row of the format has
    fits(first)   optional: whether the shapes of a first row that has them are the format's
    schema(first) the raw columns as a polars schema of String, Float64, Boolean, and lists and structs of these, given
                  the first row
    pairs(rows)   a query of PREFERENCE (schema.py) over the raw columns (_rows.py), as far as the format knows it; a
                  value that cannot be made is null. It keeps ROW, and says in LEFT_OUT why a comparison is no pair
    REMEDY        optional: {PREFERENCE column: what to say where it is null, or a margin out of range}
    together(rows)  optional: a query of ROW and ``_key``, where rows that stand apart make a pair: those with an equal
                  key come in one chunk
    ANY_SCALE     optional: True where margins may be above 1: those of a file or folder are divided by the largest
    NEEDS         optional: KEYS in words, where they do not say all

Nothing else has to be touched to add one. A first row that fits several is of the one whose keys include the others'.
A file is read in chunks (:class:`Reading`); ``load`` reads it whole, and refuses one with a broken row.
"""

from __future__ import annotations

import pkgutil
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import polars as pl
from polars.io.plugins import register_io_source

from data_tools.clean import EMPTY, IDENTICAL
from data_tools.errors import UserError
from data_tools.schema import PREFERENCE, ROLES, SPLITS, check, conform
from data_tools.sources import _decoding, _files, _together, openrlhf
from data_tools.sources._broken import MISSING, Broken
from data_tools.sources._files import files as files
from data_tools.sources._files import passed_over as passed_over
from data_tools.sources._raw import CHUNK, RawFile
from data_tools.sources._rows import LEFT_OUT, MOST_PAIRS, ROW, TIE, TIMES, Rows
from data_tools.split import text_of_prompt

Table = TypeVar("Table", pl.DataFrame, pl.LazyFrame)
_MOST = "_most"  # the largest margin that may be

_role = pl.element().struct.field("role")
_content = pl.element().struct.field("content")
# (is a row bad?, its reason, what to say): over a chunk at once; {…} is filled with the bad row's value.
_CHECKS: list[tuple[str, pl.Expr, str, str]] = [
    *(
        (column, pl.col(column).is_null(), MISSING, f"key '{column}' is missing or null")
        # The responses before the prompt: a format may take the prompt from them.
        for column in ("pair_id", "source", "chosen", "rejected", "prompt")
    ),
    (
        "prompt",
        pl.col("prompt").list.eval(_role.is_null() | _content.is_null()).list.any(),
        MISSING,
        "a turn of 'prompt' lacks 'role' or 'content'",
    ),
    (
        "prompt",
        ~pl.col("prompt").list.eval(_role.is_in(ROLES)).list.all(),
        "unknown role",
        f"a turn of 'prompt' has an unknown role; there are: {', '.join(ROLES)}",
    ),
    (
        "prompt",
        (pl.col("prompt").list.last().struct.field("role") != "user") | (pl.col("prompt").list.len() == 0),
        "prompt does not end in a user turn",
        "the last turn of 'prompt' should be the user's; leave the response out of it",
    ),
    (
        "margin",
        ~(pl.col("margin").is_finite() & (pl.col("margin") > 0) & (pl.col("margin") <= pl.col(_MOST))),
        "margin out of range",
        "margin is {}, it should be above 0 and at most 1, or null where unknown",
    ),
    (
        "split",
        ~pl.col("split").is_in(SPLITS),
        "unknown split",
        f"split is '{{}}'; there are: {', '.join(SPLITS)}",
    ),
]
# What is well-formed and of no use.
_USELESS: list[tuple[str, pl.Expr, str, str]] = [
    (
        "chosen",
        (text_of_prompt().str.strip_chars() == "")
        | (pl.col("chosen").str.strip_chars() == "")
        | (pl.col("rejected").str.strip_chars() == ""),
        EMPTY,
        "the prompt or a response is empty",
    ),
    (
        "chosen",
        pl.col("chosen").str.strip_chars() == pl.col("rejected").str.strip_chars(),
        IDENTICAL,
        "chosen and rejected are the same",
    ),
]


@dataclass(frozen=True)
class Loaded:
    """A raw file as a table.

    Attributes:
        frame: PREFERENCE, rows in the file's order, checked.
        format: the format's name.
        left_out: reason -> comparisons that are no pair (a tie, say), where there are any.
    """

    frame: pl.DataFrame
    format: str
    left_out: dict[str, int]


def formats() -> dict[str, ModuleType]:
    """The raw formats there are, by name."""
    names = sorted(found.name for found in pkgutil.iter_modules(__path__) if not found.name.startswith("_"))
    return {name: import_module(f"{__name__}.{name}") for name in names}


def format_of(path: str | Path, name: str = "auto") -> ModuleType:
    """The format of that name, or the one that the file's first row shows.

    Raises:
        UserError: an unknown name, or a first row that fits no format, or several that are no special case of one
            another; says what was found, and what there is.
    """
    return _format(_files.opened(path), name)[1]


def _format(file: RawFile, name: str, keys: Mapping[str, str] | None = None) -> tuple[str, ModuleType]:
    known = formats()
    if keys:
        if name not in ("auto", "openrlhf"):
            raise UserError(f"format '{name}' has names for its columns; leave out the keys, or name openrlhf")
        name = "openrlhf"
    if name != "auto" and name not in known:
        raise UserError(f"format '{name}' is unknown; there are: auto, {', '.join(known)}")
    first = file.first()
    if first.keys() >= PREFERENCE.keys():
        raise UserError(f"{file.path}: is a table already ingested; use clean or split")
    found = ", ".join(map(str, first)) or "nothing"
    if name != "auto" or keys:
        module = openrlhf.Named(**keys) if keys else known[name]
        if not all(key in first for key in module.KEYS):
            raise UserError(f"{file.path}: the first row has {found}; format {name} needs {_needs(module)}")
        return name, module
    fitting = {name: set(module.KEYS) for name, module in known.items() if _fits(module, first)}
    special = [name for name, keys in fitting.items() if not any(keys < others for others in fitting.values())]
    if len(special) == 1:
        return special[0], known[special[0]]
    if special:
        raise UserError(
            f"{file.path}: the first row has {found}, and fits several formats: {', '.join(special)}; "
            "say which with --format"
        )
    there = "; ".join(f"{name} ({_needs(module)})" for name, module in known.items())
    raise UserError(
        f"{file.path}: the first row has {found}, which fits no known format; rename its keys, or name with --format "
        f"one of: {there}"
    )


def _needs(module: ModuleType) -> str:
    return getattr(module, "NEEDS", ", ".join(module.KEYS))


def _fits(module: ModuleType, first: dict[str, Any]) -> bool:
    fits = getattr(module, "fits", None)
    return all(key in first for key in module.KEYS) and (fits is None or fits(first))


@dataclass(frozen=True)
class Batch:
    """Some rows of a raw file, in its order.

    Attributes:
        frame: PREFERENCE, checked; margins of a format that has them of any scale are not scaled yet.
        ties: PREFERENCE likewise, comparisons of equals; which response is called chosen says nothing.
        left_out: reason -> comparisons that are no pair.
        broken: the rows that cannot be used.
        largest: the largest margin; 0 without any.
    """

    frame: pl.DataFrame
    ties: pl.DataFrame
    left_out: dict[str, int]
    broken: list[Broken]
    largest: float


class Reading:
    """A raw file that is read a chunk at a time, in as many threads as there are calls of :meth:`batch`.

    Attributes:
        format: the format's name.
        file: the raw file.
        scaled: whether margins are of any scale: those of a file, or of a folder's files, are divided
            by the largest, where that is above 1.

    Args:
        chunk: bytes of raw text in a chunk, about.
        stem: the source of rows that name none; None: the file's name up to its first dot.
        split: of rows that name none.
        module: the format itself, where it is none of the folder's.
        most_pairs: of a prompt, where a format compares each of its responses with each.
        scratch: a folder for files that are needed while this one is read; None: the system's.

    Raises:
        UserError: a missing or empty file, an unknown format; see :func:`format_of`.
    """

    def __init__(
        self,
        path: str | Path,
        format: str = "auto",
        keys: Mapping[str, str] | None = None,
        chunk: int = CHUNK,
        stem: str | None = None,
        split: str | None = None,
        *,
        module: Any = None,
        most_pairs: int = MOST_PAIRS,
        scratch: Path | None = None,
    ) -> None:
        self.file = _files.opened(path, chunk)
        self.format, self._module = _format(self.file, format, keys) if module is None else (format, module)
        self._first = self.file.first()
        self.schema = self._module.schema(self._first)
        self._stem = stem or self.file.path.name.split(".")[0]
        self._split = split
        self._most, self._scratch = most_pairs, scratch
        self.scaled = getattr(self._module, "ANY_SCALE", False)

    def chunks(self) -> Iterator[tuple[pl.DataFrame, list[Broken]]]:
        """Raw chunks, for :meth:`batch`."""
        chunks = self.file.chunks(self.schema)
        key = getattr(self._module, "together", None)
        if key is None:
            return chunks
        cut: list[Broken] = []  # few, or too many
        n = _together.buckets_for(self.file.path)

        def told() -> Iterator[pl.DataFrame]:
            for raw, broken in chunks:
                cut.extend(broken)
                yield raw

        def keyed() -> Iterator[tuple[pl.DataFrame, pl.Series]]:
            for raw in told():
                decoded, _ = _decoding.decoded(self.file, raw, self.schema)
                keys = key(Rows(decoded.lazy(), self._first, self._stem)).collect()
                bucket = pl.col("_key").str.slice(0, 8).str.to_integer(base=16) % n
                placed = raw.select(pl.col("number").alias(ROW)).join(
                    keys, on=ROW, how="left", maintain_order="left"
                )  # fmt: skip
                yield raw, placed.select(bucket.fill_null(0)).to_series()

        def sorted_() -> Iterator[tuple[pl.DataFrame, list[Broken]]]:
            frames = [pl.concat(told())] if n == 1 else _together.together(keyed(), n, self._scratch)
            for frame in frames:
                yield frame, cut.copy()
                cut.clear()

        return sorted_()

    def batch(self, chunk: tuple[pl.DataFrame, list[Broken]], useless: bool = True) -> Batch:
        """A chunk as PREFERENCE.

        Args:
            useless: whether rows with an empty or two equal responses count as broken; else they stay.
        """
        raw, cut = chunk
        decoded, unread = _decoding.decoded(self.file, raw, self.schema)
        folder = self.file.path.resolve().parent.name
        rows = Rows(decoded.lazy(), self._first, self._stem, folder, self._most)
        wanted = pl.Schema({**PREFERENCE, ROW: pl.UInt32, LEFT_OUT: pl.String, TIMES: pl.Int64})
        # Of no rows polars cannot tell how long a literal is.
        empty = decoded.is_empty()
        frame = wanted.to_frame() if empty else conform(self._module.pairs(rows), wanted).collect()
        if self._split:
            frame = frame.with_columns(pl.col("split").fill_null(self._split))
        is_tie = pl.col(LEFT_OUT) == TIE
        ties, untold = self._checked(frame.filter(is_tie), [check for check in _CHECKS if check[0] != "margin"], raw)
        frame = pl.concat([frame.filter(is_tie.not_() | is_tie.is_null()), ties.select(frame.columns)])
        left_out = frame.filter(pl.col(LEFT_OUT).is_not_null()).group_by(LEFT_OUT).agg(pl.col(TIMES).fill_null(1).sum())
        frame, wrong = self._checked(frame.filter(pl.col(LEFT_OUT).is_null()), _CHECKS + _USELESS * useless, raw)
        return Batch(
            frame.select(list(PREFERENCE)),
            ties.select(list(PREFERENCE)),
            dict(left_out.sort(LEFT_OUT).iter_rows()),
            sorted([*cut, *unread, *wrong, *untold], key=lambda broken: broken.row),
            frame["margin"].max() or 0.0,
        )

    def _checked(
        self, frame: pl.DataFrame, checks: list[tuple[str, pl.Expr, str, str]], raw: pl.DataFrame
    ) -> tuple[pl.DataFrame, list[Broken]]:
        frame = frame.with_columns(pl.lit(float("inf") if self.scaled else 1.0).alias(_MOST))
        flags = frame.select(bad.fill_null(False).alias(str(i)) for i, (_, bad, _, _) in enumerate(checks))
        if not (any_bad := flags.select(bad=pl.any_horizontal(pl.all()))["bad"]).any():
            return frame.drop(_MOST), []
        which = flags.filter(any_bad).select(pl.concat_list(pl.all()).list.arg_max()).to_series()
        lines = dict(raw.select("number", "line").iter_rows()) if "line" in raw.columns else {}
        broken: dict[tuple[int, str], Broken] = {}  # of a row of many pairs one for each reason
        for i, row in zip(which, frame.filter(any_bad).iter_rows(named=True), strict=True):
            column, _, reason, message = checks[i]
            if i < len(_CHECKS) and (row[column] is None or column == "margin"):  # which a format may compute
                message = getattr(self._module, "REMEDY", {}).get(column, message)
            said = f"{self.file.place(row[ROW])}: {message.replace('{}', str(row[column]))}"
            broken.setdefault((row[ROW], reason), Broken(row[ROW], reason, said, lines.get(row[ROW])))
        return frame.filter(~any_bad).drop(_MOST), list(broken.values())


def scan(path: str | Path, format: str = "auto") -> pl.LazyFrame:
    """A query of PREFERENCE over one raw file, which is read as far as the query needs it.

    Margins of a format that has them of any scale stay as they are. A broken row makes the query fail; which one it
    is, :func:`read` says.

    Raises:
        UserError: as :func:`format_of`.
    """
    reading = Reading(path, format, chunk=1 << 20)

    def rows(
        columns: list[str] | None, predicate: pl.Expr | None, n_rows: int | None, batch_size: int | None
    ) -> Iterator[pl.DataFrame]:
        left = n_rows
        for chunk in reading.chunks():
            batch = reading.batch(chunk, useless=False)
            if batch.broken:
                raise pl.exceptions.ComputeError(batch.broken[0].detail)
            frame = batch.frame if left is None else batch.frame.head(left)
            left = None if left is None else left - frame.height
            if predicate is not None:
                frame = frame.filter(predicate)
            yield frame.select(columns) if columns else frame  # without any column the height would be lost
            if left == 0:
                return

    return register_io_source(rows, schema=PREFERENCE)


def largest_margin(path: str | Path, format: str = "auto") -> float:
    """What the margins of a raw file are to be divided by (:func:`scaled`), of a format that has them of any scale;
    1 at least. A file whose first rows have none is read no further.

    Raises:
        UserError: as :func:`format_of`.
    """
    reading = Reading(path, format, chunk=1 << 20)
    largest = 0.0
    if reading.scaled:
        for chunk in reading.chunks():
            largest = max(largest, reading.batch(chunk, useless=False).largest)
            if not largest:
                break
    return max(largest, 1.0)


def scaled(frame: Table, largest: float) -> Table:
    """With the margins, whose largest is given, in (0, 1]."""
    return frame.with_columns(pl.col("margin") / max(largest, 1.0))


def read(path: str | Path, format: str = "auto") -> pl.DataFrame:
    """The table of :func:`load`."""
    return load(path, format).frame


def load(
    path: str | Path,
    format: str = "auto",
    keys: Mapping[str, str] | None = None,
    most_pairs: int | None = MOST_PAIRS,
) -> Loaded:
    """A raw file, or a folder of raw files of one format, as a checked PREFERENCE table, in memory.

    Args:
        keys: the columns' names under OpenRLHF, for ``prompt``, ``chosen`` and ``rejected`` or some of them.
        most_pairs: as of :class:`Reading`; None: all.

    Raises:
        UserError: a missing or empty file, a broken row, a folder of several formats; one line that names the file and
            the line.
    """
    most = sys.maxsize if most_pairs is None else most_pairs
    readings = {file.name: Reading(file, format, keys, most_pairs=most) for file in files(path)}
    one_format(path, {name: reading.format for name, reading in readings.items()})
    frames, largest, left_out = [], 0.0, Counter()
    for reading in readings.values():
        for chunk in reading.chunks():
            batch = reading.batch(chunk, useless=False)
            if batch.broken:
                raise UserError(f"{reading.file.path}: {batch.broken[0].detail}")
            frames.append(batch.frame)
            left_out.update(batch.left_out)
            largest = max(largest, batch.largest)
    reading = next(iter(readings.values()))
    frame = scaled(pl.concat(frames), largest) if reading.scaled else pl.concat(frames)
    return Loaded(check(frame, PREFERENCE, path), reading.format, dict(left_out))


def one_format(folder: str | Path, formats: Mapping[str, str]) -> None:
    """Raises UserError where the files of a folder (name -> format) are of several formats."""
    example = {format: file for file, format in formats.items()}
    if len(example) > 1:
        found = ", ".join(f"{name} ({file})" for name, file in example.items())
        raise UserError(f"{folder}: the folder holds files of several formats: {found}; ingest them apart")
