"""A draw in shards: a file each, filled by any number of processes, and one table of them all.

A shard's file says what was asked for and what its rows are (digests), so one that a crash of a machine has damaged is
found when it is read, and drawn again; one of another draw is refused, and one whose verdicts were read in another way
(:meth:`Sampler.reading`), which a server decides and no setting. Two processes that draw the same shard write the
same rows, in one piece each: nothing is lost but their time.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from hashlib import blake2b
from pathlib import Path
from typing import Any

import polars as pl

from data_tools.artifact import digest_of, write_table
from data_tools.errors import UserError
from data_tools.schema import JUDGMENT
from genrm_lightning.claims import Claims
from genrm_lightning.samplers.base import Request, Sample, Sampler, SamplingSettings

_ORDER = ("pair_id", "swapped", "sample_index")


class Shards:
    """The shards of a draw in ``folder``: shard-00000.parquet and on.

    Args:
        asked: judge prompts, in the order of the shards.
        size: judge prompts a shard; part of the draw, since batches are formed within shards.
        salt: names the draw (:meth:`Sampler.sample`).
        facts: columns that are the same in every row: iteration, seed, judge.
    """

    def __init__(
        self,
        folder: Path,
        asked: Sequence[Request],
        settings: SamplingSettings,
        size: int,
        salt: str,
        facts: dict[str, Any],
    ) -> None:
        self.folder, self.settings, self.salt, self.facts = folder, settings, salt, facts
        self.asked = list(asked)
        self.chunks = [self.asked[i : i + size] for i in range(0, len(self.asked), size)]
        drawn = {k: v for k, v in asdict(settings).items() if k != "batch_tokens"}  # it changes no sample
        self.keys = [digest_of([drawn, salt, facts, [asdict(request) for request in chunk]]) for chunk in self.chunks]
        self._read: dict[int, pl.DataFrame] = {}
        self._readings: dict[int, str | None] = {}  # of the shards looked at

    def __len__(self) -> int:
        return len(self.chunks)

    def path(self, number: int) -> Path:
        return self.folder / f"shard-{number:05d}.parquet"

    def samples(self, among: range | None = None) -> int:
        """How many samples the shards of these numbers hold, or all of them."""
        chunks = self.chunks if among is None else [self.chunks[number] for number in among]
        return sum(len(request.indices(self.settings)) for chunk in chunks for request in chunk)

    def missing(self) -> list[int]:
        """Numbers of the shards that have no file."""
        # The folder is read anew: a look at a single name may be answered from what a network's client remembers.
        try:
            there = set(os.listdir(self.folder))
        except FileNotFoundError:
            there = set()
        return [number for number in range(len(self)) if self.path(number).name not in there]

    def read(self, number: int) -> pl.DataFrame | None:
        """The rows of a shard; None where there is no file, or was none that could be used: that one is removed.

        Raises:
            UserError: the file is whole, but of another draw.
        """
        path = self.path(number)
        if number not in self._read:
            try:
                data = path.read_bytes()
            except FileNotFoundError:
                return None
            key, table = _parsed(data)
            if table is None:
                note(f"{path}: the file is damaged; the shard is drawn again")
                path.unlink(missing_ok=True)
                return None
            if key != self.keys[number]:
                raise UserError(
                    f"{path}: drawn from other pairs, with other settings or by another version; use another folder, "
                    "or remove this one to begin anew"
                )
            self._read[number] = table
        return self._read[number]

    def table(self) -> pl.DataFrame | None:
        """The rows of all shards, sorted by pair, order and sample; None where one is missing.

        Raises:
            UserError: a shard is of another draw, or two of them were read in different ways.
        """
        tables = [self.read(number) for number in range(len(self))]
        if any(table is None for table in tables):
            return None
        known = [reading for number in range(len(self)) if (reading := self._reading_of(number)) is not None]
        if known:
            self._read_alike(known[0])
        return pl.concat([pl.DataFrame(schema=JUDGMENT), *tables]).sort(_ORDER)

    def complete(
        self,
        sampler: Callable[[], Sampler],
        claims: Claims | None = None,
        advance: Callable[[int, int], None] = lambda samples, tokens: None,
    ) -> pl.DataFrame:
        """:meth:`fill`, and the :meth:`table`."""
        table = self.table()
        if table is not None:
            advance(self.samples(), 0)
        while table is None:
            self.fill(sampler, claims, drew=advance, found=lambda samples: advance(samples, 0))
            table = self.table()
        return table

    def fill(
        self,
        sampler: Callable[[], Sampler],
        claims: Claims | None = None,
        among: range | None = None,
        *,
        drew: Callable[[int, int], None] = lambda samples, tokens: None,
        found: Callable[[int], None] = lambda samples: None,
        go_on: Callable[[], bool] = lambda: True,
    ) -> int:
        """Draw the shards that are missing, until all are there; how many were drawn by this call.

        Args:
            sampler: makes the sampler, called only if a shard is missing.
            claims: of one of several processes that divide the shards as they go; None: all are ours.
            among: the numbers of the shards that are wanted; None for all.
            drew: told how many samples and tokens each finished prompt brought.
            found: told how many samples lie in a shard that was there, or that another process drew.
            go_on: asked before each shard; False ends the call.

        Raises:
            UserError: the sampler refuses a prompt, or reads verdicts in another way than the shards that are there;
                before the first shard is drawn.
        """
        wanted = set(range(len(self)) if among is None else among)
        there = len(wanted) - len(wanted.intersection(self.missing()))
        if 0 < there < len(wanted):
            note(f"{self.folder}: goes on after {there} of {len(wanted)} shards, none of which is drawn again")
        made: Sampler | None = None
        drawn = 0
        while True:
            missing = wanted.intersection(self.missing())
            if not go_on():  # asked behind each look: shards that are gone because all is done are not missing
                break
            for number in wanted - missing:
                found(self.samples(range(number, number + 1)))
            wanted = missing
            if not wanted:
                break
            mine = next((n for n in sorted(wanted) if claims is None or claims.take(self.keys[n])), None)
            if mine is None:  # the rest is in others' hands
                claims.wait()
                continue
            try:
                # It may have been finished just before it was claimed.
                if mine in self.missing() and go_on():
                    if made is None:
                        made = sampler()
                        made.check(self.asked, self.settings)  # the last shard's prompts too: nothing is drawn in vain
                    self._read_alike(made.reading())
                    self._draw(mine, made, drew)
                    wanted.discard(mine)
                    drawn += 1
            finally:
                if claims is not None:
                    claims.release(self.keys[mine])
        return drawn

    def _read_alike(self, reading: str | None) -> None:
        """Raises UserError where a shard that is there holds verdicts of another reading; old ones do not say."""
        if reading is None:
            return
        for number in sorted(set(range(len(self))).difference(self.missing())):
            other = self._reading_of(number)
            if other not in (None, reading) and self.read(number) is not None:  # whole, so it says what was written
                raise UserError(
                    f"{self.path(number)}: its verdicts are those of '{other}', now they would be those of "
                    f"'{reading}', and one table must not mix them: start the server as it was then, or use another "
                    "folder"
                )

    def _reading_of(self, number: int) -> str | None:
        """How the verdicts of a shard were read; None where that is not known."""
        if number not in self._readings:
            try:
                self._readings[number] = pl.read_parquet_metadata(self.path(number)).get("reading")
            except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError, ValueError):
                return None  # gone, or damaged, which shows when its rows are read
        return self._readings[number]

    def _draw(self, number: int, sampler: Sampler, drew: Callable[[int, int], None]) -> None:
        rows = []
        chunk = self.chunks[number]
        for index, samples in sampler.sample(chunk, self.settings, self.salt):
            rows += rows_of(chunk[index], samples, self.facts)
            drew(len(samples), sum(sample.n_tokens for sample in samples))
        table = table_of(rows)
        key = self.keys[number]
        reading = sampler.reading()
        said = {"key": key, "rows": _digest(key, table, reading)} | ({"reading": reading} if reading else {})
        write_table(table, self.path(number), JUDGMENT, said)
        self._readings[number] = reading
        self._read[number] = table


def rows_of(request: Request, samples: Sequence[Sample], facts: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows of a judge prompt's samples; ``facts`` as of :class:`Shards`."""
    own = {"pair_id": request.pair_id, "swapped": request.swapped, **facts}
    return [{**vars(sample), **own, "sample_index": i} for i, sample in enumerate(samples, request.first)]


def table_of(rows: list[dict[str, Any]]) -> pl.DataFrame:
    """JUDGMENT, sorted by pair, order and sample."""
    return pl.DataFrame(rows, schema=JUDGMENT).sort(_ORDER)


def _parsed(data: bytes) -> tuple[str, pl.DataFrame | None]:
    """(the key that a shard's file names, its rows); None for rows that are not the ones that were written."""
    try:
        said = pl.read_parquet_metadata(io.BytesIO(data))
        key = said["key"]
        table = pl.read_parquet(io.BytesIO(data)).select(list(JUDGMENT))
        return key, table if said["rows"] == _digest(key, table, said.get("reading")) else None
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError, ValueError, KeyError):
        return "", None


def _digest(key: str, table: pl.DataFrame, reading: str | None) -> str:
    head = f"{key}\n{reading}" if reading else key
    return blake2b(f"{head}\n{table.write_ndjson()}".encode(), digest_size=16).hexdigest()


def note(text: str) -> None:
    """A line about the draw, on stderr."""
    print(text, file=sys.stderr, flush=True)
