"""Small JUDGMENT and PREFERENCE tables, written down by what each sample thinks of the right response."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import polars as pl
import pytest

from data_tools.order import chosen_is_a
from data_tools.schema import JUDGMENT, PREFERENCE, conform

# pair -> (samples in the pair's own order, samples in the other): each a p(right) and a verdict: "right", "wrong" or
# "INVALID".
Sample = tuple[float, str]
Pairs = Mapping[str, tuple[Sequence[Sample], Sequence[Sample]]]


def make_judgments(pairs: Pairs, rationale: str = "the first one is shorter") -> pl.DataFrame:
    rows = []
    for pair_id, orders in pairs.items():
        for swapped, samples in zip((False, True), orders, strict=True):
            right, wrong = ("A", "B") if chosen_is_a(pair_id, swapped) else ("B", "A")
            for index, (p_right, verdict) in enumerate(samples):
                rows.append(
                    {
                        "pair_id": pair_id,
                        "swapped": swapped,
                        "iteration": 1,
                        "sample_index": index,
                        "rationale": rationale,
                        "verdict": {"right": right, "wrong": wrong}.get(verdict, "INVALID"),
                        "vote": right if p_right > 0.5 else wrong,
                        "p_a": p_right if right == "A" else 1 - p_right,
                        "n_tokens": 10,
                        "finish_reason": "stop",
                    }
                )
    return conform(pl.DataFrame(rows), JUDGMENT)


def make_preferences(pair_ids: Sequence[str], categories: Sequence[str | None] | None = None) -> pl.DataFrame:
    rows = [
        {
            "pair_id": pair_id,
            "category": category,
            "prompt": [{"role": "user", "content": f"request of {pair_id}"}],
            "chosen": f"good {pair_id}",
            "rejected": f"bad {pair_id}",
        }
        for pair_id, category in zip(pair_ids, categories or ["kind"] * len(pair_ids), strict=True)
    ]
    return conform(pl.DataFrame(rows, infer_schema_length=None), PREFERENCE)


@pytest.fixture
def judgments() -> Callable[..., pl.DataFrame]:
    return make_judgments


@pytest.fixture
def preferences() -> Callable[..., pl.DataFrame]:
    return make_preferences
