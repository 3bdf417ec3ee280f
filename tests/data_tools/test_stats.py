import json
import random

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from data_tools import __main__ as cli
from data_tools import artifact, measures
from data_tools.label_noise import label_noise
from data_tools.measures import measure
from data_tools.order import chosen_is_a
from data_tools.schema import PREFERENCE, conform
from data_tools.stats import histogram, histograms, responses_per_prompt, stats, summary


def table(rows):
    """PREFERENCE from (source, prompt, chosen, rejected) and what else a row has."""
    rows = [
        {
            "pair_id": f"p{i}",
            "source": source,
            "prompt": [{"role": "user", "content": turn} for turn in prompt.split("|")],
            "chosen": chosen,
            "rejected": rejected,
            **more,
        }
        for i, (source, prompt, chosen, rejected, more) in enumerate(rows)
    ]
    return conform(pl.DataFrame(rows, schema_overrides={"prompt": PREFERENCE["prompt"]}), PREFERENCE)


ROWS = [
    ("x", "What?", "long one", "short", {"split": "train", "margin": 0.25, "label_kind": "human"}),
    (
        "x",
        " what? ",
        "four",
        "five",
        {"split": "test", "margin": 0.75, "label_kind": "human"},
    ),  # the same prompt, a tie
    ("x", "a|b|Что?", "no", "longer", {"split": None, "margin": None, "label_kind": "gpt-4"}),
    ("y", "ü12", "y", "yes", {"split": "train", "margin": None, "label_kind": None}),
]


def test_a_table_in_numbers():
    found = stats(table(ROWS))
    assert found["source"].to_list() == ["x", "y", "all"]
    x, y, whole = found.to_dicts()
    a = [chosen_is_a(f"p{i}", False) for i in range(4)]
    assert [x[name] for name in ("rows", "train", "validation", "test", "prompts")] == [3, 1, 0, 1, 2]
    assert x["labels"] == "human 2, gpt-4 1" and y["labels"] == "unknown 1"
    # 5 + 8, 7 + 4, 6 + 6 characters: the median is 12, the 95th percentile the most.
    assert (x["chars"], x["chars_95"]) == (12, 13)
    assert (x["longer_chosen"], y["longer_chosen"], whole["longer_chosen"]) == (0.5, 0.0, 0.375)
    assert whole["chosen_is_a"] == sum(a) / 4
    assert x["turns"] == pytest.approx(5 / 3)
    # Four responses to the first prompt, two to the second.
    assert (x["responses"], y["responses"]) == (3.0, 2.0) and whole["responses"] == pytest.approx(8 / 3)
    assert (x["margin"], y["margin"]) == (0.5, None)


def test_a_source_that_is_called_as_the_total_is():
    rows = [("all", *row[1:]) if row[0] == "y" else row for row in ROWS]
    found = stats(table(rows))
    assert found["source"].to_list() == ["all", "x", "all"]
    assert found["rows"].to_list() == [1, 3, 4] and found["responses"].to_list()[0] == 2.0


def test_lazy_tables_and_other_columns():
    frame = table(ROWS)
    assert_frame_equal(stats(frame.lazy()), stats(frame))
    by_kind = summary(measure(frame), "label_kind")
    assert by_kind.select("label_kind", "rows").rows() == [(None, 1), ("gpt-4", 1), ("human", 2), ("all", 4)]
    by_split = summary(measure(frame), "split")
    assert by_split.select("split", "rows").rows() == [(None, 1), ("test", 1), ("train", 2), ("all", 4)]


def test_measures():
    found = measure(table(ROWS))
    assert found["script"].cast(pl.String).to_list() == ["Latin", "Latin", "Cyrillic", "Latin"]
    assert found["turns"].to_list() == [1, 1, 3, 1]
    assert found["prompt_chars"].to_list() == [5, 7, 6, 3]  # characters: ü is one, and so is each of Что
    assert found["prompt_key"].n_unique() == 3
    assert found["prefix"].to_list() == [False, False, False, True]
    assert sorted(responses_per_prompt(found)["responses"]) == [2, 2, 4]


def bins(values, *arguments, **named):
    return histogram(pl.DataFrame({"value": values}), "value", *arguments, **named).rows()


