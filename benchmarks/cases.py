"""What is measured: the cases, and their rows."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from data_tools import verifiable
from data_tools.errors import UserError
from data_tools.judging import Verdict, defuse, parse, render_completion, render_prompt
from data_tools.order import hash64, responses
from data_tools.schema import EXAMPLE, PREFERENCE, conform
from data_tools.sources import read
from genrm_lightning.rendering import Renderer
from genrm_lightning.samplers.base import Request

JUDGE_PROMPT = "brief"
LONGEST = 1024  # tokens of a conversation with its response in the Bradley-Terry cases: TRL's default max_length
_NEAR = 0.1  # a judge prompt's length may be off by this share
_RATIONALE = (80, 120)  # tokens
_TRIES = 200  # conversations tried in front of one that is too short
_POOL = 1000  # pairs that prompts and rationales are made of


@dataclass(frozen=True)
class Case:
    """One training, done by both sides.

    Attributes:
        kind: bt, genrm, sft or dpo.
        batch_size: rows an optimizer step. A row is a pair (bt), a judge prompt with its completion (genrm, sft) or
            with both (dpo).
        steps: optimizer steps a round.
        length: tokens of the judge prompts, about; None for conversations as they are.
        sources: files of the folder in GENRM_PAIRS.
    """

    name: str
    kind: str
    batch_size: int
    steps: int
    length: int | None = None
    sources: tuple[str, ...] = ("hh_helpful", "hh_harmless", "webgpt")


def all_cases() -> list[Case]:
    """The cases there are; without GENRM_PAIRS all are made of the embedded data."""
    if os.environ.get("GENRM_PAIRS"):
        conversations = [
            Case("bt-hh", "bt", 4, 4, sources=("hh_helpful", "hh_harmless")),
            Case("bt-webgpt", "bt", 4, 3, sources=("webgpt",)),
        ]
    else:
        conversations = [Case("bt-embedded", "bt", 8, 4)]
    return conversations + [
        Case(f"{name}-{length}", kind, batch_size, steps, length)
        for name, kind in (("genrm-direct", "genrm"), ("star-sft", "sft"), ("star-dpo", "dpo"))
        for length, batch_size, steps in ((250, 4, 2), (1000, 2, 2), (2000, 1, 2))
    ]


def rows_of(case: Case, n: int, renderer: Renderer) -> tuple[pl.DataFrame, str]:
    """(``n`` rows of the case, where they come from): PREFERENCE for bt and genrm, EXAMPLE for sft and dpo.

    The genrm table has half as many: a pair gives two rows, one in each order.

    Raises:
        UserError: there are not enough pairs for it.
    """
    pool, origin = _pool(case)
    if n > len(pool):
        raise UserError(f"--rows: {n} are more than the {len(pool)} pairs there are; take fewer")
    if case.length is None:
        table = _fitting(pool, n, renderer)
    else:
        pairs = judge_pairs(pool, case.length, n // 2 if case.kind == "genrm" else n, renderer)
        table = pairs if case.kind == "genrm" else _examples(pairs, pool, renderer)
    return table, origin


def judge_requests(length: int, n: int, renderer: Renderer) -> tuple[list[Request], str]:
    """(Judge prompts of about ``length`` tokens, where they come from).

    Raises:
        UserError: the pool has not enough of them.
    """
    pool, origin = _pool(Case("sampling", "genrm", 1, 1, length))
    pairs = judge_pairs(pool, length, n, renderer)
    return [Request(row["pair_id"], False, _prompt(row)[0]) for row in pairs.iter_rows(named=True)], origin


def _pool(case: Case) -> tuple[pl.DataFrame, str]:
    folder = os.environ.get("GENRM_PAIRS")
    if not folder:
        return verifiable.build(_POOL, 0)["train"], "embedded data"
    frames = [read(Path(folder) / f"{source}.jsonl.gz").filter(split="train") for source in case.sources]
    pool = pl.concat(frames)
    order = [hash64("benchmark", pair_id) for pair_id in pool["pair_id"]]
    pool = pool.with_columns(pl.Series("order", order, dtype=pl.UInt64)).sort("order").drop("order")
    return pool[:_POOL], ", ".join(case.sources)


def _fitting(pool: pl.DataFrame, n: int, renderer: Renderer) -> pl.DataFrame:
    """The first ``n`` pairs of which neither side is longer than LONGEST."""
    kept = []
    for row in pool.iter_rows(named=True):
        prompt = len(renderer.prompt(row["prompt"]))
        if prompt + max(len(renderer.response(row[side])) for side in ("chosen", "rejected")) <= LONGEST:
            kept.append(row)
        if len(kept) == n:
            return conform(pl.DataFrame(kept, schema=PREFERENCE), PREFERENCE)
    raise UserError(f"--rows: {n} are more than the {len(kept)} pairs of at most {LONGEST} tokens; take fewer")


def judge_pairs(pool: pl.DataFrame, length: int, n: int, renderer: Renderer) -> pl.DataFrame:
    """``n`` pairs whose judge prompt has ``length`` tokens, within a tenth.

    A conversation that is too short goes on from others of the pool, which are put in front of it.
    """
    rows = pool.to_dicts()
    kept: list[dict[str, Any]] = []
    for number, row in enumerate(rows):
        if turns := _lengthened(row, rows[number + 1 :] + rows[:number], length, renderer):
            kept.append({**row, "prompt": turns})
        if len(kept) == n:
            return conform(pl.DataFrame(kept, schema=PREFERENCE), PREFERENCE)
    raise UserError(f"--rows: the pool gives {len(kept)} judge prompts of about {length} tokens, not {n}; take fewer")


def _lengthened(
    row: dict[str, Any], others: list[dict[str, Any]], length: int, renderer: Renderer
) -> list[dict[str, str]] | None:
    """The row's conversation, long enough; None where nothing fits."""

    def tokens(turns: list[dict[str, str]]) -> int:
        return len(renderer.prompt(_prompt({**row, "prompt": turns})[0]))

    turns, size = row["prompt"], tokens(row["prompt"])
    for other in others[:_TRIES]:
        if size >= (1 - _NEAR) * length:
            break
        longer = [*other["prompt"], {"role": "assistant", "content": other["chosen"]}, *turns]
        if (longer_size := tokens(longer)) <= (1 + _NEAR) * length:
            turns, size = longer, longer_size
    return turns if abs(size - length) <= _NEAR * length else None


