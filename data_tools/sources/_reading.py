"""A raw file, read a chunk at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from data_tools.schema import PREFERENCE, conform
from data_tools.sources import _decoding, _files, _together
from data_tools.sources._broken import Broken
from data_tools.sources._checks import CHECKS, MOST, USELESS
from data_tools.sources._raw import CHUNK
from data_tools.sources._recognition import recognised
from data_tools.sources._rows import LEFT_OUT, MOST_PAIRS, ROW, TIE, TIMES, Rows


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
        UserError: a missing or empty file, an unknown format; see :func:`~._recognition.format_of`.
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
        self.format, self._module = recognised(self.file, format, keys) if module is None else (format, module)
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
        ties, untold = self._checked(frame.filter(is_tie), [check for check in CHECKS if check[0] != "margin"], raw)
        frame = pl.concat([frame.filter(is_tie.not_() | is_tie.is_null()), ties.select(frame.columns)])
        left_out = frame.filter(pl.col(LEFT_OUT).is_not_null()).group_by(LEFT_OUT).agg(pl.col(TIMES).fill_null(1).sum())
        frame, wrong = self._checked(frame.filter(pl.col(LEFT_OUT).is_null()), CHECKS + USELESS * useless, raw)
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
        frame = frame.with_columns(pl.lit(float("inf") if self.scaled else 1.0).alias(MOST))
        flags = frame.select(bad.fill_null(False).alias(str(i)) for i, (_, bad, _, _) in enumerate(checks))
        if not (any_bad := flags.select(bad=pl.any_horizontal(pl.all()))["bad"]).any():
            return frame.drop(MOST), []
        which = flags.filter(any_bad).select(pl.concat_list(pl.all()).list.arg_max()).to_series()
        lines = dict(raw.select("number", "line").iter_rows()) if "line" in raw.columns else {}
        broken: dict[tuple[int, str], Broken] = {}  # of a row of many pairs one for each reason
        for i, row in zip(which, frame.filter(any_bad).iter_rows(named=True), strict=True):
            column, _, reason, message = checks[i]
            if i < len(CHECKS) and (row[column] is None or column == "margin"):  # which a format may compute
                message = getattr(self._module, "REMEDY", {}).get(column, message)
            said = f"{self.file.place(row[ROW])}: {message.replace('{}', str(row[column]))}"
            broken.setdefault((row[ROW], reason), Broken(row[ROW], reason, said, lines.get(row[ROW])))
        return frame.filter(~any_bad).drop(MOST), list(broken.values())
