"""Pairs that nobody has labelled yet: a conversation and two responses, of which either may be the better one.

A row has a ``prompt`` (text, or turns that end with the user's) and two responses, texts or lists of one assistant
turn, under one of these names:

    response_a, response_b     response_1, response_2     output_1, output_2     responses, a list of two

Optional keys: ``id`` (else a hash of the content), ``group_id``, ``source``, ``category``, ``subset``, ``split``.
A row of more responses is to be ranked and not labelled. Files are those of :mod:`data_tools.sources`.

Until it is labelled, a pair lies in a PREFERENCE table with the first response as ``chosen``, which says nothing:
a judge is shown both orders, and neither the order nor a random number depends on which is which.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import polars as pl

from data_tools.errors import UserError
from data_tools.schema import MESSAGES, PREFERENCE
from data_tools.sources import Reading, _rows, files
from data_tools.sources._broken import Broken
from data_tools.sources._rows import Rows

NAMES = (("response_a", "response_b"), ("response_1", "response_2"), ("output_1", "output_2"))
LISTED = "responses"


@dataclass(frozen=True)
class Unlabelled:
    """Pairs of some files.

    Attributes:
        pairs: PREFERENCE, whose ``chosen`` is the first response of a row and ``rejected`` its second.
        broken: (file, row) of those that cannot be used.
        repeats: rows without an id that stood there before.
    """

    pairs: pl.DataFrame
    broken: list[tuple[Path, Broken]] = field(default_factory=list)
    repeats: int = 0


def load_unlabelled(paths: Iterable[str | Path]) -> Unlabelled:
    """Unlabelled pairs of raw files, or folders of them.

    Raises:
        UserError: no such file, or one whose first row is no such pair; no usable row at all; an id twice.
    """
    paths = list(paths)
    where = ", ".join(map(str, paths))
    frames, broken = [PREFERENCE.to_frame()], []
    for path in paths:
        for file in files(path):
            reading = Reading(file, "unlabelled", module=_Pairs(file))
            for chunk in reading.chunks():
                batch = reading.batch(chunk)
                frames.append(batch.frame)
                broken += [(file, row) for row in batch.broken]
    pairs = pl.concat(frames)
    if not len(pairs):
        first = f"; the first of {len(broken)} broken rows: {broken[0][1].detail}" if broken else ""
        raise UserError(f"{where}: no pair to label{first}")
    kept = without_repeats(pairs, ("prompt", "chosen", "rejected"), where)
    return Unlabelled(kept.with_columns(label_kind=pl.lit(None, pl.String)), broken, len(pairs) - len(kept))


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
