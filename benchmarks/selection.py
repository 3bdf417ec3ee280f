"""``python -m benchmarks.selection``: one selection with data_tools, pandas and datasets, each in a process of its own.

At each size a side has ten minutes and the memory given; one that does not make it is not asked for more. On the
smallest size the rows must be the same. Seconds are those of the process, imports included.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any

import polars as pl
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from benchmarks import entry, machine, selection_data
from benchmarks.selection_sides import CASES, SIDES
from data_tools.artifact import write_json
from data_tools.errors import UserError

RESULTS = Path(__file__).parent / "results" / "selection.json"
COMPARED = ["pair_id", "swapped", "prompt", "completion", "completion_ids", "rejected_completion", "rejected_ids"]
_GIB = 2**30


def main(argv: Sequence[str] | None = None) -> None:
    given = _flags(argv)
    found: dict[str, Any] = {
        "machine": _machine(),
        "limits": {"seconds": given.seconds, "gib": given.memory},
        "runs": [],
    }
    out_of_race: set[tuple[str, str]] = set()
    for size in sorted(given.sizes):
        with tempfile.TemporaryDirectory(prefix="selection-", dir=given.scratch) as name:
            folder = Path(name)
            selection_data.write(folder, size)
            files = sum(file.stat().st_size for file in folder.glob("*.parquet"))
            for case in CASES:
                digests = {}
                for side in given.sides:
                    if (case, side) in out_of_race:
                        continue
                    run = {"case": case, "side": side, "judgments": size, "file_bytes": files}
                    run |= measure(side, case, folder, given)
                    if run["failed"]:
                        out_of_race.add((case, side))
                    elif size == min(given.sizes) and side != "reading":
                        digests[side] = digest(folder / "out" / "examples.parquet")
                    found["runs"].append(run)
                    write_json(given.out, found)  # after each: a run that is stopped keeps what it has
                    print(json.dumps(run), file=sys.stderr)
                if len(set(digests.values())) > 1:
                    raise UserError(f"{case}: the sides chose different rows: {digests}")
    Console(width=None if sys.stdout.isatty() else 120).print(table(found))
    print(f"raw numbers: {given.out}")


def measure(side: str, case: str, folder: Path, given: argparse.Namespace) -> dict[str, Any]:
    """Run a side; seconds, CPU seconds and the peak of memory of its processes, and why it failed, if it did."""
    out = folder / "out"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    command = [
        sys.executable,
        "-m",
        "benchmarks.selection_sides",
        side,
        case,
        str(folder),
        str(out / "examples.parquet"),
    ]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "POLARS_MAX_THREADS": str(given.workers)}
    with open(out / "log.txt", "w") as log:
        process = subprocess.Popen(
            [*command, str(given.workers)], stdout=log, stderr=log, env=environment, start_new_session=True,
            cwd=Path(__file__).parents[1],
        )  # fmt: skip
        peak, failed = 0, None
        try:
            while failed is None and process.poll() is None:
                peak = max(peak, _held(process.pid))
                if peak > given.memory * _GIB:
                    failed = f"over {given.memory:g} GiB"
                elif time.perf_counter() - start > given.seconds:
                    failed = f"over {given.seconds:g} s"
                else:
                    time.sleep(0.1)
        finally:  # of a session of its own: Ctrl-C does not reach it
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    seconds = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if failed is None and process.returncode:
        said = (out / "log.txt").read_text().strip().splitlines()
        failed = f"ended with {process.returncode}: {said[-1] if said else ''}"
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"seconds": seconds, "cpu_seconds": cpu, "peak": peak, "failed": failed}


def digest(file: Path) -> str:
    """Of the rows, whatever the writer's types."""
    rows = pl.read_parquet(file).select(COMPARED).sort("pair_id", "swapped").to_dicts()
    return blake2b(json.dumps(rows, sort_keys=True).encode(), digest_size=16).hexdigest()


def _held(session: int) -> int:
    """Bytes of memory of a session's processes, shared pages shared out between them (Linux)."""
    total = 0
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if os.getsid(int(folder.name)) == session:
                rollup = (folder / "smaps_rollup").read_text()
                total += next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:")) * 1024
        except (OSError, StopIteration):
            continue  # it has ended meanwhile
    return total


def table(found: dict[str, Any]) -> Table:
    """A line a run, with each peer's time over ours."""
    shown = Table(
        title=f"{found['machine']['cpu']}, {found['machine']['cores']} cores",
        caption="ratio: of wall and of CPU seconds, over ours; reading: the files' columns are read once, and no more",
        box=SIMPLE,
    )
    for name in ("case", "judgments", "side", "rows/s", "s", "CPU s", "peak GiB", "ratio"):
        shown.add_column(name, justify="left" if name in ("case", "side") else "right", no_wrap=True)
    ours = {(run["case"], run["judgments"]): run for run in found["runs"] if run["side"] == "ours"}
    for run in found["runs"]:
        base = ours.get((run["case"], run["judgments"]))
        facts = (
            [run["failed"], f"{run['seconds']:.0f}", f"{run['cpu_seconds']:.0f}"]
            if run["failed"]
            else [f"{run['judgments'] / run['seconds']:,.0f}", f"{run['seconds']:.1f}", f"{run['cpu_seconds']:.1f}"]
        )
        ratio = ""
        if base and run["side"] != "ours" and not run["failed"] and not base["failed"]:
            ratio = " / ".join(f"{run[name] / base[name]:.1f}x" for name in ("seconds", "cpu_seconds"))
        shown.add_row(
            run["case"], f"{run['judgments']:,}", run["side"], *facts, f"{run['peak'] / _GIB:.2f}", ratio
        )  # fmt: skip
    return shown


def _machine() -> dict[str, Any]:
    from importlib.metadata import version

    names = ("polars", "pandas", "pyarrow", "datasets")
    return machine.describe(os.cpu_count() or 1) | {name: version(name) for name in names}


def _flags(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m benchmarks.selection", description=__doc__, allow_abbrev=False)
    parser.add_argument("--sizes", type=int, nargs="+", default=[100_000, 1_000_000, 10_000_000], metavar="N")
    parser.add_argument("--sides", nargs="+", choices=list(SIDES), default=list(SIDES))
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="threads, or processes of datasets")
    parser.add_argument("--seconds", type=float, default=600, help="that a side has at each size")
    parser.add_argument("--memory", type=float, default=18, metavar="GIB", help="that a side has")
    parser.add_argument("--scratch", type=Path, help="folder for the tables; 10M judgments take 4 GB")
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args(argv)
    if min(given.sizes) < 1000:
        parser.error("--sizes: at least 1000, else nothing is left to compare")
    return given


if __name__ == "__main__":
    entry.run(main)
