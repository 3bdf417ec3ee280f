"""A served judge under load: ``python -m benchmarks.serving --judge DIR [flags of serve]``.

Starts ``python -m genrm_lightning serve`` and, from this process, keeps so many clients busy with /compare, each with
pairs of its own. Every answer is counted and held against the judge offline, in float32. Prints requests/s, latency,
the sizes of batches, requests lost, and the largest difference.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import quantiles
from typing import Any

Row = tuple[str, str, str]


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving", description=__doc__.partition(":")[0])
    parser.add_argument("--judge", required=True, help="judge folder or hub id")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument("--requests", type=int, default=192, help="for each number of clients")
    parser.add_argument("--words", type=int, default=40, help="of a response, in the mean")
    arguments, flags = parser.parse_known_args(argv)
    rows = {n: made(arguments.requests, arguments.words, n) for n in arguments.clients}
    with tempfile.TemporaryDirectory() as folder:
        found = asked(arguments.judge, flags, rows, Path(folder))
    offline = expected(arguments.judge, [row for some in rows.values() for row in some], flags)
    print("| clients | requests/s | p50 ms | p95 ms | pairs a batch | lost | furthest from offline |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    lost = 0
    for n, one in found.items():
        p50, p95 = (1000 * quantiles(one["latencies"], n=20)[i] for i in (9, 18))
        missing = len(rows[n]) - len(one["p"])
        lost += missing
        far = max((abs(one["p"][row] - offline[row]) for row in one["p"]), default=float("nan"))
        rate = len(one["p"]) / one["seconds"]
        print(f"| {n} | {rate:.1f} | {p50:.0f} | {p95:.0f} | {one['batch']:.1f} | {missing} | {far:.1e} |")
    return int(lost > 0)


def made(n: int, words: int, seed: int) -> list[Row]:
    """Pairs of which no two are alike, of unlike lengths; the same on every machine."""
    vocabulary = ("the", "a", "fox", "sky", "sea", "is", "was", "red", "blue", "over", "under", "and", "not", "very")

    def text(i: int, side: int) -> str:
        length = max(1, words * (1 + (i * 7 + side * 3) % 8) // 4)
        said = (vocabulary[(i * 31 + side * 17 + j * j + seed) % len(vocabulary)] for j in range(length))
        return f"{i}-{seed}: " + " ".join(said)

    return [(f"Write about number {i}.", text(i, 0), text(i, 1)) for i in range(n)]


def asked(judge: str, flags: list[str], rows: dict[int, list[Row]], folder: Path) -> dict[int, dict[str, Any]]:
    """Start the server and put the load on it, one number of clients after the other."""
    token, log = secrets.token_urlsafe(), folder / "log"
    environment = {**os.environ, "GENRM_TOKEN": token}
    command = [sys.executable, "-m", "genrm_lightning", "serve", "--judge", judge, "--dtype", "float32", "--port", "0"]
    with log.open("wb") as out:
        server = subprocess.Popen([*command, *flags], stdout=out, stderr=out, env=environment)
    try:
        while "token" not in log.read_text() or "served at" not in log.read_text():
            if server.poll() is not None:
                raise SystemExit(log.read_text())
            time.sleep(0.1)
        url = log.read_text().partition("served at ")[2].split()[0]
        return {n: asyncio.run(_load(url, token, some, n)) for n, some in rows.items()}
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait()


async def _load(url: str, token: str, rows: list[Row], clients: int) -> dict[str, Any]:
    import httpx2

    waiting, found, latencies = list(rows), {}, []
    headers = {"Authorization": f"Bearer {token}"}

    async def batches(client: httpx2.AsyncClient) -> tuple[float, float]:
        lines = (await client.get("/metrics")).text.splitlines()
        values = dict(line.rsplit(" ", 1) for line in lines if line[0] != "#")
        return float(values["genrm_batch_size_sum"]), float(values["genrm_batch_size_count"])

    async def ask(client: httpx2.AsyncClient) -> None:
        while waiting:
            row = waiting.pop()
            begun = time.perf_counter()
            answer = await client.post(
                "/compare", json=dict(zip(("prompt", "response_a", "response_b"), row, strict=True))
            )
            latencies.append(time.perf_counter() - begun)
            if answer.status_code == 200:
                found[row] = answer.json()["p"]

    limits = httpx2.Limits(max_connections=None)
    async with httpx2.AsyncClient(base_url=url, headers=headers, timeout=600, limits=limits) as client:
        before = await batches(client)
        begun = time.perf_counter()
        await asyncio.gather(*(ask(client) for _ in range(clients)))
        seconds = time.perf_counter() - begun
        after = await batches(client)
    joined = (after[0] - before[0]) / max(1.0, after[1] - before[1])
    return {"p": found, "latencies": latencies, "seconds": seconds, "batch": joined}


def expected(judge: str, rows: list[Row], flags: list[str]) -> dict[Row, float]:
    """p of each row, offline, of a judge that the same flags name."""
    from genrm_lightning.judges.memory import content_id, judge_in_memory, p_first, pairs_of
    from genrm_lightning.serve_command import read

    ids = [content_id(*row) for row in rows]
    made = read(["--judge", judge, "--dtype", "float32", *flags])[1]
    p = p_first(judge_in_memory(made, pairs_of([(name, *row) for name, row in zip(ids, rows, strict=True)])))
    return {row: p[name] for name, row in zip(ids, rows, strict=True)}


if __name__ == "__main__":
    sys.exit(main())
