"""Pairs that nobody has labelled yet: a conversation and two responses, of which either may be the better one.

A row has a ``prompt`` (text, or turns that end with the user's) and two responses, texts or lists of one assistant
turn, under one of these names:

    response_a, response_b     response_1, response_2     output_1, output_2     responses, a list of two

Optional keys: ``id`` (else a hash of the content), ``group_id``, ``source``, ``category``, ``subset``, ``split``.
A row of more responses is to be ranked and not labelled. Files are those of :mod:`data_tools.sources`.

Until it is labelled, a pair lies in a PREFERENCE table with the first response as ``chosen``, which says nothing:
a judge is shown both orders, and neither the order nor a random number depends on which is which.

Files may be larger than the memory: rows are read in chunks, what decides about them (ids, and hashes of contents) is
held of all of them, and the pairs end up in files of so many at most (:data:`AT_ONCE`), by the order of their ids.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import polars as pl

from data_tools.errors import UserError
from data_tools.schema import MESSAGES
from data_tools.sources import Reading, _rows, files
from data_tools.sources._broken import Broken
from data_tools.sources._rows import Rows
from data_tools.sources._together import MOST, together
from data_tools.split import sample

NAMES = (("response_a", "response_b"), ("response_1", "response_2"), ("output_1", "output_2"))
LISTED = "responses"
# Pairs that are worked on at once. A multiple of the judges' own shards, so that these are cut as if it were all one.
AT_ONCE = 8192
_CHUNK = 8 << 20  # bytes of raw text likewise
_CONTENT = "_content"


@dataclass(frozen=True)
class Unlabelled:
    """Pairs of some files.

    Attributes:
        blocks: files of PREFERENCE, whose ``chosen`` is the first response of a row and ``rejected`` its second: one
            with all pairs in the order of the files, or several that are sorted by id, also among one another.
        n_pairs: in all of them.
        broken: file of the rows that cannot be used (:meth:`~data_tools.sources._broken.Broken.line`).
        n_broken: their number.
        repeats: rows that stood there before: the same content, under the same id or none.
    """

    blocks: list[Path]
    n_pairs: int
    broken: Path
    n_broken: int
    repeats: int


def read_unlabelled(
    paths: Iterable[str | Path], folder: Path, rows: int | None = None, at_once: int = AT_ONCE
) -> Unlabelled:
    """Unlabelled pairs of raw files, or folders of them.

    Args:
        folder: for the files of what was read; empty, and the caller's to remove.
        rows: at most so many pairs, drawn by hash; None: all.
        at_once: pairs of a block at most.

    Raises:
        UserError: no such file, or one whose first row is no such pair; no usable row at all; an id twice.
    """
    paths = list(paths)
    where = ", ".join(map(str, paths))
    if rows is not None and rows < 1:
        raise UserError(f"--rows: {rows} is not above 0")
    parts, narrow, first, n_broken = [], [], None, 0
    with open(folder / "broken.jsonl", "w", encoding="utf-8") as told:
        for file, frame, broken in _read(paths):
            if broken and first is None:
                first = broken[0].detail
            n_broken += len(broken)
            told.writelines(row.line(file) for row in broken)
            narrow.append(frame.select("pair_id", pl.struct("prompt", "chosen", "rejected").hash().alias(_CONTENT)))
            parts.append(folder / f"part-{len(parts):05d}.parquet")
            frame.write_parquet(parts[-1], compression="lz4")
    ids = pl.concat([pl.DataFrame(schema={"pair_id": pl.String, _CONTENT: pl.UInt64}), *narrow])
    if not len(ids):
        what = f"; the first of {n_broken} broken rows: {first}" if n_broken else ""
        raise UserError(f"{where}: no pair to label{what}")
    kept = without_repeats(ids.with_row_index("_row"), [_CONTENT], where)
    repeats = len(ids) - len(kept)
    kept = kept if rows is None else sample(kept, rows)
    blocks = _blocks(parts, kept.select("_row", "pair_id"), folder, at_once)
    return Unlabelled(blocks, len(kept), folder / "broken.jsonl", n_broken, repeats)


def _read(paths: Sequence[str | Path]) -> Iterator[tuple[Path, pl.DataFrame, list[Broken]]]:
    """(file, PREFERENCE, broken rows) of each chunk."""
    for path in paths:
        for file in files(path):
            reading = Reading(file, "unlabelled", chunk=_CHUNK, module=_Pairs(file))
            for chunk in reading.chunks():
                batch = reading.batch(chunk)
                yield file, batch.frame.with_columns(label_kind=pl.lit(None, pl.String)), batch.broken


def _blocks(parts: Sequence[Path], kept: pl.DataFrame, folder: Path, at_once: int) -> list[Path]:
    """The rows of the parts that are kept, as files of ``at_once`` pairs at most; the parts are removed.

    Args:
        kept: _row, over all parts, and pair_id.
    """
    at_once = min(at_once, len(kept))
    n = -(-len(kept) // at_once)
    each = -(-n // MOST)  # blocks of a bucket: so many files are open at once
    place = kept.sort("pair_id").with_row_index("_rank").select("_row", _bucket=pl.col("_rank") // (at_once * each))
    place = place.sort("_row")

    def keyed() -> Iterator[tuple[pl.DataFrame, pl.Series]]:
        begin = taken = 0  # rows of the parts before, and those of them that are kept
        for part in parts:
            frame = pl.read_parquet(part).with_row_index("_row", offset=begin)
            begin += len(frame)
            part.unlink()
            end = place["_row"].search_sorted(begin)
            some = frame.join(place.slice(taken, end - taken), on="_row", how="inner", maintain_order="left")
            taken = end
            yield some.drop("_row", "_bucket"), some["_bucket"]

    found: list[Path] = []
    for bucket in together(keyed(), -(-n // each), folder):
        for block in [bucket] if n == 1 else bucket.sort("pair_id").iter_slices(at_once):
            found.append(folder / f"block-{len(found):05d}.parquet")
            block.write_parquet(found[-1], compression="lz4")
    return found


def without_repeats(rows: pl.DataFrame, content: Sequence[str], where: str, key: str = "pair_id") -> pl.DataFrame:
    """The rows, each content under one id once: rows without ids that are equal have equal ones.

    Raises:
        UserError: an id stands for different rows; names ``where``.
    """
    kept = rows.unique([key, *content], keep="first", maintain_order=True)
    twice = kept.filter(pl.col(key).is_duplicated())[key]
    if len(twice):
        raise UserError(f"{where}: id '{twice.min()}' stands for several rows; make ids unique")
    return kept


def are_texts(responses: list[Any]) -> bool:
    """Whether a first row's responses are texts, and no lists of turns; one that is null may be either."""
    return all(isinstance(one, str) for one in responses if one is not None)


