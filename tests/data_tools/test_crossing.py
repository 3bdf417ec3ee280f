import polars as pl

from data_tools.crossing import CROSSING, overlapping_prompts, shared_prompts, sides
from data_tools.schema import PREFERENCE, conform

TEN = "a b c d e f g h i j"


def table(rows):
    """rows: (pair_id, prompt text, split)"""
    records = [
        {"pair_id": i, "prompt": [{"role": "user", "content": q}], "chosen": "x", "rejected": "y", "split": split}
        for i, q, split in rows
    ]
    schema = {name: PREFERENCE[name] for name in ("pair_id", "prompt", "chosen", "rejected", "split")}
    return conform(pl.DataFrame(records, schema=schema), PREFERENCE).lazy()


ONE = table(
    [
        ("t1", "Same  thing", "train"),
        ("t2", "same thing ", "train"),
        ("t0", "other", "train"),
        ("v", "own", "validation"),
    ]
)
TWO = table([("e1", "SAME thing", "test"), ("e2", "own", "test"), ("n", "other", None), ("t3", f"{TEN} k", "train")])


def ids(of):
    return {name: rows.collect()["pair_id"].to_list() for name, rows in of.items()}


def test_sides():
    tables = {"two": TWO, "one": ONE}
    assert ids(sides(tables)) == {
        "train": ["t3", "t1", "t2", "t0"],
        "validation": ["v"],
        "test": ["e1", "e2"],
        "two (no split)": ["n"],
    }
    assert ids(sides(tables, by_file=True)) == {
        "two (train)": ["t3"],
        "two (test)": ["e1", "e2"],
        "two (no split)": ["n"],
        "one (train)": ["t1", "t2", "t0"],
        "one (validation)": ["v"],
    }
    assert list(sides(tables)) == ["train", "validation", "test", "two (no split)"]
    assert sides({"none": table([])}) == {}


def test_shared_prompts():
    assert shared_prompts(sides({"one": ONE, "two": TWO})).rows() == [
        ("train", "test", 1, 2, 1, "t1", "e1", "Same  thing"),
        ("train", "two (no split)", 1, 1, 1, "t0", "n", "other"),
        ("validation", "test", 1, 1, 1, "v", "e2", "own"),
    ]
    assert shared_prompts({"one": ONE}).is_empty()


def test_overlapping_prompts():
    evaluation = table([("e", f"{TEN} x y z", "test"), ("f", "q", "test")])
    found = overlapping_prompts(sides({"two": TWO, "e": evaluation}))
    assert found.schema == CROSSING
    assert found.rows() == [("train", "test", 1, 1, None, "t3", "e", TEN)]
    assert overlapping_prompts(sides({"two": TWO, "e": evaluation}), coverage=0.9).is_empty()
