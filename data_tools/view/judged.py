"""What judges said of the pairs that are shown."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from data_tools.errors import UserError
from data_tools.order import chosen_is_a
from data_tools.schema import JUDGMENT, check

_SHOWN = (
    "pair_id", "swapped", "iteration", "sample_index", "rationale", "verdict", "p_a", "finish_reason", "judge",
)  # fmt: skip


class Judgments:
    """JUDGMENT parquet: a file, or all such files in a folder and the folders in it.

    Raises:
        UserError: nothing of that name, another table, or a folder without judgments.
    """

    def __init__(self, path: str | Path) -> None:
        path = Path(path)
        if path.is_dir():
            tables = {file: _scanned(file) for file in sorted(path.rglob("*.parquet"))}
            tables = {
                file: table for file, table in tables.items() if {"swapped", "p_a"} <= set(table.collect_schema())
            }
            if not tables:
                raise UserError(
                    f"{path}: the folder holds no judgments.parquet; name a folder of `sample` or `evaluate`"
                )
        elif path.is_file():
            tables = {path: _scanned(path)}
        else:
            raise UserError(f"{path}: no such file")
        self.path = path
        self.files = list(tables)
        self._frame = pl.concat([check(table, JUDGMENT, file).select(_SHOWN) for file, table in tables.items()])

    def pairs(self) -> pl.Series:
        """The ids of the pairs that have judgments."""
        return self._collected(self._frame.select(pl.col("pair_id").unique()))["pair_id"]

    def of(self, pairs: Sequence[str | None]) -> dict[str, list[dict[str, Any]]]:
        """pair_id -> its judgments as mappings, in the order of iteration, presentation and sample."""
        wanted = pl.Series([pair for pair in pairs if pair is not None], dtype=pl.String)
        rows = self._collected(self._frame.filter(pl.col("pair_id").is_in(wanted.implode())))
        rows = rows.sort("iteration", "swapped", "sample_index", maintain_order=True)
        found: dict[str, list[dict[str, Any]]] = {}
        for row in rows.rows(named=True):
            found.setdefault(row["pair_id"], []).append(row)
        return found

    def _collected(self, query: pl.LazyFrame) -> pl.DataFrame:
        try:
            return query.collect(engine="streaming")
        except (pl.exceptions.PolarsError, OSError) as error:
            raise UserError(f"{self.path}: cannot be read ({str(error).splitlines()[0]})") from None


def _scanned(file: Path) -> pl.LazyFrame:
    try:
        frame = pl.scan_parquet(file, glob=False, hive_partitioning=False)
        frame.collect_schema()
    except (pl.exceptions.PolarsError, OSError) as error:
        raise UserError(f"{file}: not a readable parquet file ({str(error).splitlines()[0]})") from None
    return frame


def said(judgment: dict[str, Any]) -> tuple[str, str]:
    """A judgment's numbers in a line, and whether its verdict is ``right``, ``wrong`` or ``invalid``.

    The verdict is what the model's text says; p(A) is read at the forced verdict and may disagree with it.
    """
    right = "A" if chosen_is_a(judgment["pair_id"], judgment["swapped"]) else "B"
    verdict, p_a = judgment["verdict"], judgment["p_a"]
    outcome = "right" if verdict == right else "wrong" if verdict in ("A", "B") else "invalid"
    parts = [
        f"{right} is chosen" + (" (order swapped)" if judgment["swapped"] else ""),
        f"verdict {verdict}: {outcome}" if outcome != "invalid" else "no verdict",
    ]
    if p_a is not None:
        leans = "undecided" if p_a == 0.5 else "right" if (p_a > 0.5) == (right == "A") else "wrong"
        parts.append(f"p(A) {p_a:.2f}: {leans}")
    for name, label in (("iteration", "iteration"), ("sample_index", "sample"), ("judge", "judge")):
        if judgment[name] is not None:
            parts.append(f"{label} {judgment[name]}")
    if judgment["finish_reason"] == "length":
        parts.append("cut off")
    return " · ".join(parts), outcome
