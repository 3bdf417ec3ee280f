"""A served judge under load: ``python -m benchmarks.serving --judge DIR [flags of serve]``.

Starts ``python -m genrm_lightning serve`` and, from this process, keeps so many clients busy with /compare, each with
pairs of its own. Then the server is stopped, and the same pairs are judged here in one call of the same judge with the
same number of threads: its rate is the most that batching could reach, and the share says how much of it was reached.
Every answer is counted and held against that call, in float32. Loading, and some pairs before the clock starts, count
on neither side. The clients share the machine with the server, as they would not elsewhere.

Exits with 1 where an answer is missing or another one than offline.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from statistics import quantiles
from typing import Any

Row = tuple[str, str, str]
_CLOSE = 1e-4  # furthest that a served p may be from the offline one
_WARM = 8  # pairs before the clock starts


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving", description=__doc__.partition(":")[0])
    parser.add_argument("--judge", required=True, help="judge folder or hub id")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument("--requests", type=int, default=192, help="for each number of clients")
    parser.add_argument("--words", type=int, default=40, help="of a response, in the mean")
    parser.add_argument("--out", type=Path, help="JSON of the numbers")
    arguments, flags = parser.parse_known_args(argv)
    if arguments.requests < 2 or min(arguments.clients) < 1:
        parser.error("--requests must be 2 or more, --clients 1 or more")
    rows = {n: made(arguments.requests, arguments.words, n) for n in dict.fromkeys(arguments.clients)}
    warm = made(_WARM, arguments.words, 0)
    with tempfile.TemporaryDirectory() as folder:
        found = asked(arguments.judge, flags, warm, rows, Path(folder))
    offline = expected(arguments.judge, flags, warm, rows)
    results = [summary(n, rows[n], found[n], offline[n]) for n in rows]
    show(results)
    if arguments.out:
        arguments.out.write_text(json.dumps({"machine": _machine(), "results": results}, indent=2) + "\n")
    return int(any(one["lost"] or not one["furthest"] <= _CLOSE for one in results))


def summary(clients: int, rows: list[Row], served: dict[str, Any], offline: dict[str, Any]) -> dict[str, Any]:
    """What the numbers of one load say; rates in pairs a second, latencies in seconds, of requests that were answered.

    Args:
        served: ``p`` of each row answered, ``latencies``, ``seconds`` of all, ``batch`` (pairs, mean), ``failed``.
        offline: ``p`` of each row, ``seconds`` of the one call.
    """
    p, bound = served["p"], len(rows) / offline["seconds"]
    rate = len(p) / served["seconds"]
    percentiles = quantiles(served["latencies"], n=100, method="inclusive") if len(p) > 1 else [float("nan")] * 99
    return {
        "clients": clients,
        "rate": rate,
        "offline_rate": bound,
        "share": rate / bound,
        **{f"p{k}": percentiles[k - 1] for k in (50, 95, 99)},
        "batch": served["batch"],
        "lost": len(rows) - len(p),
        "failed": served["failed"],
        "furthest": max((abs(p[row] - offline["p"][row]) for row in p), default=float("nan")),
    }


def show(results: list[dict[str, Any]]) -> None:
    machine = _machine()
    print(f"{machine['cpu']}, {machine['cores']} cores, {machine['threads']} threads, torch {machine['torch']}\n")
    print("| clients | pairs/s | offline | share | p50 ms | p95 ms | p99 ms | pairs a batch | lost | furthest |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for one in results:
        latencies = " | ".join(f"{1000 * one[name]:.0f}" for name in ("p50", "p95", "p99"))
        print(
            f"| {one['clients']} | {one['rate']:.1f} | {one['offline_rate']:.1f} | {one['share']:.0%} | {latencies} | "
            f"{one['batch']:.1f} | {one['lost']} | {one['furthest']:.1e} |"
        )
    for one in results:
        if one["failed"]:
            print(f"{one['clients']} clients, not answered: {one['failed']}")


def made(n: int, words: int, seed: int) -> list[Row]:
    """Pairs of which no two are alike, of unlike lengths; the same on every machine."""
    vocabulary = ("the", "a", "fox", "sky", "sea", "is", "was", "red", "blue", "over", "under", "and", "not", "very")

    def text(i: int, side: int) -> str:
        length = max(1, words * (1 + (i * 7 + side * 3) % 8) // 4)
        said = (vocabulary[(i * 31 + side * 17 + j * j + seed) % len(vocabulary)] for j in range(length))
        return f"{i}-{seed}: " + " ".join(said)

    return [(f"Write about number {i}.", text(i, 0), text(i, 1)) for i in range(n)]


def asked(
    judge: str, flags: list[str], warm: list[Row], rows: dict[int, list[Row]], folder: Path
) -> dict[int, dict[str, Any]]:
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
        asyncio.run(_load(url, token, warm, 2))
        return {n: asyncio.run(_load(url, token, some, n)) for n, some in rows.items()}
    finally:
        server.send_signal(signal.SIGTERM)
        try:
            server.wait(120)
        except subprocess.TimeoutExpired:
            server.kill()
            raise SystemExit("the server did not end within two minutes of SIGTERM") from None


async def _load(url: str, token: str, rows: list[Row], clients: int) -> dict[str, Any]:
    import httpx2

    waiting, found, latencies, failed = list(rows), {}, [], Counter()
    headers = {"Authorization": f"Bearer {token}"}

    async def batches(client: httpx2.AsyncClient) -> tuple[float, float]:
        lines = (await client.get("/metrics")).text.splitlines()
        values = dict(line.rsplit(" ", 1) for line in lines if line[0] != "#")
        return float(values["genrm_batch_size_sum"]), float(values["genrm_batch_size_count"])

    async def ask(client: httpx2.AsyncClient) -> None:
        while waiting:
            row = waiting.pop()
            begun = time.perf_counter()
            body = dict(zip(("prompt", "response_a", "response_b"), row, strict=True))
            try:
                answer = await client.post("/compare", json=body)
            except httpx2.HTTPError as error:
                failed[type(error).__name__] += 1
                continue
            if answer.status_code == 200:
                latencies.append(time.perf_counter() - begun)
                found[row] = answer.json()["p"]
            else:
                failed[str(answer.status_code)] += 1

    limits = httpx2.Limits(max_connections=None)
    async with httpx2.AsyncClient(base_url=url, headers=headers, timeout=600, limits=limits, trust_env=False) as client:
        before = await batches(client)
        begun = time.perf_counter()
        await asyncio.gather(*(ask(client) for _ in range(clients)))
        seconds = time.perf_counter() - begun
        after = await batches(client)
    joined = (after[0] - before[0]) / max(1.0, after[1] - before[1])
    return {"p": found, "latencies": latencies, "seconds": seconds, "batch": joined, "failed": dict(failed)}


def expected(judge: str, flags: list[str], warm: list[Row], rows: dict[int, list[Row]]) -> dict[int, dict[str, Any]]:
    """``p`` of each row and ``seconds`` of each load, in one call of a judge that the same flags name."""
    from genrm_lightning.judges.memory import content_id, p_first, pairs_of
    from genrm_lightning.serve_command import read

    made = read(["--judge", judge, "--dtype", "float32", *flags])[1]

    def judged(some: list[Row]) -> dict[str, Any]:
        ids = [content_id(*row) for row in some]
        begun = time.perf_counter()
        p = p_first(made.judge_now(pairs_of([(name, *row) for name, row in zip(ids, some, strict=True)]), "pairs"))
        seconds = time.perf_counter() - begun
        return {"p": {row: p[name] for name, row in zip(ids, some, strict=True)}, "seconds": seconds}

    made.open()
    judged(warm)
    try:
        return {n: judged(some) for n, some in rows.items()}
    finally:
        made.close()


def _machine() -> dict[str, Any]:
    import torch

    from benchmarks.machine import describe

    return describe(torch.get_num_threads())


if __name__ == "__main__":
    sys.exit(main())
