"""`python -m benchmarks.serving`: what its table says follows from what was measured, and a small load is put on."""

import json
import math

import pytest

from benchmarks import serving


def test_summary():
    rows = [(str(i), "a", "b") for i in range(4)]
    served = {"p": {row: 0.5 for row in rows[:3]}, "latencies": [0.1, 0.2, 0.3], "seconds": 1.5, "batch": 2.0}
    offline = {"p": {rows[0]: 0.5, rows[1]: 0.75, rows[2]: 0.5, rows[3]: 0.1}, "seconds": 1.0}
    found = serving.summary(8, rows, {**served, "failed": {"429": 1}}, offline)
    assert (found["rate"], found["offline_rate"], found["share"]) == (2.0, 4.0, 0.5)
    assert (found["lost"], found["furthest"], found["p50"]) == (1, 0.25, pytest.approx(0.2))
    assert found["p95"] < found["p99"] < 0.3  # no latency that was not measured
    nothing = {"p": {}, "latencies": [], "seconds": 1.0, "batch": 0.0, "failed": {"ReadError": 4}}
    found = serving.summary(8, rows, nothing, offline)
    assert found["lost"] == 4 and math.isnan(found["p50"]) and math.isnan(found["furthest"])


def test_a_small_load(judges, tmp_path, capsys):
    argv = ["--judge", str(judges / "GenRM"), "--clients", "1", "4", "--requests", "12", "--words", "4"]
    assert serving.main([*argv, "--out", str(tmp_path / "found.json"), "--limits.wait_ms", "2"]) == 0
    one, four = json.loads((tmp_path / "found.json").read_text())["results"]
    assert (one["clients"], four["clients"]) == (1, 4) and one["lost"] == four["lost"] == 0
    assert max(one["furthest"], four["furthest"]) < 1e-5 and one["batch"] == 1 < four["batch"] <= 4
    assert one["p50"] <= one["p95"] <= one["p99"] and 0 < one["share"] < 2
    said = capsys.readouterr().out
    assert "| clients | pairs/s | offline | share |" in said and said.count("\n| ") == 4
