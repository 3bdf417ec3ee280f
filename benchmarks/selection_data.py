"""Judgments as a run of millions would leave them: files of JUDGMENT and their PREFERENCE, from a seed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from data_tools import verifiable
from data_tools.order import chosen_is_a
from data_tools.schema import JUDGMENT, PREFERENCE, conform

SAMPLES = 8  # of a pair in one order
SHARD = 256_000  # judgments a file
_SHARES = {"loop": 0.05, "same in the prompt": 0.03, "same elsewhere": 0.02}


def write(folder: Path, judgments: int, seed: int = 0) -> None:
    """``folder/judgments-….parquet`` and ``folder/preferences.parquet``.

    Rationales are clauses of 4 to 11 words of the embedded tasks' texts, 500 characters in the mean. Some loop, some
    repeat another one of their prompt, some another prompt's. A pair's chance of a right vote is drawn from Beta(2, 1).
    """
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    clauses = _clauses(rng)
    pairs = -(-judgments // (2 * SAMPLES))
    ids = [f"pair-{i:08d}" for i in range(pairs)]
    own_is_a = np.array([chosen_is_a(pair, False) for pair in ids])
    ease = rng.beta(2, 1, pairs)
    _preferences(ids, clauses, rng).write_parquet(folder / "preferences.parquet")
    for number, start in enumerate(range(0, judgments, SHARD)):
        rows = np.arange(start, min(start + SHARD, judgments))
        pair, swapped = rows // (2 * SAMPLES), rows // SAMPLES % 2 == 1
        n = len(rows)
        right = rng.random(n) < ease[pair]
        vote_a = (own_is_a[pair] != swapped) == right
        sure = 0.5 + rng.random(n) / 2
        texts = _rationales(n, clauses, rng)
        n_tokens = (texts.str.len_chars().to_numpy() // 5 + 1).astype(np.int32)
        frame = pl.DataFrame(
            {
                "pair_id": pl.Series(ids).gather(pair),
                "swapped": swapped,
                "iteration": pl.repeat(1, n, dtype=pl.Int32, eager=True),
                "sample_index": rows % SAMPLES,
                "rationale": texts,
                "token_ids": _tokens(n_tokens, rng),
                "verdict": np.where(vote_a, "A", "B"),
                "vote": np.where(vote_a, "A", "B"),
                "p_a": np.where(vote_a, sure, 1 - sure),
                "logp": -rng.random(n) * 100,
                "mean_token_prob": rng.random(n),
                "n_tokens": n_tokens,
                "finish_reason": np.where(rng.random(n) < 0.9, "stop", "length"),
                "seed": pl.repeat(0, n, dtype=pl.Int64, eager=True),
                "judge": pl.repeat("judge", n, eager=True),
            }
        )
        conform(frame, JUDGMENT).write_parquet(folder / f"judgments-{number:05d}.parquet")


def _clauses(rng: np.random.Generator) -> pl.Series:
    """20,000 runs of words as they stand in the embedded pairs."""
    table = verifiable.build(2000, 0, 10, [1, 2, 3])["train"]
    words = [w for row in table.iter_rows(named=True) for w in f"{row['prompt'][0]['content']} {row['chosen']}".split()]
    starts, lengths = rng.integers(0, len(words) - 12, 20_000), rng.integers(4, 12, 20_000)
    return pl.Series([" ".join(words[s : s + n]) for s, n in zip(starts, lengths, strict=True)])


def _rationales(n: int, clauses: pl.Series, rng: np.random.Generator) -> pl.Series:
    counts = rng.integers(4, 22, n)
    chosen = rng.integers(0, len(clauses), counts.sum())
    rows = np.repeat(np.arange(n), counts)
    starts = np.cumsum(counts) - counts
    loops = rng.random(n) < _SHARES["loop"]
    chosen = np.where(loops[rows], chosen[starts[rows]], chosen)
    frame = pl.DataFrame({"row": rows, "clause": clauses.gather(chosen)})
    texts = frame.group_by("row", maintain_order=True).agg(pl.col("clause").str.join(". "))["clause"]
    source = np.arange(n)
    same = (rng.random(n) < _SHARES["same in the prompt"]) & (source % SAMPLES > 0)
    source[same] -= 1
    elsewhere = rng.random(n) < _SHARES["same elsewhere"]
    source[elsewhere] = rng.integers(0, n, elsewhere.sum())
    return texts.gather(source)


def _tokens(lengths: np.ndarray, rng: np.random.Generator) -> pl.Series:
    flat = pl.Series(rng.integers(0, 49_152, lengths.sum(), dtype=np.int32))
    rows = pl.DataFrame({"row": np.repeat(np.arange(len(lengths), dtype=np.uint32), lengths), "id": flat})
    return rows.group_by("row", maintain_order=True).agg("id")["id"]


def _preferences(ids: list[str], clauses: pl.Series, rng: np.random.Generator) -> pl.DataFrame:
    n = len(ids)
    asks, goods, bads = (clauses.gather(rng.integers(0, len(clauses), n)) for _ in range(3))
    turn = pl.struct(role=pl.lit("user"), content=pl.col("ask"))
    frame = pl.DataFrame({"pair_id": ids, "ask": asks, "chosen": goods + " and so on", "rejected": bads + " or so"})
    return conform(frame.with_columns(prompt=pl.concat_list(turn)), PREFERENCE)
