"""Prompts with several responses each, to be ranked: ``prompt`` and ``responses``, a list of texts or of turns.

Optional keys: ``id`` (else a hash of the content), ``source``, ``category``, ``subset``, ``split``. Files are those of
:mod:`data_tools.sources`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import polars as pl

from data_tools.errors import UserError
from data_tools.schema import MESSAGES
from data_tools.sources import Reading, _rows, files
from data_tools.sources._broken import Broken
from data_tools.sources._rows import Rows
from data_tools.unlabelled import LISTED, are_texts, without_repeats

CANDIDATES = pl.Schema({"group_id": pl.String, "prompt": MESSAGES, "candidate": pl.Int32, "response": pl.String})
_LISTED = pl.Schema({"group_id": pl.String, "prompt": MESSAGES, "response": pl.List(pl.String)})
_SEPARATOR = "/"  # of the places behind a group's id


@dataclass(frozen=True)
class Candidates:
    """Candidates of some files.

    Attributes:
        rows: CANDIDATES, a row a response; places from 0 in the order of the list.
        broken: (file, row) of rows that cannot be used.
        repeats: raw rows without an id that stood there before.
    """

    rows: pl.DataFrame
    broken: list[tuple[Path, Broken]]
    repeats: int


def load_candidates(paths: Iterable[str | Path]) -> Candidates:
    """Candidates of raw files, or folders of them.

    Raises:
        UserError: no such file, one whose first row is no prompt with responses, no usable row, or an id twice.
    """
    paths = list(paths)
    listed, broken = [_LISTED.to_frame()], []
    for path in paths:
        for file in files(path):
            reading = Reading(file, "candidates", module=_Lists(file))
            for chunk in reading.chunks():
                batch = reading.batch(chunk, useless=False)
                # The format put the whole list into the text of ``chosen``: a list has no column in PREFERENCE.
                decoded = pl.col("chosen").str.json_decode(pl.List(pl.String))
                listed.append(batch.frame.select(group_id="pair_id", prompt="prompt", response=decoded))
                broken += [(file, row) for row in batch.broken]
    rows = pl.concat(listed)
    where = ", ".join(map(str, paths))
    if not len(rows):
        first = f"; the first of {len(broken)} broken rows: {broken[0][1].detail}" if broken else ""
        raise UserError(f"{where}: no candidates to rank{first}")
    kept = without_repeats(rows, ("prompt", "response"), where, "group_id")
    return Candidates(_each(kept), broken, len(rows) - len(kept))


def _each(listed: pl.DataFrame) -> pl.DataFrame:
    places = pl.int_ranges(pl.col("response").list.len(), dtype=pl.Int32)
    rows = listed.with_columns(candidate=places).explode("response", "candidate")
    return rows.select(list(CANDIDATES))


def pair_id(group: str, i: int, j: int) -> str:
    """Of the comparison of two candidates."""
    return f"{group}{_SEPARATOR}{i}-{j}"


class _Lists:
    """The format (:mod:`data_tools.sources`)."""

    KEYS = ("prompt", LISTED)
    REMEDY: ClassVar = {
        "pair_id": "key 'id' is missing, but the first row has one; give every row an id, or none",
        "prompt": "key 'prompt' is missing or null",
        "chosen": f"'{LISTED}' is missing, empty, or holds what is no response",
    }

    def __init__(self, file: Path) -> None:
        self.file = file

    def schema(self, first: dict[str, Any]) -> pl.Schema:
        listed = first.get(LISTED)
        if "prompt" not in first or not isinstance(listed, list):
            raise UserError(
                f"{self.file}: the first row has {', '.join(first) or 'nothing'}; needed: prompt and {LISTED}, a list"
            )
        prompt = MESSAGES if isinstance(first["prompt"], list) else pl.String
        responses = pl.List(pl.String if are_texts(listed) else MESSAGES)
        return pl.Schema({**_rows.EXTRAS, "prompt": prompt, LISTED: responses})

    def pairs(self, rows: Rows) -> pl.LazyFrame:
        raw = self.schema(rows.first)
        prompt = pl.col("prompt") if raw["prompt"] == MESSAGES else _rows.user_turn(pl.col("prompt"))
        texts = pl.col(LISTED)
        if raw[LISTED].inner == MESSAGES:
            last = pl.element().list.last()
            texts = texts.list.eval(
                pl.when(last.struct.field("role") == "assistant").then(last.struct.field("content"))
            )
        usable = (texts.list.len() > 0) & ~texts.list.eval(pl.element().is_null()).list.any()
        frame = rows.frame.with_columns(prompt=prompt, _texts=pl.when(usable).then(texts))
        # One text that says nothing of a pair but holds them all; ``rejected`` only has to be there.
        listed = pl.struct(r="_texts").struct.json_encode().str.strip_prefix('{"r":').str.strip_suffix("}")
        frame = frame.with_columns(chosen=pl.when(pl.col("_texts").is_not_null()).then(listed), rejected=pl.lit(""))
        identity = pl.col("id") if rows.first.get("id") is not None else _rows.content_hash("prompt", "chosen")
        return frame.with_columns(pair_id=identity, source=pl.col("source").fill_null(rows.stem))
