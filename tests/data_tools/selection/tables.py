"""Small tables of judgments: what the tests of selection look at."""

from __future__ import annotations

import random

import polars as pl

from data_tools import star
from data_tools.order import chosen_is_a
from data_tools.schema import JUDGMENT, PREFERENCE, conform


def preferences(ids, categories=None):
    rows = {
        "pair_id": list(ids),
        "category": list(categories or [None] * len(ids)),
        "prompt": [[{"role": "user", "content": f"ask {i}"}] for i in ids],
        "chosen": [f"good {i}" for i in ids],
        "rejected": [f"bad {i}" for i in ids],
    }
    return conform(pl.DataFrame(rows, schema={name: PREFERENCE[name] for name in rows}), PREFERENCE)


def row(number, pair="p", swapped=False, right=True, **more):
    """A judgment; its only token id is its number, so that a test can say which row it is."""
    letter = "A" if chosen_is_a(pair, swapped) == right else "B"
    sure = more.pop("sure", 0.75)
    return {
        "pair_id": pair, "swapped": swapped, "iteration": 1, "sample_index": number, "rationale": f"reason {number}",
        "token_ids": [number], "verdict": letter, "vote": letter, "p_a": sure if letter == "A" else 1 - sure,
        "mean_token_prob": 0.5, "n_tokens": 10, "finish_reason": "stop", **more,
    }  # fmt: skip


def table(rows):
    return conform(pl.DataFrame(rows, schema={key: JUDGMENT[key] for key in rows[0]}), JUDGMENT)


def select(rows, objective="sft", *, categories=None, **options):
    """Numbers of the rows that were chosen (under dpo couples of them), and the counts."""
    judgments = table(rows)
    ids = sorted(set(judgments["pair_id"]))
    pairs = preferences(ids, [categories[i] for i in ids] if categories else None)
    frame, counts = star.examples(judgments, pairs, objective=objective, per_prompt=99, **options)
    chosen = [ids[0] for ids in frame["completion_ids"].to_list()]
    if objective != "dpo":
        return chosen, counts
    return list(zip(chosen, [ids and ids[0] for ids in frame["rejected_ids"].to_list()], strict=True)), counts


def many(seed, pairs=30, samples=6, unknown=False):
    """Judgments at random: repeats, equal numbers and, where asked for, whatever a server does not tell is null."""
    draw = random.Random(seed)
    words = [
        "the",
        "response",
        "A",
        "is",
        "better",
        "than",
        "B",
        "because",
        "it",
        "answers",
        "what",
        "was",
        "asked",
        "and",
        "is",
        "clear",
    ]
    rows = []
    for pair in range(pairs):
        ease = draw.random()
        for swapped in (False, True):
            for _ in range(samples):
                text = " ".join(draw.choices(words, k=draw.randint(3, 30)))
                text += "." if len(text) % 4 else ""  # most are finished
                right = draw.random() < ease
                more = {"n_tokens": len(text), "mean_token_prob": round(draw.random(), 1), "sure": draw.uniform(0.5, 1)}
                rows.append(row(len(rows), f"p-{pair}", swapped, right, rationale=text, **more))
                if unknown:
                    nothing = ("token_ids", "mean_token_prob", "n_tokens", "finish_reason", "iteration", "sample_index")
                    rows[-1] |= dict.fromkeys(nothing)
                elif draw.random() < 0.2:
                    rows[-1]["rationale"] = rows[draw.randrange(len(rows))]["rationale"]
    return rows
