"""The command votes, and evaluate with sequential stopping."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from data_tools.__main__ import main as data_tools
from data_tools.artifact import read_json, read_table
from data_tools.schema import JUDGMENT
from genrm_lightning.__main__ import main

SHARD = "--shard_size"
DRAW = ["--sampling.rationale_tokens", "4", "--dtype", "float32", "--judge_prompt", "brief", "--rows", "6", SHARD, "4"]
STOP = ["--sampling.n_samples", "8", "--stopping.alpha", "0.1", "--stopping.first", "1"]


@pytest.fixture(scope="module")
def pairs(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("pairs")
    data_tools(["verifiable", "--rows", "12", "--test-rows", "8", "--out", str(folder)])
    return folder / "test.parquet"


@pytest.fixture(scope="module")
def judged(tmp_path_factory, tiny_llama, pairs) -> dict[str, Path]:
    """The same pairs with eight samples an order, with early stopping, and with one sample."""
    folder = tmp_path_factory.mktemp("judged")
    for name, flags in (("full", STOP[:2]), ("stopped", STOP), ("one", [])):
        argv = ["evaluate", "--judge", str(tiny_llama), "--data", str(pairs), "--out", str(folder / name)]
        assert main([*argv, *DRAW, *flags]) == 0
    return {name: folder / name / "sets/test" for name in ("full", "stopped", "one")}


def test_evaluate_stops_early(judged, pairs, tiny_llama, capsys):
    full, stopped = (read_table(judged[n] / "judgments.parquet", JUDGMENT) for n in ("full", "stopped"))
    assert stopped.height < full.height == 6 * 2 * 8
    assert sorted(p.name for p in judged["stopped"].iterdir()) == [
        "judgments.parquet", "manifest.json", "pairs.parquet",
    ]  # fmt: skip
    out = judged["stopped"].parents[1]
    scores = read_json(out / "scores.json")["sets"]["test"]
    assert scores["n_pairs"] == 6 and scores["n_samples"] == stopped.height
    argv = ["evaluate", "--judge", str(tiny_llama), "--data", str(pairs), "--out", str(out), *DRAW]
    capsys.readouterr()
    assert main([*argv, *STOP]) == 0  # a second call draws nothing
    assert "samples in" not in capsys.readouterr().err
    assert main([*argv, *STOP, "--stopping.votes", "hard"]) == 2
    assert "made with another 'stopping'" in capsys.readouterr().err


def test_votes(judged, pairs, tmp_path, capsys):
    files = [str(judged[name] / "judgments.parquet") for name in ("full", "stopped", "one")]
    assert main(["votes", "--judgments", *files, "--pairs", str(pairs), "--out", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert said.count("accuracy of all samples") == 2 and "sequential stopping" in said and "AURC" in said
    found = read_json(tmp_path / "votes.json")
    assert list(found) == sorted(files)
    full, stopped, one = (found[file] for file in files)
    assert {(row["k"], row["reading"], row["scope"]) for row in full["curve"]} == {
        (k, r, s) for k in (1, 2, 4, 8) for r in ("hard", "soft", "free") for s in ("pair", "order")
    }
    assert len(full["stopping"]) == 12 and {row["alpha"] for row in full["stopping"]} == {0.01, 0.05, 0.1}
    assert [(row["votes"], row["k"]) for row in full["abstention"]] == [
        ("soft votes", 8), ("hard votes", 8), ("soft votes", 1)
    ]  # fmt: skip
    last = {row["reading"]: row["accuracy"] for row in full["curve"] if (row["k"], row["scope"]) == (8, "pair")}
    assert last == {reading: value["accuracy"] for reading, value in full["as_drawn"].items()}
    for other in (stopped, one):
        assert other["curve"] == other["stopping"] == [] and other["fitted"] is None
    assert stopped["k_mean"] < 8 == full["k_mean"]
    assert [len(other["abstention"]) for other in (stopped, one)] == [3, 2]
    rows = pl.read_parquet(tmp_path / full["verdicts"])
    assert rows.height == 6 and set(rows["n_samples"]) == {8}


def test_another_prior_changes_what_stops(judged, pairs, tmp_path):
    file = str(judged["full"] / "judgments.parquet")
    argv = ["votes", "--judgments", file, "--pairs", str(pairs)]
    shares = []
    for i, prior in enumerate(("[0.01,0.01]", "[50,50]")):
        assert main([*argv, "--prior", prior, "--out", str(tmp_path / str(i))]) == 0
        rows = read_json(tmp_path / str(i) / "votes.json")[file]["stopping"]
        shares.append([row["tokens"] for row in rows if row["votes"] == "hard"])
    assert all(sure < doubtful for sure, doubtful in zip(*shares, strict=True))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--prior", "[0,1]"], "error: stopping.prior: (0.0, 1.0)"),
        (["--weight", "0.5"], "error: stopping.weight: 0.5"),
        (["--judgments", "missing.parquet"], "missing.parquet: no such file"),
    ],
)
def test_mistakes_of_votes_are_told_in_a_line(judged, pairs, capsys, flags, message):
    file = str(judged["one"] / "judgments.parquet")
    assert main(["votes", "--judgments", file, "--pairs", str(pairs), *flags]) == 2
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1


def test_pairs_of_another_set_are_refused(judged, pairs, capsys):
    file = str(judged["one"] / "judgments.parquet")
    assert main(["votes", "--judgments", file, "--pairs", str(pairs.with_name("ood.parquet"))]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: {file}: 6 judged pairs are not among the given pairs") and said.count("\n") == 1


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--stopping.alpha", "0.1"], "n_samples is 1, the first look comes after 2"),
        (["--sampling.n_samples", "8", "--stopping.alpha", "2"], "stopping.alpha: 2.0 is not in [0, 1)"),
        ([*STOP, SHARD, "5"], "5 judge prompts a shard cut a pair's two orders apart"),
    ],
)
def test_mistakes_of_stopping_are_told_before_anything_is_drawn(tmp_path, tiny_llama, pairs, capsys, flags, message):
    out = tmp_path / "out"
    argv = ["evaluate", "--judge", str(tiny_llama), "--data", str(pairs), "--out", str(out), *DRAW]
    assert main([*argv, *flags]) == 2
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1
    assert not out.exists() or not any(out.iterdir())
