"""What the benchmarks share: choice of rows, intervals, and mistakes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from data_tools import sources
from data_tools.errors import UserError
from genrm_lightning.evaluation.benchmarks import _report, _rows, benchmarks, protocols
from genrm_lightning.evaluation.benchmarks._report import Outcomes, Section
from genrm_lightning.evaluation.intervals import clustered_interval, wilson

FIXTURES = Path(__file__).parents[2] / "data_tools" / "fixtures"


def mixed(pairs):
    made = pairs("rewardbench")
    made.add("a", subset="donotanswer")
    made.add("b", (0.0, 0.0), source="judgebench", subset="livebench-math")
    made.add("c", (0.0, 0.0), source="elsewhere")
    made.add("d", (0.0, 0.0), source=None)
    return made


def test_each_benchmark_takes_its_rows(pairs):
    made = mixed(pairs)
    result = protocols(made.shown(), made.table())
    assert {name: one["score"] for name, one in result.items()} == {"RewardBench": 1.0, "JudgeBench": 0.0}
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    assert list(protocols(made.shown(), made.table(), only=["judge-bench"])) == ["JudgeBench"]


# Of the fixtures, a judge that is always right: sections with a weight, and pairs (prompts) scored.
INGESTED = {
    "rewardbench": ({"Chat": 1, "Chat Hard": 1, "Safety": 1, "Reasoning": 1}, "alpacaeval-easy"),
    "rewardbench2": ({"Factuality": 1}, "Factuality"),
    "rm_bench": ({"chat": 9, "math": 9, "code": 9, "safety": 18}, "safety/hard"),
    "judgebench": ({"Knowledge": 2, "Reasoning": 1, "Math": 1, "Coding": 1}, "livecodebench"),
    "llmbar": ({"all rows": 5}, "all rows"),
}


@pytest.mark.parametrize("source", INGESTED)
def test_rows_as_ingest_writes_them(pairs, source):
    frame = sources.read(FIXTURES / f"{source}.jsonl")
    made = pairs(source)
    for pair_id in frame["pair_id"]:
        made.add(pair_id)
    (result,) = protocols(made.shown(), frame).values()
    sections, subset = INGESTED[source]
    found = {name: one["n"] for name, one in result["sections"].items() if one["weight"] is not None}
    assert found == sections and result["score"] == 1 and subset in result["subsets"]
    assert ("matrix" in result) == (source == "rm_bench")


def test_every_benchmark_has_a_source_that_ingest_writes():
    known = {_rows.plain(name) for name in sources.formats()}
    for module in benchmarks().values():
        assert known & set(module.SOURCES), module.NAME


def test_the_same_call_gives_the_same_interval(pairs):
    made = pairs("judgebench")
    for k in range(30):
        made.add(f"p{k}", (0.9, 0.9) if k % 3 else (0.1, 0.1), subset="livebench-math")
    assert made.protocol() == made.protocol()


def test_mistakes_are_one_line(pairs):
    made = mixed(pairs)
    with pytest.raises(UserError, match="benchmark 'rb3' is unknown; there are: .*RM-Bench"):
        protocols(made.shown(), made.table(), only=["rb3"])
    with pytest.raises(UserError, match="benchmark 'RM-Bench': no row of the data has its source"):
        protocols(made.shown(), made.table(), only=["rm_bench"])
    with pytest.raises(ValueError, match="got 'd' beside them"):
        protocols(made.shown(), made.table().filter(pl.col("source").is_not_null()))
    with pytest.raises(ValueError, match="expected each pair once, got 'b' again"):
        protocols(made.shown(), pl.concat([made.table(), made.table()]))
    rewards = pl.DataFrame({"pair_id": ["a", "b"], "chosen_reward": [1.0, float("nan")], "rejected_reward": [0.0, 0.0]})
    with pytest.raises(ValueError, match="got none of 'b'"):
        protocols(made.shown(), made.table(), rewards)


def test_a_benchmark_of_which_nothing_was_judged(pairs):
    for source in ("rewardbench", "rewardbench2", "rm_bench", "judgebench", "llmbar"):
        made = pairs(source)
        made.add("p", None, subset="x", group_id="g")
        made.add("other", source="elsewhere")
        result = made.protocol()
        assert result["score"] is None and not result["complete"], source
        assert json.loads(json.dumps(result, allow_nan=False)) == result


def test_means_over_draws_are_those_of_a_plain_bootstrap():
    random = np.random.default_rng(0)
    clusters = random.integers(0, 40, 300)
    values = (random.random(300) + clusters % 3) / 3
    cells = random.choice(["x", "y"], 300)
    outcomes = Outcomes()
    outcomes.add(cells.tolist(), [f"c{c}" for c in clusters], values)
    section = {"s": Section({"x": 0.25, "y": 0.75}, n=300, weight=1.0)}
    result = _report.report("b", outcomes, section, {}, n_expected=None)
    drawn = []
    for _ in range(1500):
        rows = np.concatenate([np.flatnonzero(clusters == c) for c in random.choice(np.unique(clusters), 40)])
        means = [values[rows][cells[rows] == name].mean() for name in ("x", "y")]
        drawn.append(0.25 * means[0] + 0.75 * means[1])
    width = np.subtract(*np.quantile(drawn, [0.975, 0.025]))
    assert result["score"] == pytest.approx(0.25 * values[cells == "x"].mean() + 0.75 * values[cells == "y"].mean())
    assert result["high"] - result["low"] == pytest.approx(width, rel=0.1)
    assert result["low"] == pytest.approx(np.quantile(drawn, 0.025), abs=0.15 * width)


def sections_of(cells, overall=None):
    """The protocol of two sections, a third and two thirds of the score; cells: values by cluster."""
    outcomes = Outcomes()
    for name, values in cells.items():
        outcomes.add(name, [f"{name[0]}{k}" for k in range(len(values))], values)
    first = {name: 1 / sum(other[0] == "x" for other in cells) for name in cells if name[0] == "x"}
    sections = {"x": Section(first, n=1, weight=1 / 3), "y": Section({"y": 1.0}, n=1, weight=2 / 3)}
    return _report.report("b", outcomes, sections, {}, n_expected=None)


def test_a_section_where_all_are_right_has_wilsons_width(pairs):
    made = pairs("llmbar")
    for k in range(5):
        made.add(f"p{k}", (0.9, 0.9), subset="Natural")
    result = made.protocol()
    for one in (result, result["sections"]["Natural"]):
        assert (one["score"], one["low"], one["high"]) == (1.0, pytest.approx(wilson(1.0, 5)[0]), 1.0)
    wrong = sections_of({"x": [0.0] * 4, "y": [0.0] * 4})["sections"]["x"]
    assert (wrong["low"], wrong["high"]) == (0.0, pytest.approx(wilson(0.0, 4)[1]))


def test_what_a_bootstrap_cannot_see_widens_the_score():
    half = [0.0, 1.0] * 20
    plain, widened = sections_of({"x": half, "y": half}), sections_of({"x": [1.0] * 12, "y": half})
    (x, y), score = widened["sections"].values(), 1 / 3 + 2 / 3 * 0.5
    low = clustered_interval([1.0] * 12)[1]
    assert x["low"] == pytest.approx(low) and x["high"] == 1.0
    known = plain["sections"]["y"]  # its draws do vary: it is as it was, but for which were drawn
    assert (y["low"], y["high"]) == pytest.approx((known["low"], known["high"]), abs=0.03)
    assert widened["low"] == pytest.approx(score - np.hypot(2 / 3 * (0.5 - y["low"]), (1 - low) / 3), abs=0.02)
    assert widened["high"] == pytest.approx(score + 2 / 3 * (y["high"] - 0.5), abs=0.02)


def test_cells_that_share_prompts_count_as_one():
    """Twelve prompts in two cells, as in a matrix, are twelve; in two cells of their own they would be 24."""
    both = sections_of({"x 1": [1.0] * 12, "x 2": [1.0] * 12, "y": [0.0, 1.0]})["sections"]["x"]
    assert both["low"] == pytest.approx(wilson(1.0, 12)[0])
    uneven = Outcomes()
    uneven.add("x", ["a", "a", "a", "b"], [1.0] * 4)
    one = _report.report("b", uneven, {"x": Section({"x": 1.0}, n=4, weight=1.0)}, {}, n_expected=None)
    assert one["low"] == pytest.approx(clustered_interval([1.0] * 4, ["a", "a", "a", "b"])[1])


def test_no_interval_where_nothing_is_seen_of_the_spread():
    outcomes = Outcomes()
    outcomes.add("x", ["a", "a"], [1.0, 0.0])  # one cluster
    section = {"x": Section({"x": 1.0}, n=2, weight=1.0)}
    result = _report.report("b", outcomes, section, {}, n_expected=None)
    assert (result["score"], result["low"], result["high"]) == (0.5, None, None)
    margins = Outcomes()
    margins.add("x", ["a", "b"], [-0.5, -0.5])  # no shares
    assert _report.report("b", margins, section, {}, n_expected=None)["low"] is None


def test_weights_of_cells_without_rows_go_to_the_others():
    means = np.array([[1.0, 0.0, np.nan], [np.nan, np.nan, np.nan], [1.0, 0.0, 0.5]])
    weights = np.array([[0.5, 0.25, 0.25], [0.3, 0.3, 0.4]])
    expected = [[0.5 / 0.75, 0.5], [np.nan, np.nan], [0.625, 0.5]]
    np.testing.assert_allclose(_report.weighted(means, weights), expected)


def test_draws_in_blocks_are_whole(monkeypatch):
    outcomes = Outcomes()
    outcomes.add("x", [f"c{k}" for k in range(10)], range(10))
    monkeypatch.setattr(_report, "_BLOCK", 70)
    means = _report.cell_means(outcomes, ["x"], draws=30)
    assert means.shape == (31, 1) and means[0, 0] == 4.5 and len(np.unique(means)) > 10
