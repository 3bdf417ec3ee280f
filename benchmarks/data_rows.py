"""Preference rows as people have them before cleaning, from a seed: JSON Lines, the same as a table, and judgments.

A row is a function of its number alone: any size is written in pieces, and a repeat need not remember its original.
"""

from __future__ import annotations

from pathlib import Path
from zlib import crc32

import numpy as np
import polars as pl

from data_tools import verifiable
from data_tools.schema import JUDGMENT, MESSAGES, PREFERENCE, conform

PIECE = 250_000  # rows made at once
PER_PROMPT = 3  # pairs of a prompt, in the mean
CLAUSES = 200_000  # beyond what a compressor remembers, so that files are about as dense as those of real text
SHARES = {"repeat": 0.02, "both ways": 0.002, "empty": 0.0025, "equal": 0.0025}
RAW = pl.Schema(
    {
        "id": pl.String, "source": pl.String, "category": pl.String, "prompt": MESSAGES, "chosen": pl.String,
        "rejected": pl.String, "label_kind": pl.String,
    }
)  # fmt: skip


def write(folder: Path, rows: int, seed: int = 0) -> None:
    """``folder/raw.jsonl``, its rows as PREFERENCE in ``pairs.parquet``, a JUDGMENT of each in ``judgments.parquet``.

    Rows have 500 characters in the mean. Of their prompts, 10 % begin with a system turn, 10 % have earlier turns. 2 %
    of the rows repeat an earlier one under an id of their own (half of these but for whitespace at the end), 0.2 %
    contradict one, 0.5 % have an empty response or two equal ones. The judgments, without rationales, stand in an
    order of their own.
    """
    folder.mkdir(parents=True, exist_ok=True)
    clauses = _clauses(min(CLAUSES, 10 * rows), seed)
    with open(folder / "raw.jsonl", "wb") as file:
        for start in range(0, rows, PIECE):
            piece(np.arange(start, min(start + PIECE, rows)), rows, clauses, seed).write_ndjson(file)
    pairs = pl.scan_ndjson(folder / "raw.jsonl", schema=RAW).rename({"id": "pair_id"})
    conform(pairs, PREFERENCE).sink_parquet(folder / "pairs.parquet")
    _judgments(rows, seed).write_parquet(folder / "judgments.parquet")


