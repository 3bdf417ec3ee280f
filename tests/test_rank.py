"""The command rank, on real judges."""

import json
import shutil

import polars as pl
import pytest

from data_tools.__main__ import main as data_tools
from data_tools.artifact import read_json
from genrm_lightning.__main__ import main
from genrm_lightning.judges.choice import judge_of
from genrm_lightning.judges.memory import p_first, pairs_of
from genrm_lightning.ranking.tables import GROUPS, RANKED

FLAGS = ["--dtype", "float32"]
WORDS = ["Blue.", "Seven of them.", "Red, I think.", "No.", "Yes, of course I will.", "Blue."]


@pytest.fixture(scope="module")
def place(tmp_path_factory, judges):
    folder = tmp_path_factory.mktemp("rank")
    for kind in ("BradleyTerry", "GenRM"):
        shutil.copytree(judges / kind, folder / kind)
    rows = [{"id": f"q{i}", "prompt": f"Question {i}?", "responses": WORDS[: 6 - i]} for i in range(4)]
    (folder / "x.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + "{broken\n")
    return folder


def rank(place, judge, out, *flags):
    argv = ["--judge", place / judge, "--data", place / "x.jsonl", "--out", out, *FLAGS, *flags]
    return main(["rank", *map(str, argv)])


def test_a_judge_of_pairs(tmp_path, capsys, place):
    out = tmp_path / "ranked.parquet"
    assert rank(place, "GenRM", out, "--ranking.goal", "order", "--ranking.comparisons", "100") == 0
    table, groups = pl.read_parquet(out), pl.read_parquet(tmp_path / "ranked.groups.parquet")
    assert table.schema == RANKED and groups.schema == GROUPS
    assert groups["comparisons"].to_list() == [15, 10, 6, 3] and groups["triples"].to_list() == [20, 10, 4, 1]
    for _, one in table.group_by("group_id"):
        assert one["rank"].to_list() == list(range(1, len(one) + 1))
        assert one["strength"].is_sorted(descending=True) and one["p_best"].sum() == pytest.approx(1)
        assert ((one["low"] < one["strength"]) & (one["strength"] < one["high"])).all()
    # Three candidates, every pair: the order of the win rates is that of the judge's own probabilities.
    own = judge_of(str(place / "GenRM"), dtype="float32")
    pairs = [(0, 1), (0, 2), (1, 2)]
    rows = [(f"q3/{i}-{j}", "Question 3?", WORDS[i], WORDS[j]) for i, j in pairs]
    p = p_first(own.judge_now(pairs_of(rows), "pairs"))
    wins = [0.0] * 3
    for i, j in pairs:
        wins[i] += p[f"q3/{i}-{j}"]
        wins[j] += 1 - p[f"q3/{i}-{j}"]
    expected = sorted(range(3), key=lambda i: -wins[i])
    assert table.filter(group_id="q3")["candidate"].to_list() == expected
    best = [json.loads(line) for line in (tmp_path / "ranked.best.jsonl").read_text().splitlines()]
    assert [row["group_id"] for row in best] == ["q0", "q1", "q2", "q3"]
    assert read_json(tmp_path / "ranked.report.json")["broken rows"] == 1
    capsys.readouterr()
    assert rank(place, "GenRM", out, "--ranking.goal", "order", "--ranking.comparisons", "100") == 0
    assert "verdicts" not in capsys.readouterr().err  # nothing is judged again
    data_tools(["lineage", str(out)])
    assert "x.jsonl" in capsys.readouterr().out


def test_a_reward_model(tmp_path, place):
    assert rank(place, "BradleyTerry", tmp_path / "r.parquet") == 0
    table, groups = pl.read_parquet(tmp_path / "r.parquet"), pl.read_parquet(tmp_path / "r.groups.parquet")
    assert table.schema == RANKED and table["reward"].null_count() == 0 and groups["comparisons"].sum() == 0
    rewards = {row["candidate"]: row["reward"] for row in table.filter(group_id="q0").to_dicts()}
    assert rewards[0] == pytest.approx(rewards[5], abs=1e-5)  # one text twice
    for _, one in table.group_by("group_id"):
        assert one["reward"].is_sorted(descending=True) and len(one) == one["candidate"].n_unique()


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--rows", "0"], "--rows: 0"),
        (["--ranking.error", "2"], "ranking.error: 2"),
        (["--out", "x"], "ends in .parquet"),
        (["--shard", "1/2"], "a round of comparisons waits"),
        (["--data", "none.jsonl"], "none.jsonl"),
    ],
)
def test_mistakes(tmp_path, capsys, place, flags, said):
    assert rank(place, "GenRM", tmp_path / "x.parquet", *flags) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and said in error and error.count("\n") == 1
    assert not any(tmp_path.iterdir())


def test_too_many_candidates(tmp_path, capsys, place):
    row = {"id": "big", "prompt": "Q", "responses": [str(i) for i in range(65)]}
    (tmp_path / "x.jsonl").write_text(json.dumps(row))
    argv = ["--judge", place / "GenRM", "--data", tmp_path / "x.jsonl", "--out", tmp_path / "x.parquet"]
    assert main(["rank", *map(str, argv)]) == 2
    assert "group 'big' has 65 candidates" in capsys.readouterr().err


def test_a_candidate_that_does_not_fit_costs_no_other(tmp_path, place):
    """It comes last and unknown; its neighbours are what they are without it."""
    long = "word " * 3000
    rows = [{"id": "x", "prompt": "Q?", "responses": ["Blue.", long, "Red, I think.", "No."]},
            {"id": "y", "prompt": "Q?", "responses": [long, "Blue."]}]  # fmt: skip
    (tmp_path / "x.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    alone = {**rows[0], "responses": [text for text in rows[0]["responses"] if text != long]}
    (tmp_path / "alone.jsonl").write_text(json.dumps(alone))
    for judge in ("BradleyTerry", "GenRM"):
        for name in ("x", "alone"):
            argv = [
                "--judge",
                place / judge,
                "--data",
                tmp_path / f"{name}.jsonl",
                "--out",
                tmp_path / f"{name}{judge}.parquet",
            ]
            assert main(["rank", *map(str, argv), *FLAGS]) == 0
        with_it, without = (pl.read_parquet(tmp_path / f"{name}{judge}.parquet") for name in ("x", "alone"))
        group = with_it.filter(group_id="x")
        assert group["response"].to_list() == [*without["response"], long]
        last = group.row(-1, named=True)
        assert last["p_best"] is None and last["strength"] is None and last["reward"] is None
        best = [json.loads(line) for line in (tmp_path / f"x{judge}.best.jsonl").read_text().splitlines()]
        assert [row["group_id"] for row in best] == (["x", "y"] if judge == "BradleyTerry" else ["x"])


def test_more_comparisons_go_on_from_fewer(tmp_path, capsys, place):
    out = tmp_path / "r.parquet"
    assert rank(place, "GenRM", out, "--ranking.goal", "order", "--ranking.comparisons", "8") == 0
    capsys.readouterr()
    assert rank(place, "GenRM", out, "--ranking.goal", "order", "--ranking.comparisons", "12") == 0
    assert "round 1:" not in capsys.readouterr().err and pl.read_parquet(out)["comparisons"].sum() > 0


def test_an_input_is_not_written_over(tmp_path, capsys, place):
    (tmp_path / "r.best.jsonl").write_text((place / "x.jsonl").read_text())
    argv = ["--judge", place / "GenRM", "--data", tmp_path / "r.best.jsonl", "--out", tmp_path / "r.parquet"]
    assert main(["rank", *map(str, argv)]) == 2
    assert "would write over" in capsys.readouterr().err
