"""`python -m benchmarks.selection`: every side chooses the same rows, and one that takes too much is stopped."""

from __future__ import annotations

import json

import pytest

from benchmarks import selection
from benchmarks.selection_sides import CASES, SIDES

pytest.importorskip("pandas")
pytest.importorskip("datasets")


@pytest.mark.slow
def test_every_side_chooses_the_same_rows(tmp_path, capsys):
    out = tmp_path / "selection.json"
    selection.main(["--sizes", "5000", "--scratch", str(tmp_path), "--out", str(out), "--workers", "2"])
    runs = json.loads(out.read_text())["runs"]
    assert [(run["case"], run["side"]) for run in runs] == [(case, side) for case in CASES for side in SIDES]
    assert all(run["failed"] is None and run["peak"] > 0 and run["cpu_seconds"] > 0 for run in runs)
    assert "datasets" in capsys.readouterr().out and [p.name for p in tmp_path.iterdir()] == [out.name]


def test_a_side_that_takes_too_much_is_stopped(tmp_path, capsys):
    out = tmp_path / "selection.json"
    more = ["--sizes", "1000", "--sides", "reading", "--seconds", "0", "--scratch", str(tmp_path), "--out", str(out)]
    selection.main(more)
    runs = json.loads(out.read_text())["runs"]
    assert [run["failed"] for run in runs] == ["over 0 s"] * len(CASES) and "over 0 s" in capsys.readouterr().out
