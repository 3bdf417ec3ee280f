"""Raw files -> clean tables, in two passes and bounded memory.

The first pass reads the raw files a chunk at a time, puts away what cannot be used, and writes the pairs as they are,
with a narrow table beside (:mod:`data_tools.passes`). On that the splits and the rows that stay are decided, and the
second pass writes the tables.
"""

from __future__ import annotations

import json
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO, TypeVar

import polars as pl

from data_tools import artifact, clean, lineage, passes
from data_tools.errors import UserError
from data_tools.memory import Memory
from data_tools.order import hash64
from data_tools.schema import SPLITS
from data_tools.sources import MOST_PAIRS, Batch, Reading
from data_tools.split import check_shares, labels, normalised_prompt, settled

QUARANTINE = "quarantine.jsonl"
TIES = "ties.parquet"
_KEPT = 2_000  # characters of a broken line that the quarantine keeps
T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class Settings:
    """How raw files become tables.

    Attributes:
        format: name of the raw format, or auto.
        keys: OpenRLHF's names of columns.
        rows: at most so many a split, those with the smallest hash of the pair's id.
        max_chars: of prompt and longer response together.
        validation, test: shares of the prompts.
        redo: forget labels that the rows bring.
        ties: write comparisons of equals to a table of their own.
        max_broken: share of the rows that may be broken.
        max_pairs_per_prompt: where a format compares each response of a prompt with each; drawn by a hash.
    """

    format: str = "auto"
    keys: Mapping[str, str] = field(default_factory=dict)
    rows: int | None = None
    max_chars: int | None = None
    validation: float = 0.1
    test: float = 0.1
    redo: bool = False
    ties: bool = False
    max_broken: float = 0.05
    max_pairs_per_prompt: int = MOST_PAIRS


@dataclass
class Counts:
    """Rows, by what became of them, and each file's format. ``read`` is the sum of all but ``written``."""

    broken: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)
    dropped: dict[str, int] = field(default_factory=dict)
    kept: dict[str, int] = field(default_factory=dict)
    written: dict[str, int] = field(default_factory=dict)
    formats: dict[Path, str] = field(default_factory=dict)

    def told(self) -> dict[str, Any]:
        """As JSON."""
        parts = (self.broken, self.left_out, self.dropped, self.kept)
        return {
            "read": sum(sum(part.values()) for part in parts),
            "broken": dict(sorted(self.broken.items())),
            "left_out": dict(sorted(self.left_out.items())),
            "dropped": self.dropped,
            "kept": self.kept,
            "written": self.written,
        }


@dataclass
class _Part:
    """Some pairs as they were read: two files, and where they came from."""

    wide: Path
    narrow: Path
    file: Path
    rows: int
    size: int  # bytes in memory
    scale: tuple[str | None, str] | None  # files whose margins have one scale; None: margins are as they should be
    largest: float = 1.0  # what margins are divided by


@dataclass(frozen=True)
class Raw:
    """A raw file, and what its rows are if they do not say it themselves: see :class:`data_tools.sources.Reading`."""

    path: Path
    stem: str | None = None
    split: str | None = None
    group: str | None = None  # files of one name have margins of one scale: those of a folder, of a data set


def ingest(
    files: Sequence[Raw], out: Path, settings: Settings, memory: Memory, seen: Callable[[int], None] = lambda _: None
) -> Counts:
    """Write ``train.parquet``, ``validation.parquet`` and ``test.parquet`` into ``out``, as far as there are such rows,
    ``quarantine.jsonl`` with the rows that cannot be used, if any, and ``ties.parquet`` on demand.

    Args:
        seen: told the number of further rows, for a display.

    Raises:
        UserError: a file that cannot be read or is changed meanwhile, too many broken rows, ids that stand for several
            pairs, nothing left.
    """
    check_shares(settings.validation, settings.test)
    if not 0 <= settings.max_broken <= 1:
        raise UserError(f"--max-broken {settings.max_broken:g}: is a share of the rows, from 0 to 1")
    _check_inputs(files, out)
    _check_left_over(out)
    counts = Counts()
    with lineage.watched(raw.path for raw in files), passes.scratch(out) as temporary:
        parts = _read(files, temporary, settings, memory, counts, seen)
        at = _decide(parts, settings, memory, counts)
        if not sum(counts.kept.values()):
            raise _nothing_left(files, counts)
        _check_ids(parts, at)
        if settings.rows:
            at = _sampled(parts, at, settings.rows)
        counts.written = {name: int((at == i).sum()) for i, name in enumerate(SPLITS)}
        _check_stale(out, counts.written)
        lineage.check_unchanged(raw.path for raw in files)
        _write(parts, at, out, memory)
        _settle(temporary / QUARANTINE, out / QUARANTINE)
        _settle(temporary / TIES, out / TIES)
    return counts


