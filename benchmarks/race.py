"""The same work by several sides at growing sizes, each run in processes of its own with so much time and memory."""

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
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from benchmarks import machine
from data_tools.artifact import write_json
from data_tools.errors import UserError

_ROOT = Path(__file__).parents[1]
_GIB = 2**30
_PACKAGES = ("polars", "pandas", "pyarrow", "datasets")


def flags(prog: str, about: str | None, sides: Sequence[str], results: Path, room: str) -> argparse.ArgumentParser:
    """Which sides, at which sizes, with how much of the machine; ``room`` says what the files take."""
    parser = argparse.ArgumentParser(prog, description=about, allow_abbrev=False)
    parser.add_argument("--sizes", type=int, nargs="+", default=[100_000, 1_000_000, 10_000_000], metavar="N")
    parser.add_argument("--sides", nargs="+", choices=list(sides), default=list(sides))
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="threads, or processes of datasets")
    parser.add_argument("--seconds", type=float, default=600, help="that a side has at each size")
    parser.add_argument("--memory", type=float, default=18, metavar="GIB", help="that a side has")
    parser.add_argument("--scratch", type=Path, help=f"folder for the files; {room}")
    parser.add_argument("--out", type=Path, default=results)
    return parser


def run(
    given: argparse.Namespace,
    cases: Sequence[str],
    unit: str,
    prepare: Callable[[Path, int], None],
    command: Callable[[str, str, Path, Path], list[str]],
    size_of: Callable[[str, Path], int],
    digest: Callable[[str, Path], str],
    alone: str,
) -> dict[str, Any]:
    """Every side at every case and size; one that fails is not asked for more of that case.

    Args:
        given: of :func:`flags`.
        unit: what sizes count; each run has its size under this name.
        prepare: (folder, size): writes what is read.
        command: (side, case, folder, out): what is run; it may write in ``out``, an empty folder, alone.
        size_of: (case, folder): bytes of the files that the case reads.
        digest: (case, out): of the rows that a side wrote.
        alone: the side that does another work and is not compared.

    Returns:
        What stands in ``given.out``: machine, limits and runs.

    Raises:
        UserError: on the smallest size two sides wrote different rows.
    """
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # so that no side outlives the race
    limits = {"seconds": given.seconds, "gib": given.memory}
    found: dict[str, Any] = {"machine": _machine(given.workers), "limits": limits, "runs": []}
    out_of_race: set[tuple[str, str]] = set()
    for size in sorted(given.sizes):
        with tempfile.TemporaryDirectory(prefix=f"{unit}-", dir=given.scratch) as name:
            folder, out = Path(name), Path(name) / "out"
            prepare(folder, size)
            for case in cases:
                digests = {}
                for side in given.sides:
                    if (case, side) in out_of_race:
                        continue
                    shutil.rmtree(out, ignore_errors=True)
                    out.mkdir()
                    one = {"case": case, "side": side, unit: size, "file_bytes": size_of(case, folder)}
                    one |= measure(command(side, case, folder, out), folder / "log.txt", given)
                    if one["failed"]:
                        out_of_race.add((case, side))
                    elif size == min(given.sizes) and side != alone:
                        digests[side] = digest(case, out)
                    found["runs"].append(one)
                    write_json(given.out, found)  # after each: a race that is stopped keeps what it has
                    print(json.dumps(one), file=sys.stderr)
                if len(set(digests.values())) > 1:
                    raise UserError(f"{case}: the sides wrote different rows: {digests}")
    return found


def measure(command: Sequence[str], log: Path, given: argparse.Namespace) -> dict[str, Any]:
    """Run a side; seconds, CPU seconds and the peak of memory of its processes, and why it failed, if it did."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    threads = dict.fromkeys(("POLARS_MAX_THREADS", "OMP_NUM_THREADS"), str(given.workers))  # the second is Arrow's
    with open(log, "w") as file:
        process = subprocess.Popen(
            command, stdout=file, stderr=file, env={**os.environ, "HF_HUB_OFFLINE": "1", **threads},
            start_new_session=True, cwd=_ROOT,
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
        said = log.read_text().strip().splitlines()
        failed = f"ended with {process.returncode}: {said[-1] if said else ''}"
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"seconds": seconds, "cpu_seconds": cpu, "peak": peak, "failed": failed}


def _held(session: int) -> int:
    """Bytes of memory of a session's processes, shared pages shared out between them (Linux).

    Pages of files that are mapped do not count: the system takes them back when it needs room.
    """
    total = 0
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if os.getsid(int(folder.name)) == session:
                lines = (folder / "smaps_rollup").read_text().splitlines()[1:]
                sizes = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines}
                total += sizes["Pss"] - sizes.get("Pss_File", 0)
        except (OSError, KeyError):
            continue  # it has ended meanwhile
    return total


def table(found: dict[str, Any], unit: str, note: str, bytes_too: bool = False) -> Table:
    """A line a run, with each peer's time over ours."""
    shown = Table(
        title=f"{found['machine']['cpu']}, {found['machine']['cores']} cores",
        caption=f"ratio: of wall and of CPU seconds, over ours; {note}",
        box=SIMPLE,
    )
    names = ("case", unit, "side", "rows/s", *(["MB/s"] if bytes_too else []), "s", "CPU s", "peak GiB", "ratio")
    for name in names:
        shown.add_column(name, justify="left" if name in ("case", "side") else "right", no_wrap=True)
    ours = {(one["case"], one[unit]): one for one in found["runs"] if one["side"] == "ours"}
    for one in found["runs"]:
        base, ended = ours.get((one["case"], one[unit])), not one["failed"]
        digits = 1 if ended else 0
        rate = f"{one[unit] / one['seconds']:,.0f}" if ended else one["failed"].partition(":")[0]
        megabytes = [f"{one['file_bytes'] / one['seconds'] / 1e6:.1f}" if ended else ""] if bytes_too else []
        times = [f"{one[name]:.{digits}f}" for name in ("seconds", "cpu_seconds")]
        ratio = ""
        if base and one["side"] != "ours" and ended and not base["failed"]:
            ratio = " / ".join(f"{one[name] / base[name]:.1f}x" for name in ("seconds", "cpu_seconds"))
        shown.add_row(
            one["case"], f"{one[unit]:,}", one["side"], rate, *megabytes, *times, f"{one['peak'] / _GIB:.2f}", ratio
        )
    return shown


def report(shown: Table, out: Path) -> None:
    Console(width=None if sys.stdout.isatty() else 120).print(shown)
    print(f"raw numbers: {out}")


def _machine(threads: int) -> dict[str, Any]:
    return machine.describe(threads) | {name: version(name) for name in _PACKAGES}
