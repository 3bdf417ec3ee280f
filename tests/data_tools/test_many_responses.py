"""Prompts of many responses give so many pairs and no more, always the same, and the others are counted."""

import json
import random

import polars as pl
import pytest

from data_tools import sources
from data_tools.sources import _rows, _together, trl_unpaired
from tests.data_tools.test_cli import runs


def read(path, most):
    reading = sources.Reading(path, most_pairs=most)
    batches = [reading.batch(chunk) for chunk in reading.chunks()]
    assert not [row for batch in batches for row in batch.broken]
    left_out = {}
    for batch in batches:
        for why, n in batch.left_out.items():
            left_out[why] = left_out.get(why, 0) + n
    return pl.concat([batch.frame for batch in batches]), left_out


def lines(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def best_of(n, m, id="x"):
    rows = {"id": id, "prompt": "q", "chosen": [f"c{i}" for i in range(n)], "rejected": [f"r{i}" for i in range(m)]}
    return {**rows, "num_correct": n, "total_completions": n + m, "subset": "Ties"}


def test_each_with_each_is_drawn_beyond_the_limit(tmp_path):
    small, large = best_of(2, 3, "small"), best_of(300, 200, "large")
    frame, left_out = read(lines(tmp_path / "x.jsonl", [large, small]), 40)
    assert left_out == {_rows.OVER: 300 * 200 - 40} and frame.height == 46
    drawn = frame.filter(pl.col("group_id") == "rewardbench2/large")
    assert drawn["pair_id"].n_unique() == 40
    for pair, chosen, rejected in drawn.select("pair_id", "chosen", "rejected").iter_rows():
        assert pair == f"rewardbench2/large/{chosen[1:]}-{rejected[1:]}"
    # Neither place nor neighbours matter.
    again, _ = read(lines(tmp_path / "y.jsonl", [large]), 40)
    assert again.drop("source").equals(drawn.drop("source"))
    whole, left_out = read(lines(tmp_path / "z.jsonl", [small, large]), 60_000)
    assert whole.height == 60_006 and not left_out


def test_ranked_responses_are_drawn_beyond_the_limit(tmp_path):
    frame = pl.LazyFrame(
        {
            "_row": [1, 2],
            "_id": ["a", "b"],
            "all": [[{"text": str(i), "score": float(i // 2)} for i in range(n)] for n in (50, 3)],
        }
    )
    found = _rows.ranked(frame, "all", "_id", 100).collect()
    counted = found.filter(pl.col(_rows.LEFT_OUT) == _rows.OVER)
    assert counted[_rows.TIMES].to_list() == [50 * 49 // 2 - 100]
    pairs = found.filter(pl.col(_rows.TIMES).is_null())
    assert pairs.group_by("_id", maintain_order=True).len().rows() == [("a", 100), ("b", 3)]
    for chosen, rejected, i, j, why in pairs.select("chosen", "rejected", "_i", "_j", _rows.LEFT_OUT).iter_rows():
        if why == _rows.TIE:
            assert i // 2 == j // 2
        else:
            assert (chosen, rejected) == (str(i), str(j)) and i // 2 > j // 2


@pytest.mark.parametrize(("pairs", "most"), [(300, 299), (300, 1), (1_000_000, 7), (10, 5)])
def test_so_many_are_drawn(pairs, most):
    found = _rows.drawn("some row", pairs, most)
    assert len(found) == len(set(found)) == most and found == sorted(found) and found[0] >= 0 and found[-1] < pairs


def unpaired(prompts, good, bad):
    rows = [
        {"prompt": f"q{p}", "completion": f"{side}{i}", "label": side == "c"}
        for p in range(prompts) for side, n in (("c", good), ("r", bad)) for i in range(n)
    ]  # fmt: skip
    random.Random(0).shuffle(rows)
    return rows


def test_unpaired_completions_are_drawn_beyond_the_limit(tmp_path, capsys):
    path = lines(tmp_path / "x.jsonl", [*unpaired(1, 30, 20), {"prompt": "p", "completion": "c", "label": True},
                                        {"prompt": "p", "completion": "r", "label": False}])  # fmt: skip
    frame, left_out = read(path, 50)
    assert left_out == {_rows.OVER: 550} and frame.height == 51
    assert frame.select("prompt", "chosen", "rejected").n_unique() == 51
    none = ("--validation", 0, "--test", 0)
    said = runs(capsys, "ingest", path, "--out", tmp_path / "out", "--max-pairs-per-prompt", 50, *none)
    assert f"left out: {_rows.OVER}" in said and "550" in said


@pytest.mark.parametrize("most", [50, 256])
def test_unpaired_completions_of_equal_texts_count_once(tmp_path, most):
    rows = [
        {"prompt": "q", "completion": f"{side}{i % texts}", "label": side == "c", "source": f"s{i}"}
        for side, texts in (("c", 3), ("r", 2)) for i in range(10)
    ]  # fmt: skip
    alone = {"prompt": "p", "completion": "c0", "label": True}
    frame, left_out = read(lines(tmp_path / "x.jsonl", [*rows, alone, alone]), most)
    assert set(frame.select("chosen", "rejected").rows()) == {(f"c{i}", f"r{j}") for i in range(3) for j in range(2)}
    assert frame.height == 6 and set(frame["source"]) == {"s0", "s1", "s2"}  # of equals the first
    assert left_out == {trl_unpaired.AGAIN: 7 + 8, _rows.ALONE: 2}


def test_what_belongs_together_is_found_in_files_of_any_size(tmp_path, monkeypatch):
    rows = unpaired(40, 3, 2)
    rows += [{"prompt": "alone", "completion": "c", "label": True}, {"prompt": "q1", "completion": "c", "label": None}]
    path = lines(tmp_path / "x.jsonl", rows)
    path.write_text(path.read_text() + "no row\n")

    def found():
        reading = sources.Reading(path, chunk=4000, scratch=tmp_path)
        chunks = list(reading.chunks())
        batches = [reading.batch(chunk) for chunk in chunks]
        frame = pl.concat([batch.frame for batch in batches]).sort("pair_id")
        broken = sorted(row.row for batch in batches for row in batch.broken)
        return len(chunks), frame, broken, sum(batch.left_out.get(_rows.ALONE, 0) for batch in batches)

    one, whole, broken, alone = found()
    assert (one, whole.height, broken, alone) == (1, 240, [202, 203], 1)
    monkeypatch.setattr(_together, "_BUCKET", 1000)
    several, frame, *others = found()
    assert several > 5 and frame.equals(whole) and others == [broken, alone]
    assert [file.name for file in tmp_path.iterdir()] == ["x.jsonl"]
