"""``python -m benchmarks.selection``: one selection with data_tools, pandas and datasets, each in a process of its own.

At each size a side has ten minutes and the memory given; one that does not make it is not asked for more. On the
smallest size the rows must be the same. Seconds are those of the process, imports included.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path

import polars as pl

from benchmarks import entry, race, selection_data
from benchmarks.selection_sides import CASES, SIDES

RESULTS = Path(__file__).parent / "results" / "selection.json"
COMPARED = ["pair_id", "swapped", "prompt", "completion", "completion_ids", "rejected_completion", "rejected_ids"]
TABLE = "examples.parquet"


def main(argv: Sequence[str] | None = None) -> None:
    given = _flags(argv)

    def command(side: str, case: str, folder: Path, out: Path) -> list[str]:
        place = [str(folder), str(out / TABLE), str(given.workers)]
        return [sys.executable, "-m", "benchmarks.selection_sides", side, case, *place]

    found = race.run(
        given, CASES, "judgments", selection_data.write, command, _size, lambda case, out: digest(out / TABLE),
        alone="reading",
    )  # fmt: skip
    note = "reading: the files' columns are read once, and no more"
    race.report(race.table(found, "judgments", note), given.out)


def digest(file: Path) -> str:
    """Of the rows, whatever the writer's types."""
    rows = pl.read_parquet(file).select(COMPARED).sort("pair_id", "swapped").to_dicts()
    return blake2b(json.dumps(rows, sort_keys=True).encode(), digest_size=16).hexdigest()


def _size(case: str, folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.glob("*.parquet"))


def _flags(argv: Sequence[str] | None) -> argparse.Namespace:
    room = "10M judgments take 4 GB"
    parser = race.flags("python -m benchmarks.selection", __doc__, list(SIDES), RESULTS, room)
    given = parser.parse_args(argv)
    if min(given.sizes) < 1000:
        parser.error("--sizes: at least 1000, else nothing is left to compare")
    return given


if __name__ == "__main__":
    entry.run(main)
