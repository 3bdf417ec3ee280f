"""The report: the table shows the summary's numbers, all of them and no others."""

from __future__ import annotations

import io
import json
import re

import polars as pl
import pytest
from rich.console import Console

from genrm_lightning.evaluation import report
from genrm_lightning.evaluation.scores import set_scores


@pytest.fixture
def run(judgments, preferences):
    """(rows, differences) of a run with a warm start and two iterations on 40 pairs a set."""

    def tables(right: int) -> pl.DataFrame:
        def one(i):
            return [(0.9, "right")] if i < right else [(0.2, "INVALID")]

        return judgments({f"p{i:02d}": (one(i), one(i + 3)) for i in range(40)})

    pairs = preferences([f"p{i:02d}" for i in range(40)])
    made = {
        "zero-shot": (11, 13),
        "warm start": (17, 15),
        "iteration 1": (23, 19),
        "iteration 2": (40, 29),
    }  # the last ID: 100 %, the widest number
    sets = {label: {"id": tables(a), "ood": tables(b)} for label, (a, b) in made.items()}
    facts = {
        "zero-shot": ("zero_shot", 0, {"seconds": 41.4}),
        "warm start": ("warm_start", 0, {"seconds": 57.6}),
        "iteration 1": ("iteration", 1, {"kept": 1033, "couples": 411, "sampled": 1536, "seconds": 211.2}),
        "iteration 2": ("iteration", 2, {"kept": 907, "sampled": 1424, "given": 77, "seconds": 198.7}),
    }
    rows = [
        report.row(kind, iteration, {k: set_scores(t, pairs) for k, t in sets[label].items()}, **extra)
        for label, (kind, iteration, extra) in facts.items()
    ]
    differences = [
        report.difference(k, first, "iteration 2", sets[first][k], sets["iteration 2"][k])
        for first in ("zero-shot", "warm start")
        for k in ("id", "ood")
    ]
    return rows, differences


def printed(value, width: int) -> str:
    console = Console(file=io.StringIO(), width=width, force_terminal=False)
    report.render(value, console)
    return console.file.getvalue()


def test_row_names_every_number_by_set(run):
    rows, _ = run
    assert [r["label"] for r in rows] == ["zero-shot", "warm start", "iteration 1", "iteration 2"]
    # zero-shot ID: pairs 0..10 right in the first order, 0..7 in the second: 19 of 80, both orders 8 of 40.
    assert rows[0]["accuracy_id"] == 19 / 80
    assert rows[0]["accuracy_id_low"] < 19 / 80 < rows[0]["accuracy_id_high"]
    assert rows[0]["position_consistent_accuracy_id"] == 8 / 40
    assert rows[0]["invalid_rate_id"] == 61 / 80
    assert rows[0]["accuracy_ood"] == 23 / 80
    assert rows[0]["categories_ood"]["kind"]["n_pairs"] == rows[0]["n_pairs_ood"] == 40
    assert rows[0]["kept"] is None and rows[2]["sampled"] == 1536
    assert rows[3]["given"] == 77 and "given" not in rows[2]


def test_difference_is_paired(run):
    _, differences = run
    assert differences[0]["diff"] == pytest.approx((40 + 37 - 11 - 8) / 80)
    assert 0.54 < differences[0]["low"] < differences[0]["diff"] < differences[0]["high"] < 0.9
    assert differences[0] | {"diff": 0, "low": 0, "high": 0} == {
        "set": "id",
        "before": "zero-shot",
        "after": "iteration 2",
        "diff": 0,
        "low": 0,
        "high": 0,
        "n_pairs": 40,
    }


