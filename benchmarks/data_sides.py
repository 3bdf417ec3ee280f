"""Raw rows to clean tables, four times. ``python -m benchmarks.data_sides``.

| case | reads | writes |
| --- | --- | --- |
| ingest | raw.jsonl | train, validation and test: usable rows, labelled |
| clean | pairs.parquet | its usable rows |
| split | pairs.parquet | the same with labels |
| join | pairs.parquet, judgments.parquet | both by pair id |

Usable: prompt and responses say something, the responses differ, no earlier row is the same but for outer whitespace,
and none prefers the two the other way round. A label is drawn from the prompt, lower-cased, whitespace collapsed:
every side has ``data_tools.order.unit`` for it, and finds repeats as is cheapest there. Files stand in the order of
their ids, so a peer may take the first of several for the one with the smallest. All write zstd but datasets, which
writes snappy, always.
"""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks.data_labels import JUDGED, TABLE

READ = {
    "ingest": ["raw.jsonl"],
    "clean": ["pairs.parquet"],
    "split": ["pairs.parquet"],
    "join": ["pairs.parquet", "judgments.parquet"],
}
CASES = tuple(READ)


def command(side: str, case: str, folder: Path, out: Path, workers: int) -> list[str]:
    """What runs a side: ours is the command line that everyone has, but of a join, for which there is none."""
    python = [sys.executable, "-m"]
    if side != "ours" or case == "join":
        return [*python, "benchmarks.data_sides", side, case, str(folder), str(out), str(workers)]
    if case == "ingest":
        return [*python, "data_tools", case, str(folder / "raw.jsonl"), "--out", str(out)]
    return [*python, "data_tools", case, str(folder / "pairs.parquet"), "--out", str(out / TABLE)]


def ours(case: str, folder: Path, out: Path, workers: int) -> None:
    """The join as stages do it: checked tables, scanned; the pairs' texts stream past the judgments' narrow columns."""
    from data_tools import artifact
    from data_tools.schema import JUDGMENT, PREFERENCE

    judgments = artifact.scan_tables([folder / "judgments.parquet"], JUDGMENT).select(JUDGED)
    pairs = artifact.scan_tables([folder / "pairs.parquet"], PREFERENCE)
    with artifact.atomic_path(out / TABLE) as temporary:
        pairs.join(judgments, on="pair_id").sink_parquet(temporary)


def polars(case: str, folder: Path, out: Path, workers: int) -> None:
    """Scans and writes the same bytes, and does nothing else: the floor of anything that reads with polars."""
    import polars as pl

    if case == "ingest":
        pl.scan_ndjson(folder / "raw.jsonl").sink_parquet(out / TABLE)
        return
    pl.scan_parquet(folder / "pairs.parquet").sink_parquet(out / TABLE)
    if case == "join":
        pl.scan_parquet(folder / "judgments.parquet").select(JUDGED).sink_parquet(out / "judgments.parquet")


def pandas(case: str, folder: Path, out: Path, workers: int) -> None:
    from benchmarks import data_pandas

    data_pandas.run(case, folder, out)


def datasets(case: str, folder: Path, out: Path, workers: int) -> None:
    from benchmarks import data_datasets

    data_datasets.run(case, folder, out, workers)


SIDES = {"polars": polars, "ours": ours, "pandas": pandas, "datasets": datasets}

if __name__ == "__main__":
    side, case, folder, out, workers = sys.argv[1:]
    SIDES[side](case, Path(folder), Path(out), int(workers))