def _read(
    files: Sequence[Raw],
    temporary: Path,
    settings: Settings,
    memory: Memory,
    counts: Counts,
    seen: Callable[[int], None],
) -> list[_Part]:
    """The first pass."""
    parts: list[_Part] = []
    largest: Counter[tuple[str | None, str]] = Counter()  # margin of the files given together, where it may be any
    with open(temporary / QUARANTINE, "w", encoding="utf-8") as quarantine:
        for raw in files:
            file = raw.path
            reading = Reading(
                file, settings.format, settings.keys, memory.chunk, raw.stem, raw.split,
                most_pairs=settings.max_pairs_per_prompt, scratch=temporary,
            )  # fmt: skip
            counts.formats[file] = reading.format
            given = (raw.group or str(file), reading.format)

            scale = given if reading.scaled else None

            def work(
                item: tuple[int, Any], reading: Reading = reading, file: Path = file, scale: Any = scale
            ) -> tuple[_Part, Batch]:
                i, chunk = item
                batch = reading.batch(chunk)
                wide, narrow = (temporary / f"{i}.{name}.parquet" for name in ("wide", "narrow"))
                # Read once and thrown away: speed is worth more than size.
                batch.frame.write_parquet(wide, compression="uncompressed", statistics=False)
                _narrowed(batch.frame, settings).write_parquet(narrow, compression="uncompressed")
                if settings.ties and not batch.ties.is_empty():
                    ties = batch.ties.with_columns(margin=pl.lit(None, pl.Float64))
                    ties.write_parquet(temporary / f"{i}.ties.parquet", compression="uncompressed")
                return _Part(wide, narrow, file, len(batch.frame), batch.frame.estimated_size(), scale), batch

            pairs, broken, first = 0, Counter(), None
            for part, batch in _in_order(work, enumerate(reading.chunks(), len(parts)), memory.threads):
                parts.append(part)
                pairs += part.rows + sum(batch.left_out.values())
                largest[given] = max(largest[given], batch.largest)
                counts.left_out.update(batch.left_out)
                broken.update(row.reason for row in batch.broken)
                first = first or next(iter(batch.broken), None)
                _put_away(quarantine, file, reading, batch)
                seen(part.rows + len(batch.broken))
            if first:
                _check_broken(file, first.detail, broken, pairs, settings)
            counts.broken.update(broken)
    for part in parts:
        part.largest = max(largest[part.scale], 1.0) if part.scale else 1.0
    if ties := sorted(temporary.glob("*.ties.parquet"), key=lambda path: int(path.name.partition(".")[0])):
        pl.scan_parquet(ties, glob=False).sink_parquet(temporary / TIES, maintain_order=True)
    return parts


def _in_order(work: Callable[[T], R], items: Iterable[T], threads: int) -> Iterator[R]:
    """``map`` in threads, with no more items underway than threads and one to come."""
    with ThreadPoolExecutor(threads) as pool:
        underway: deque = deque()
        try:
            for item in items:
                underway.append(pool.submit(work, item))
                if len(underway) > threads:
                    yield underway.popleft().result()
            while underway:
                yield underway.popleft().result()
        finally:
            for future in underway:
                future.cancel()


def _narrowed(frame: pl.DataFrame, settings: Settings) -> pl.DataFrame:
    drawn = labels(pl.col("_text"), validation=settings.validation, test=settings.test, redo=settings.redo)
    return frame.lazy().with_columns(_text=normalised_prompt()).select(*clean.narrow(), *drawn).collect()


def _put_away(quarantine: TextIO, file: Path, reading: Reading, batch: Batch) -> None:
    for row in batch.broken:
        said = {"file": str(file), reading.file.unit: row.row, "reason": row.reason, "detail": row.detail}
        said["text"] = row.text[:_KEPT] if row.text else None
        # Half a character has no UTF-8: as an escape it is seen for what it is.
        quarantine.write(json.dumps(said, ensure_ascii=False).encode("utf-8", "backslashreplace").decode() + "\n")


def _check_broken(file: Path, first: str, broken: Counter[str], pairs: int, settings: Settings) -> None:
    """Raises UserError where more rows are broken than may be."""
    n, total = broken.total(), broken.total() + pairs
    if n <= settings.max_broken * total:
        return
    by_reason = ", ".join(f"{reason}: {rows:,}" for reason, rows in broken.most_common())
    raise UserError(
        f"{file}: {first} ({n:,} of {total:,} rows cannot be used ({by_reason}), more than --max-broken "
        f"{settings.max_broken:g}: correct them, or allow more)"
    )


def _decide(parts: Sequence[_Part], settings: Settings, memory: Memory, counts: Counts) -> pl.Series:
    """For every row the place of its split in SPLITS; null where it is dropped."""

    def decide(rows: pl.DataFrame) -> pl.DataFrame:
        rows = rows.with_columns(settled())
        found = clean.reasons(rows, max_chars=settings.max_chars)
        return found.with_columns(rows["split"].replace_strict(SPLITS, range(len(SPLITS)), return_dtype=pl.UInt8))

    found = passes.decided([part.narrow for part in parts], decide, memory.rows)
    counts.dropped = clean.count(found["reason"])
    at = found.select(pl.when(pl.col("reason").is_null()).then("split")).to_series()
    counts.kept = {name: int((at == i).sum()) for i, name in enumerate(SPLITS)}
    return at