@pytest.mark.parametrize("width", [80, 100, 120])
def test_table_and_summary_hold_the_same_numbers(run, tmp_path, width):
    report.write_summary(tmp_path / "summary.json", report.summary(*run, variant="star-dpo"))
    value = json.loads((tmp_path / "summary.json").read_text())
    assert value["variant"] == "star-dpo"
    text = printed(value, width)
    assert max(map(len, text.splitlines())) <= width and "…" not in text
    allowed = {"95", "100", "2", "1"}  # of the notes and the labels
    wanted = set()
    for one in value["rows"]:
        shares = [f"accuracy_{key}{end}" for key in ("id", "ood") for end in ("", "_low", "_high")]
        shares += ["position_consistent_accuracy_id", "free_accuracy_id", "invalid_rate_id"]
        wanted |= {f"{100 * one[name]:.1f}" for name in shares}
        wanted |= {str(one[name]) for name in ("kept", "couples", "sampled", "given") if one.get(name) is not None}
        wanted.add(f"{one['seconds']:.0f}")
    for one in value["differences"]:
        wanted |= {f"{100 * one[name]:.1f}" for name in ("diff", "low", "high")} | {str(one["n_pairs"])}
    shown = set(re.findall(r"\d+(?:\.\d+)?", text))
    assert wanted <= shown, f"not in the table: {wanted - shown}"
    assert shown <= wanted | allowed, f"not in the summary: {shown - wanted - allowed}"


def test_each_number_stands_in_its_row_and_column(run):
    rows, differences = run
    line = next(x for x in printed(report.summary(rows, differences), 120).splitlines() if "iteration 2" in x)
    one = rows[3]
    cells = [f"{100 * one[f'accuracy_{k}{end}']:.1f}" for k in ("id", "ood") for end in ("", "_low", "_high")]
    cells += [f"{100 * one[n]:.1f}" for n in ("position_consistent_accuracy_id", "free_accuracy_id", "invalid_rate_id")]
    assert re.findall(r"\d+(?:\.\d+)?", line)[1:] == [*cells, "907", "1424", "77", "199"]
    assert "907/1424 + 77 given" in line


def test_a_table_of_the_zero_shot_row_alone(run):
    text = printed(report.summary(run[0][:1]), 100)
    assert "zero-shot" in text and "–" in text and "points" not in text


def test_row_refuses(run, judgments, preferences):
    scores = set_scores(judgments({"p": ([(0.9, "right")], [(0.9, "right")])}), preferences(["p"]))
    both = {"id": scores, "ood": scores}
    with pytest.raises(ValueError, match="kind of zero_shot"):
        report.row("baseline", 0, both)
    for kind, iteration in (("zero_shot", 1), ("iteration", 0), ("warm_start", -1)):
        with pytest.raises(ValueError, match="expected iteration 0"):
            report.row(kind, iteration, both)
    with pytest.raises(ValueError, match="scores of id, ood, got id"):
        report.row("zero_shot", 0, {"id": scores})


def test_summary_refuses(run):
    rows, differences = run
    with pytest.raises(ValueError, match="at least one row"):
        report.summary([])
    with pytest.raises(ValueError, match="each label once"):
        report.summary([rows[0], rows[0]])
    with pytest.raises(ValueError, match="row 'iteration 1' lacks seconds, accuracy_ood_low"):
        report.summary([{k: v for k, v in rows[2].items() if k not in ("accuracy_ood_low", "seconds")}])
    with pytest.raises(ValueError, match="not JSON compliant"):
        report.summary([{**rows[0], "seconds": float("nan")}])
    # The difference of another set's tables under this set's name.
    with pytest.raises(ValueError, match="difference of accuracy_ood from 'zero-shot'"):
        report.summary(rows, [{**differences[0], "set": "ood"}])
    # A difference of something that is not there is said in words, too.
    for wrong, said in (
        ({"after": "iteration 9"}, r"difference of two rows .*, got 'iteration 9'"),
        ({"set": "train"}, "difference of id, ood, got one of 'train'"),
    ):
        with pytest.raises(ValueError, match=said):
            report.summary(rows, [{**differences[0], **wrong}])
    with pytest.raises(ValueError, match="a difference lacks set, low"):
        report.summary(rows, [{k: v for k, v in differences[0].items() if k not in ("set", "low")}])
