"""`python -m benchmarks.data`: rows from a seed in any pieces, and every side writes the same of them."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from benchmarks import data, data_rows, race
from benchmarks.data_sides import CASES, SIDES
from data_tools import sources
from data_tools.artifact import read_table
from data_tools.clean import BOTH_ORDERS, EMPTY, IDENTICAL, REPEAT, clean
from data_tools.errors import UserError
from data_tools.schema import JUDGMENT, PREFERENCE
from data_tools.split import normalised_prompt

pytest.importorskip("pandas")
pytest.importorskip("datasets")
ROWS = 2000


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rows")
    data_rows.write(folder, ROWS)
    return folder


def test_rows_are_what_people_have_before_cleaning(folder):
    raw = sources.read(folder / "raw.jsonl")
    assert raw.height == ROWS and raw.equals(read_table(folder / "pairs.parquet", PREFERENCE))
    _, dropped = clean(raw)
    found = {name: dropped[name] / ROWS for name in (REPEAT, BOTH_ORDERS, EMPTY, IDENTICAL)}
    shares = data_rows.SHARES
    assert found[REPEAT] == pytest.approx(shares["repeat"], abs=0.01)
    assert found[BOTH_ORDERS] == pytest.approx(2 * shares["both ways"], abs=0.004)
    assert found[EMPTY] == pytest.approx(shares["empty"], abs=0.003) and found[EMPTY] > 0
    assert found[IDENTICAL] == pytest.approx(shares["equal"], abs=0.003) and found[IDENTICAL] > 0
    length = (folder / "raw.jsonl").stat().st_size / ROWS
    assert 500 < length < 800
    prompts = raw.select(key=normalised_prompt())["key"].n_unique()
    assert 2 < ROWS / prompts < 4
    assert raw["prompt"].list.len().value_counts().sort("prompt")["count"].to_list()[0] > 0.7 * ROWS
    judged = read_table(folder / "judgments.parquet", JUDGMENT)["pair_id"]
    assert not judged.equals(raw["pair_id"]) and judged.sort().equals(raw["pair_id"].sort())


def test_rows_do_not_depend_on_the_pieces():
    clauses = pl.Series([f"clause {i}" for i in range(50)])
    whole = data_rows.piece(np.arange(ROWS), ROWS, clauses)
    parts = [data_rows.piece(np.arange(start, start + 500), ROWS, clauses) for start in range(0, ROWS, 500)]
    assert whole.equals(pl.concat(parts))
    assert not whole["chosen"].equals(data_rows.piece(np.arange(ROWS), ROWS, clauses, seed=1)["chosen"])


def test_two_sides_clean(tmp_path, capsys):
    out = tmp_path / "data.json"
    some = ["--cases", "clean", "--sides", "ours", "pandas"]
    data.main([*some, "--sizes", str(ROWS), "--scratch", str(tmp_path), "--out", str(out)])
    runs = json.loads(out.read_text())["runs"]
    assert [one["side"] for one in runs] == ["ours", "pandas"] and not any(one["failed"] for one in runs)
    shown = capsys.readouterr().out
    assert "pandas" in shown and "MB/s" in shown


def test_a_race_of_other_work_is_none(tmp_path):
    given = race.flags("race", None, ["one", "other"], tmp_path / "race.json", "").parse_args(["--sizes", "7"])
    echo = 'import sys; open(sys.argv[1], "w").write(sys.argv[2])'

    def wrote(same: bool) -> None:
        race.run(
            given, ["echo"], "rows", lambda folder, size: None,
            lambda side, case, folder, out: [sys.executable, "-c", echo, str(out / "said"), "" if same else side],
            lambda case, folder: 0, lambda case, out: (out / "said").read_text(), alone="nobody",
        )  # fmt: skip

    wrote(same=True)
    with pytest.raises(UserError, match="echo: the sides wrote different rows: {'one': 'one', 'other': 'other'}"):
        wrote(same=False)


def test_a_race_that_is_ended_ends_its_sides(tmp_path):
    code = (
        "import sys; from benchmarks import race; place = sys.argv[1]\n"
        "given = race.flags('race', None, ['one'], place + '/race.json', '').parse_args(['--scratch', place])\n"
        "sleep = 'import os, time; print(os.getpid(), flush=True); time.sleep(60)'\n"
        "race.run(given, ['sleep'], 'rows', lambda folder, size: None,\n"
        "    lambda *_: [sys.executable, '-c', sleep], lambda *_: 0, lambda *_: '', alone='')\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], cwd=Path(__file__).parents[1])
    try:
        said = ""
        while not said.strip():
            assert process.poll() is None
            time.sleep(0.05)
            said = "".join(log.read_text() for log in tmp_path.glob("*/log.txt"))
        process.terminate()
        assert process.wait(20) == 128 + signal.SIGTERM
        assert not Path(f"/proc/{said.strip()}").exists() and not list(tmp_path.iterdir())
    finally:
        process.kill()


@pytest.mark.slow
def test_every_side_writes_the_same_rows(tmp_path):
    out = tmp_path / "data.json"
    data.main(["--sizes", str(ROWS), "--scratch", str(tmp_path), "--out", str(out), "--workers", "1"])
    runs = json.loads(out.read_text())["runs"]
    assert [(one["case"], one["side"]) for one in runs] == [(case, side) for case in CASES for side in SIDES]
    assert all(one["failed"] is None and one["peak"] > 0 and one["cpu_seconds"] > 0 for one in runs)
    assert [file.name for file in tmp_path.iterdir()] == [out.name]


def test_other_rows_are_noticed(folder, tmp_path):
    """The digest is of the rows, not of their order, types or file; a row more, a label less or a text else shows."""
    table = read_table(folder / "pairs.parquet", PREFERENCE).with_columns(split=pl.lit("train"))

    def digest(name: str, rows: pl.DataFrame) -> str:
        place = tmp_path / str(len(list(tmp_path.iterdir())))
        place.mkdir()
        rows.write_parquet(place / name)
        return data.digest("ingest", place)

    same = digest("train.parquet", table)
    assert digest("train.parquet", table.reverse().drop("margin")) == same
    others = [table.head(-1), table.with_columns(split=None), table.with_columns(chosen=pl.col("chosen") + " ")]
    assert same not in {digest("train.parquet", other) for other in others}
    assert digest("test.parquet", table) != same


def test_a_table_of_runs():
    """Rates and ratios follow from the raw numbers; one that failed says why and has neither."""
    ours = {"case": "clean", "side": "ours", "rows": 1000, "file_bytes": 4_000_000, "peak": 2**30, "failed": None}
    ours |= {"seconds": 2.0, "cpu_seconds": 1.0}
    peer = ours | {"side": "pandas", "seconds": 5.0, "cpu_seconds": 4.0}
    late = ours | {"side": "datasets", "seconds": 600.2, "failed": "over 600 s"}
    found = {"machine": {"cpu": "CPU", "cores": 2}, "runs": [ours, peer, late]}
    columns = {column.header: list(column.cells) for column in race.table(found, "rows", "", bytes_too=True).columns}
    assert columns["rows/s"] == ["500", "200", "over 600 s"] and columns["MB/s"] == ["2.0", "0.8", ""]
    assert columns["ratio"] == ["", "2.5x / 4.0x", ""] and columns["peak GiB"] == ["1.00"] * 3