def piece(numbers: np.ndarray, rows: int, clauses: pl.Series, seed: int = 0) -> pl.DataFrame:
    """RAW: the rows of these numbers.

    Args:
        numbers: (n,) integers from 0, of the ``rows`` rows that there are.
        clauses: what texts are made of.
    """
    kind = _draw(numbers, "kind", seed)
    repeat, both_ways, empty, equal = np.cumsum(list(SHARES.values()))
    copies = (kind < both_ways) & (numbers > 0)
    # Of a copy: the row that it would have been.
    origin = np.where(copies, (_draw(numbers, "origin", seed) * numbers).astype(np.int64), numbers)
    prompt = (_draw(origin, "prompt", seed) * max(rows // PER_PROMPT, 1)).astype(np.int64)
    first = _text(origin, "first", 6, clauses, seed)
    second = _text(origin, "second", 6, clauses, seed)
    turned, broken = (copies & (kind >= repeat)), ~copies & (kind >= both_ways) & (kind < equal)
    texts = pl.DataFrame(
        {
            "first": first,
            "second": second,
            "turned": turned,
            "spaced": copies & (kind < repeat / 2),
            "empty": broken & (kind < empty),
            "equal": broken & (kind >= empty),
            "topic": pl.Series(_TOPICS).gather((_draw(prompt, "topic", seed) * len(_TOPICS)).astype(np.int64)),
        }
    )
    chosen = pl.when("turned").then("second").otherwise("first")
    rejected = pl.when("turned").then("first").otherwise("second")
    return texts.select(
        id=_ids(numbers),
        source=pl.lit("bench"),
        category="topic",
        prompt=_prompts(prompt, clauses, seed),
        chosen=pl.when("spaced").then(chosen + "\n").otherwise(chosen),
        rejected=pl.when("empty").then(pl.lit("")).when("equal").then(chosen).otherwise(rejected),
        label_kind=pl.lit("constructed"),
    )


_TOPICS = ("chat", "code", "maths", "safety", "summary")
_SYSTEM = "You are a helpful assistant. Answer briefly and to the point."


def _prompts(keys: np.ndarray, clauses: pl.Series, seed: int) -> pl.Series:
    """MESSAGES of each key. A shape of conversation at a time: nulls in lists of turns are slow to take out."""
    shape = _draw(keys, "shape", seed)
    system, history = shape < 0.1, (shape >= 0.05) & (shape < 0.15)
    frame = pl.DataFrame({"place": np.arange(len(keys), dtype=np.uint32), "system": system, "history": history})
    frame = frame.with_columns(ask=_text(keys, "ask", 5, clauses, seed))
    earlier = {name: _text(keys[history], name, 3, clauses, seed) for name in ("before", "reply")}
    found = []
    for (has_system, has_history), rows in frame.group_by("system", "history"):
        turns = [_turn("system", pl.lit(_SYSTEM))] if has_system else []
        if has_history:
            at = pl.Series(np.flatnonzero(history), dtype=pl.UInt32)
            rows = rows.join(pl.DataFrame({"place": at, **earlier}), on="place", how="left")
            turns += [_turn("user", pl.col("before")), _turn("assistant", pl.col("reply"))]
        found.append(rows.select("place", prompt=pl.concat_list(*turns, _turn("user", pl.col("ask")))))
    return pl.concat(found).sort("place")["prompt"]


def _ids(numbers: np.ndarray) -> pl.Series:
    return pl.select("pair-" + pl.lit(pl.Series(numbers)).cast(pl.String).str.zfill(8)).to_series()


def _turn(role: str, content: pl.Expr) -> pl.Expr:
    return pl.struct(role=pl.lit(role), content=content)


def _text(keys: np.ndarray, what: str, longest: int, clauses: pl.Series, seed: int) -> pl.Series:
    """2 to ``longest`` clauses, drawn by the key."""
    count = 2 + (_draw(keys, f"{what} count", seed) * (longest - 1)).astype(np.int64)
    parts = []
    for i in range(longest):
        at = (_draw(keys, f"{what} {i}", seed) * len(clauses)).astype(np.int64)
        indices = (
            pl.Series(at) if i < 2 else pl.select(pl.when(pl.lit(pl.Series(count > i))).then(pl.Series(at))).to_series()
        )
        parts.append(clauses.gather(indices).alias(str(i)))
    return pl.DataFrame(parts).select(pl.concat_str(pl.all(), separator=". ", ignore_nulls=True)).to_series()


def _draw(keys: np.ndarray, what: str, seed: int) -> np.ndarray:
    """Numbers in [0, 1) that depend on key, name and seed alone (splitmix64)."""
    with np.errstate(over="ignore"):
        state = keys.astype(np.uint64) + np.uint64(crc32(f"{seed} {what}".encode())) * np.uint64(0x9E3779B97F4A7C15)
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return ((state ^ (state >> np.uint64(31))) >> np.uint64(11)).astype(np.float64) / 2**53


def _clauses(count: int, seed: int) -> pl.Series:
    """4 to 11 words each of the embedded pairs, drawn one by one, for runs of them compress as no real text does."""
    table = verifiable.build(2000, 0, 10, [1, 2, 3])["train"]
    words = [w for row in table.iter_rows(named=True) for w in f"{row['prompt'][0]['content']} {row['chosen']}".split()]
    rng = np.random.default_rng(seed)
    ends = np.cumsum(rng.integers(4, 12, count))
    drawn = [words[i] for i in rng.integers(0, len(words), ends[-1])]
    return pl.Series([" ".join(drawn[a:b]) for a, b in zip([0, *ends[:-1]], ends, strict=True)])


def _judgments(rows: int, seed: int) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    numbers, p_a = rng.permutation(rows), rng.random(rows)
    vote = pl.Series(np.where(p_a > 0.5, "A", "B"))
    return conform(
        pl.DataFrame(
            {
                "pair_id": _ids(numbers),
                "swapped": pl.repeat(False, rows, eager=True),
                "iteration": pl.repeat(1, rows, eager=True),
                "sample_index": pl.repeat(0, rows, eager=True),
                "verdict": vote,
                "vote": vote,
                "p_a": p_a,
                "judge": pl.repeat("judge", rows, eager=True),
            }
        ),
        JUDGMENT,
    )
