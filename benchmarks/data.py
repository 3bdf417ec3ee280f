"""``python -m benchmarks.data``: preference rows ingested, cleaned, split and joined, here and elsewhere.

data_tools' command line, pandas, datasets and a bare scan-and-write, each in processes of its own. At each size a side
has ten minutes and the memory given; one that does not make it is not asked for more. On the smallest size the rows
must be the same. Seconds are those of the process, imports included.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path

import polars as pl

from benchmarks import data_rows, entry, race
from benchmarks.data_labels import JUDGED, TABLE
from benchmarks.data_sides import CASES, READ, SIDES, command
from data_tools.schema import JUDGMENT, PREFERENCE, conform

RESULTS = Path(__file__).parent / "results" / "data.json"


def main(argv: Sequence[str] | None = None) -> None:
    given = _flags(argv)
    found = race.run(
        given, given.cases, "rows", data_rows.write,
        lambda side, case, folder, out: command(side, case, folder, out, given.workers),
        lambda case, folder: sum((folder / name).stat().st_size for name in READ[case]),
        digest, alone="polars",
    )  # fmt: skip
    note = "MB/s: of the files that are read; polars: reads and writes the same rows, and no more"
    race.report(race.table(found, "rows", note, bytes_too=True), given.out)


def digest(case: str, out: Path) -> str:
    """Of the rows that a side wrote, in any order, types and number of files; a file's name must tell its split."""
    schema = pl.Schema({**PREFERENCE, **({name: JUDGMENT[name] for name in JUDGED} if case == "join" else {})})
    tables = []
    for file in sorted(out.glob("*.parquet")):
        table = conform(pl.read_parquet(file), schema)
        if file.name != TABLE:
            table = table.filter(split=file.stem)
        tables.append(table)
    rows = pl.concat(tables).sort("pair_id")
    return blake2b(rows.write_ndjson().encode(), digest_size=16).hexdigest()


def _flags(argv: Sequence[str] | None) -> argparse.Namespace:
    room = "10M rows take 10 GB, and as much again for what is written"
    parser = race.flags("python -m benchmarks.data", __doc__, list(SIDES), RESULTS, room)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    given = parser.parse_args(argv)
    if min(given.sizes) < 1000:
        parser.error("--sizes: at least 1000, else nothing is left to compare")
    return given


if __name__ == "__main__":
    entry.run(main)
