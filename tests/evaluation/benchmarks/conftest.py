"""Tables of a benchmark, from what a judge said of each pair in its two orders."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import polars as pl
import pytest

from data_tools.order import chosen_is_a
from data_tools.schema import JUDGMENT, PREFERENCE, conform
from genrm_lightning.evaluation.benchmarks import protocols
from genrm_lightning.evaluation.scores import presentations


class Pairs:
    """Pairs of one benchmark with p(right) in both orders and, where given, both rewards.

    The judgments go through the same tables as a judge's.
    """

    def __init__(self, source: str) -> None:
        self.source, self.preferences, self.judgments, self.rewards = source, [], [], []

    def add(
        self,
        pair_id: str,
        orders: Sequence[float] | None = (1.0, 1.0),
        rewards: tuple[float, float] | None = None,
        **columns: Any,
    ) -> None:
        row = {"pair_id": pair_id, "source": self.source, "chosen": f"good {pair_id}", "rejected": f"bad {pair_id}"}
        row["prompt"] = [{"role": "user", "content": f"request of {columns.get('group_id') or pair_id}"}]
        self.preferences.append(row | columns)
        if rewards is not None:
            self.rewards.append((pair_id, *rewards))
        if orders is None:
            return
        for swapped, p_right in zip((False, True), orders, strict=True):
            is_a = chosen_is_a(pair_id, swapped)
            p_a = p_right if is_a else 1 - p_right
            judgment = {"pair_id": pair_id, "swapped": swapped, "sample_index": 0, "p_a": p_a, "n_tokens": 0}
            self.judgments.append(judgment | {"verdict": "A" if p_a > 0.5 else "B"})

    def table(self) -> pl.DataFrame:
        return conform(pl.DataFrame(self.preferences, infer_schema_length=None), PREFERENCE)

    def shown(self) -> pl.DataFrame:
        return presentations(conform(pl.DataFrame(self.judgments, infer_schema_length=None), JUDGMENT))

    def scores(self) -> pl.DataFrame | None:
        names = ["pair_id", "chosen_reward", "rejected_reward"]
        return pl.DataFrame(self.rewards, schema=names, orient="row") if self.rewards else None

    def protocol(self) -> dict[str, Any]:
        (result,) = protocols(self.shown(), self.table(), self.scores()).values()
        return result


@pytest.fixture
def pairs() -> type[Pairs]:
    return Pairs