def test_bins_are_round_and_count_every_value():
    assert bins([1, 1, 1, 3, 4]) == [(1, 2, 3), (2, 3, 0), (3, 4, 1), (4, 5, 1)]
    # Edges in binary fractions: 0.15 / 0.05 is a little less than 3, and yet 0.15 begins a bin.
    assert bins([0.05, 0.15, 0.3, None, float("nan")], 5, tail=0) == [
        (0.05, 0.1, 1), (0.1, 0.15, 0), (0.15, 0.2, 1), (0.2, 0.25, 0), (0.25, 0.3, 1),
    ]  # fmt: skip
    assert bins([-7, 12], 4) == [(-10, -5, 1), (-5, 0, 0), (0, 5, 0), (5, 10, 0), (10, 15, 1)]
    assert bins([3.0, 3.0]) == [(3, 4, 2)]
    assert bins([], 4) == bins([None, None], 4) == []


def test_the_tail_has_a_bin_of_its_own():
    values = [-500, *range(100), *range(100), 1_000_000]
    found = bins(values, 10)
    assert found[0] == (-500, 0, 1) and found[-1] == (100, 1_000_000, 1)
    assert found[1:-1] == [(low, low + 10, 20) for low in range(0, 100, 10)]
    assert len(bins(values, 10, tail=0)) < 12 and sum(rows for *_, rows in bins(values, 10, tail=0)) == len(values)


@pytest.mark.parametrize("wrong", [{"bins": 0}, {"tail": 0.5}, {"tail": -0.1}])
def test_bins_that_there_cannot_be(wrong):
    with pytest.raises(ValueError, match="expected bins"):
        histogram(pl.DataFrame({"x": [1]}), "x", **wrong)


def test_histograms_leave_out_what_is_not_there():
    found = histograms(measure(table(ROWS)))
    assert found["chosen minus rejected, characters"]["rows"].sum() == 4
    assert found["margin"].filter(pl.col("rows") > 0).select("low", "rows").rows() == [
        (0.25, 1),
        (0.7, 1),
    ]  # the last bin holds its end
    none = histograms(measure(table(ROWS).with_columns(margin=pl.lit(None, pl.Float64))))
    assert "margin" not in none and len(none) == 5


@pytest.mark.parametrize("columns", [100, 160])
def test_the_command_fits_the_terminal_and_writes_numbers(tmp_path, capsys, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    file, out = tmp_path / "pairs.parquet", tmp_path / "stats.json"
    artifact.write_table(table(ROWS), file, PREFERENCE)
    assert cli.main(["stats", str(file), "--by", "source", "--by", "split", "--bins", "5", "--json", str(out)]) == 0
    said = capsys.readouterr().out
    assert max(map(len, said.splitlines())) <= columns
    assert "human 2, gpt-4 1" in said and "4 pairs by split" in said
    assert "chosen minus rejected, characters" in said and "scripts of prompts: Latin 3, Cyrillic 1" in said
    numbers = json.loads(out.read_text())
    assert [row["split"] for row in numbers["by"]["split"]] == [None, "test", "train", "all"]
    assert numbers["by"]["source"][-1]["longer_chosen"] == 0.375
    assert numbers["histograms"]["turns of a prompt"] == [
        {"low": low, "high": low + 1, "rows": rows} for low, rows in ((1.0, 3), (2.0, 0), (3.0, 1))
    ]
    assert artifact.read_json(tmp_path / "stats.json.manifest.json")["counts"] == {"read": 4}


def test_numbers_that_are_none_are_in_no_bin():
    margins = [0.5, None, float("nan"), float("inf"), -float("inf"), 1e308]
    counted = histogram(pl.DataFrame({"margin": margins}), "margin", 5)
    assert counted["rows"].sum() == 1


def test_pieces_change_nothing(monkeypatch):
    rng = random.Random(1)
    names = "abcd"
    rows = [
        (rng.choice("xy"), f"q{rng.randrange(40)}", *rng.sample(names, 2), {"margin": rng.random()}) for _ in range(400)
    ]
    measured = measure(table(rows))
    whole = [label_noise(measured), label_noise(measured, "source"), summary(measured)]
    assert whole[0].filter(sign="in_circle")["rows"].item() > 0
    monkeypatch.setattr(measures, "_AT_ONCE", 30)
    pieces = [label_noise(measured), label_noise(measured, "source"), summary(measured)]
    for one, other in zip(whole, pieces, strict=True):
        assert_frame_equal(one, other)