def _nothing_left(files: Sequence[Raw], counts: Counts) -> UserError:
    told = counts.told()
    gone = ", ".join(
        f"{why}: {n:,}" for name in ("broken", "left_out", "dropped") for why, n in told[name].items() if n
    )
    names = ", ".join(str(raw.path) for raw in files[:3]) + (f" and {len(files) - 3} more" if len(files) > 3 else "")
    return UserError(f"{names}: none of {told['read']:,} rows is left ({gone}); loosen --max-chars or use other data")


def _ids(parts: Sequence[_Part]) -> pl.LazyFrame:
    return pl.scan_parquet([part.narrow for part in parts], glob=False).select("pair_id")


def _check_ids(parts: Sequence[_Part], at: pl.Series) -> None:
    """Raises UserError where an id stands for several rows that stay."""
    hashes = _ids(parts).select(pl.col("pair_id").hash()).collect(engine="streaming")
    again = hashes.filter(at.is_not_null()).filter(pl.col("pair_id").is_duplicated()).unique()
    if again.is_empty():
        return
    start, found = 0, []
    for part in parts:
        ids = pl.read_parquet(part.narrow, columns=["pair_id"]).filter(at[start : start + part.rows].is_not_null())
        ids = ids.filter(pl.col("pair_id").hash().is_in(again["pair_id"].implode()))
        found.append(ids.with_columns(file=pl.lit(str(part.file))))
        start += part.rows
    twice = pl.concat(found).filter(pl.col("pair_id").is_duplicated())
    first = twice["pair_id"].min()
    if first is not None:
        files = twice.filter(pl.col("pair_id") == first)["file"].unique(maintain_order=True)
        raise UserError(f"{', '.join(files)}: id '{first}' stands for different pairs; make the ids unique")


def _sampled(parts: Sequence[_Part], at: pl.Series, rows: int) -> pl.Series:
    """Null, too, for all but ``rows`` of each split: those with the smallest hash of the id."""
    hashes = []
    for batch in _ids(parts).collect_batches(maintain_order=True):
        hashes.append(pl.Series([hash64("sample", pair) for pair in batch["pair_id"]], dtype=pl.UInt64))
    table = pl.DataFrame({"at": at, "hash": pl.concat(hashes)})
    rank = pl.col("hash").rank("ordinal").over("at")
    return table.select(pl.when(rank <= rows).then("at")).to_series()


def _check_inputs(files: Sequence[Raw], out: Path) -> None:
    """Raises UserError where an input has the place of an output, or is given twice."""
    outputs = {(out / name).resolve() for name in (*(f"{split}.parquet" for split in SPLITS), QUARANTINE, TIES)}
    seen: set[Path] = set()
    for raw in files:
        at = raw.path.resolve()
        if at in outputs:
            raise UserError(f"{raw.path}: is an input and would be overwritten; use another folder for --out")
        if at in seen:
            raise UserError(f"{raw.path}: is given twice; name it once")
        seen.add(at)


def _check_left_over(out: Path) -> None:
    """Raises UserError, before any work, for tables without a manifest: which of them this run would replace is known
    only at its end."""
    left = [] if (out / artifact.MANIFEST).exists() else [name for name in SPLITS if (out / f"{name}.parquet").exists()]
    if left:
        raise UserError(
            f"{out / left[0]}.parquet: is left from another run, or from one that did not finish (it has no "
            f"{artifact.MANIFEST} beside it); remove it or use another folder"
        )


def _check_stale(out: Path, written: Mapping[str, int]) -> None:
    """Raises UserError for a table of another run, which would seem part of this one."""
    for name, rows in written.items():
        stale = out / f"{name}.parquet"
        if not rows and stale.exists():
            raise UserError(
                f"{stale}: is left from another run, this one has no {name} rows; remove it or use another folder"
            )


def _write(parts: Sequence[_Part], at: pl.Series, out: Path, memory: Memory) -> None:
    """The second pass."""
    # The label that was decided: rows without one bring none.
    names = at.replace_strict(range(len(SPLITS)), list(SPLITS), return_dtype=pl.String)
    beside = pl.DataFrame({"_at": at, "_split": names})
    changed = {"split": pl.col("_split")}
    if any(part.largest != 1.0 for part in parts):
        largest = pl.concat(pl.repeat(part.largest, part.rows, eager=True) for part in parts)
        beside = beside.with_columns(_largest=largest)
        changed["margin"] = pl.col("margin") / pl.col("_largest")
    outs = {out / f"{name}.parquet": pl.col("_at") == i for i, name in enumerate(SPLITS) if (at == i).any()}
    group = memory.row_group(sum(part.size for part in parts) / max(len(at), 1), len(outs))
    table = pl.scan_parquet([part.wide for part in parts], glob=False)
    passes.write(table, beside, outs, changed, row_group=group)


def _settle(made: Path, at: Path) -> None:
    """Give a file of the scratch folder its place, or remove what an unfinished run left there."""
    if made.exists() and made.stat().st_size:
        with artifact.atomic_path(at) as temporary:
            made.replace(temporary)
    else:
        at.unlink(missing_ok=True)
