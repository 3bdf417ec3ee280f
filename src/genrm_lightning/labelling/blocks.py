"""Pairs judged and labelled a block at a time, so that memory does not grow with their number.

One block of all pairs is judged in the folder itself, several each in a folder of its own there, ``block-00000`` and so
on. Labels of a block lie in files until all are there; the tables are then written from one file after another, which
sorts them, as the blocks are.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import polars as pl

from data_tools.artifact import MANIFEST, atomic_path
from data_tools.errors import UserError
from data_tools.schema import PREFERENCE, check
from genrm_lightning.budget import NoneFits
from genrm_lightning.judges.base import Judged
from genrm_lightning.judges.stage import Missing
from genrm_lightning.labelling.labels import LABELS, Labels
from genrm_lightning.star.stage import STARTED

NAMES = ("labels", "ties", "abstained")
_ROW_GROUP = 16_384  # rows of which a writer holds the texts


class LabelParts:
    """Labels of some blocks, in files.

    Attributes:
        counts: labels, ties, abstained: rows of each; tokens: that the judge wrote; dropped: pairs that did not fit.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.counts: Counter[str] = Counter()
        self._files: dict[str, dict[int, Path]] = {name: {} for name in NAMES}

    def add(self, number: int, labels: Labels, dropped: int) -> None:
        """Take the labels of a block; those of its number."""
        self.counts["dropped"] += dropped
        for name, files in self._files.items():
            table: pl.DataFrame = getattr(labels, name)
            if len(table):
                files[number] = self.folder / f"{name}-{number:05d}.parquet"
                check(table, LABELS, files[number]).write_parquet(files[number], compression="lz4")  # for a while
            self.counts[name] += len(table)
            self.counts["tokens"] += int(table["n_tokens"].sum())

    def scan(self, name: str) -> pl.LazyFrame:
        """LABELS rows of one of :data:`NAMES`, sorted by pair."""
        files = [file for _, file in sorted(self._files[name].items())]
        return pl.scan_parquet(files, glob=False) if files else LABELS.to_frame().lazy()

    def write(self, name: str, out: Path) -> None:
        """One of the tables as a file, atomically."""
        with atomic_path(out) as temporary:
            self.scan(name).sink_parquet(
                temporary, maintain_order=True, engine="streaming", row_group_size=_ROW_GROUP
            )  # fmt: skip


def label_blocks(
    blocks: Sequence[Path],
    judged: Callable[[pl.DataFrame, Path, str], Judged],
    labels: Callable[[pl.DataFrame, pl.DataFrame], Labels],
    folder: Path,
    parts: LabelParts,
) -> None:
    """Judge blocks of pairs and label them.

    Args:
        blocks: files of PREFERENCE, removed when they are done with.
        judged: judges pairs in a folder (:func:`~genrm_lightning.judges.stage.judge_pairs`); told also their name.
        labels: labels of pairs and JUDGMENT rows.
        folder: where they are judged.
        parts: takes the labels.

    Raises:
        Missing: shards that other processes are to draw; those of this one are drawn, of every block. What the others
            have drawn meanwhile is looked for as long as that ends a block: whoever draws the last shard has all.
        UserError: in no block fits a pair, or the folder holds blocks where there is one now, or the other way round.
    """
    _check_layout(folder, len(blocks))
    unfit: list[NoneFits] = []
    left = list(enumerate(blocks))
    while left:
        missing = _label_each(left, len(blocks), judged, labels, folder, parts, unfit)
        if len(missing) == len(left):
            raise Missing(*(shard for _, shards in missing for shard in shards))
        waiting = {number for number, _ in missing}
        left = [each for each in left if each[0] in waiting]
    if len(unfit) == len(blocks):
        raise unfit[0]


def _label_each(
    blocks: Sequence[tuple[int, Path]],
    n_blocks: int,
    judged: Callable[[pl.DataFrame, Path, str], Judged],
    labels: Callable[[pl.DataFrame, pl.DataFrame], Labels],
    folder: Path,
    parts: LabelParts,
    unfit: list[NoneFits],
) -> list[tuple[int, tuple[Path, ...]]]:
    """One look at each of some blocks; returns (number, missing shards) of those that are not whole."""
    missing: list[tuple[int, tuple[Path, ...]]] = []
    for number, block in blocks:
        alone = n_blocks == 1
        place = folder if alone else folder / f"block-{number:05d}"
        where = "the pairs" if alone else f"the pairs, block {number + 1} of {n_blocks}"
        pairs = pl.read_parquet(block, glob=False).select(list(PREFERENCE))
        try:
            found = judged(pairs, place, where)
        except Missing as error:
            missing.append((number, error.args))
            continue
        except NoneFits as error:
            unfit.append(error)
            parts.counts["dropped"] += len(pairs)
        else:
            parts.add(number, labels(pairs, found.judgments), len(found.dropped))
        block.unlink()
    return missing


def at_once(folder: Path, most: int) -> int:
    """Pairs of a block: ``most``, but where all of them were judged, or begun, as one, they stay one."""
    return sys.maxsize if _is_one(folder) else most


def _check_layout(folder: Path, n_blocks: int) -> None:
    if _is_one(folder) if n_blocks > 1 else any(folder.glob("block-*")):
        raise UserError(f"{folder}: holds what was judged of other pairs; name another --out, or remove it")


def _is_one(folder: Path) -> bool:
    return any((folder / name).exists() for name in (MANIFEST, STARTED))