def _prompt(row: dict[str, Any]) -> tuple[list[dict[str, str]], Verdict]:
    a, b, right = responses(row["pair_id"], False, row["chosen"], row["rejected"])
    return render_prompt(row["prompt"], a, b, JUDGE_PROMPT), Verdict(right)


def _examples(pairs: pl.DataFrame, pool: pl.DataFrame, renderer: Renderer) -> pl.DataFrame:
    """Judgments of the pairs: a right one and a wrong one, of about a hundred tokens each."""
    texts = _rationales(pool, renderer)
    rows = []
    for row in pairs.iter_rows(named=True):
        prompt, right = _prompt(row)
        wrong = Verdict.B if right is Verdict.A else Verdict.A
        rows.append(
            {
                "pair_id": row["pair_id"],
                "swapped": False,
                "prompt": prompt,
                "completion": render_completion(next(texts), right),
                "rejected_completion": render_completion(next(texts), wrong),
            }
        )
    return conform(pl.DataFrame(rows, schema={name: EXAMPLE[name] for name in rows[0]}), EXAMPLE)


def _rationales(pool: pl.DataFrame, renderer: Renderer) -> Iterator[str]:
    """Plain text in the place of rationales: the pool's responses, cut into pieces of 80 to 120 tokens."""
    low, high = _RATIONALE
    ids: list[int] = []
    for number, text in enumerate(pool["rejected"].reverse()):
        ids += renderer.text(f"{defuse(text)}\n")
        while len(ids) >= high:
            size = low + hash64("benchmark-rationale", str(number)) % (high - low + 1)
            piece, ids = renderer.decode(ids[:size]).strip(), ids[size:]
            if parse(piece) is Verdict.INVALID:
                yield piece
    raise UserError("--rows: the pool has not enough text for as many rationales; take fewer")