class _Pairs:
    """The format (:mod:`data_tools.sources`). It is none of that folder's: ``ingest`` takes labelled rows alone."""

    KEYS = ("prompt",)
    REMEDY: ClassVar = {
        "pair_id": "key 'id' is missing, but the first row has one; give every row an id, or none",
        "prompt": "key 'prompt' is missing or null",
        "chosen": "there are not two responses",
        "rejected": "there are not two responses",
    }

    def __init__(self, file: Path) -> None:
        self.file = file

    def schema(self, first: dict[str, Any]) -> pl.Schema:
        listed = isinstance(first.get("prompt"), list)
        names = self._names(first)
        if names is None:
            responses = {LISTED: pl.List(pl.String if are_texts(first[LISTED]) else MESSAGES)}
        else:
            shape = next((first[name] for name in names if first[name] is not None), "")
            responses = dict.fromkeys(names, MESSAGES if isinstance(shape, list) else pl.String)
        return pl.Schema({**_rows.EXTRAS, "prompt": MESSAGES if listed else pl.String, **responses})

    def pairs(self, rows: Rows) -> pl.LazyFrame:
        raw, names = self.schema(rows.first), self._names(rows.first)
        if names is None:
            two = pl.col(LISTED).list.len() == 2
            sides = [pl.when(two).then(pl.col(LISTED).list.get(i, null_on_oob=True)) for i in (0, 1)]
            turns = raw[LISTED].inner == MESSAGES
        else:
            sides, turns = [pl.col(name) for name in names], raw[names[0]] == MESSAGES
        texts = [_rows.response(side) if turns else side for side in sides]
        prompt = pl.col("prompt") if raw["prompt"] == MESSAGES else _rows.user_turn(pl.col("prompt"))
        frame = rows.frame.with_columns(chosen=texts[0], rejected=texts[1], prompt=prompt)
        return _rows.identified(frame, rows)

    def _names(self, first: dict[str, Any]) -> tuple[str, str] | None:
        """The keys of the two responses; None: they are a list.

        Raises:
            UserError: the first row has none of them, or a list of another length.
        """
        for names in NAMES:
            if "prompt" in first and all(name in first for name in names):
                return names
        listed = first.get(LISTED)
        if "prompt" in first and isinstance(listed, list):
            if len(listed) == 2:
                return None
            raise UserError(
                f"{self.file}: the first row has {len(listed)} responses, a pair has two; "
                "more are ranked: python -m genrm_lightning rank"
            )
        if {"chosen", "rejected"} <= first.keys():
            raise UserError(
                f"{self.file}: the first row is labelled already (chosen, rejected); to see how a judge agrees with "
                "the labels: python -m genrm_lightning evaluate, then study"
            )
        wanted = "; ".join(", ".join(names) for names in (*NAMES, (f"{LISTED} (a list of two)",)))
        raise UserError(f"{self.file}: the first row has {', '.join(first) or 'nothing'}; needed: prompt and {wanted}")
