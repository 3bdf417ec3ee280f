"""Reading pairs that nobody has labelled."""

import json
from dataclasses import dataclass

import polars as pl
import pytest

from data_tools.artifact import read_table
from data_tools.errors import UserError
from data_tools.schema import PREFERENCE
from data_tools.split import sample
from data_tools.unlabelled import Unlabelled, read_unlabelled

TURNS = [{"role": "user", "content": "Hi"}]


def file(folder, *rows, name="pairs.jsonl"):
    (folder / name).write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return folder / name


@dataclass
class Read:
    """What was read, in memory: the pairs of all blocks, the broken rows."""

    of: Unlabelled
    pairs: pl.DataFrame
    broken: list[dict]


@pytest.fixture
def load(tmp_path_factory):
    def load(paths, **options):
        of = read_unlabelled(paths, tmp_path_factory.mktemp("read"), **options)
        pairs = pl.concat([read_table(block, PREFERENCE) for block in of.blocks])
        broken = [json.loads(line) for line in of.broken.read_text().splitlines()]
        assert (len(pairs), len(broken)) == (of.n_pairs, of.n_broken)
        left = {path.name for path in of.broken.parent.iterdir()}
        assert left == {of.broken.name, *(block.name for block in of.blocks)}
        return Read(of, pairs, broken)

    return load


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "Hi", "response_a": "one", "response_b": "two"},
        {"prompt": TURNS, "response_1": "one", "response_2": "two"},
        {"prompt": "Hi", "output_1": "one", "output_2": "two"},
        {"prompt": TURNS, "responses": ["one", "two"]},
        {"prompt": "Hi", "responses": [[{"role": "assistant", "content": text}] for text in ("one", "two")]},
        {
            "prompt": "Hi",
            "response_a": [{"role": "assistant", "content": "one"}],
            "response_b": [{"role": "assistant", "content": "two"}],
        },
    ],
)
def test_shapes_of_a_row(tmp_path, load, row):
    (found,) = load([file(tmp_path, {**row, "id": "x", "source": "s", "category": "c"})]).pairs.to_dicts()
    assert (found["pair_id"], found["source"], found["category"]) == ("x", "s", "c")
    assert (found["prompt"], found["chosen"], found["rejected"]) == (TURNS, "one", "two")


def test_ids_are_hashes_of_the_content(tmp_path, load):
    row = {"prompt": "Hi", "response_a": "one", "response_b": "two"}
    first = load([file(tmp_path, row)]).pairs
    again = load([file(tmp_path, {**row, "response_a": "three"}, row, name="other.jsonl")]).pairs
    assert first.schema == PREFERENCE and first["pair_id"][0] == again["pair_id"][1] != again["pair_id"][0]
    assert again["source"].to_list() == ["other", "other"]


def test_broken_rows_are_told(tmp_path, load):
    row = {"prompt": "Hi", "responses": ["one", "two"]}
    bad = [{**row, "responses": ["a"]}, {**row, "responses": ["a", "b", "c"]}, {**row, "responses": ["a", "a"]}]
    found = load([file(tmp_path, row, *bad, {**row, "prompt": None}, "{")])
    assert len(found.pairs) == 1
    assert [row["row"] for row in found.broken] == [2, 3, 4, 5, 6]
    said = [row["detail"] for row in found.broken]
    assert "not two responses" in said[0] and "not two responses" in said[1] and "the same" in said[2]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"prompt": "Hi", "responses": ["a", "b", "c"]}, "3 responses, a pair has two; more are ranked"),
        ({"prompt": "Hi", "chosen": "a", "rejected": "b"}, "labelled already"),
        ({"question": "Hi", "response_a": "a", "response_b": "b"}, "needed: prompt and response_a, response_b;"),
        ({"prompt": "Hi", "responses": ["a", "a"]}, "no pair to label; the first of 1 broken rows: line 1"),
    ],
)
def test_what_is_no_pair(tmp_path, load, row, said):
    with pytest.raises(UserError) as error:
        load([file(tmp_path, row)])
    assert said in str(error.value) and "pairs.jsonl" in str(error.value)


def test_repeats_without_ids_are_counted(tmp_path, load):
    row = {"prompt": "Hi", "responses": ["one", "two"], "label_kind": "human"}
    found = load(path for path in [file(tmp_path, row, row, {**row, "prompt": "Ho"})])
    assert (len(found.pairs), found.of.repeats) == (2, 1) and found.pairs["label_kind"].null_count() == 2


def test_a_first_row_with_a_null_tells_no_shape(tmp_path, load):
    row = {"prompt": "Hi", "responses": ["one", "two"]}
    found = load([file(tmp_path, {**row, "responses": ["one", None]}, row)])
    assert len(found.pairs) == 1 and [row["row"] for row in found.broken] == [1]


def test_an_id_twice(tmp_path, load):
    row = {"id": "x", "prompt": "Hi", "responses": ["one", "two"]}
    with pytest.raises(UserError, match="id 'x' stands for several rows"):
        load([file(tmp_path, row, {**row, "prompt": "Ho"})])


def test_blocks_hold_what_one_block_holds(tmp_path, load, monkeypatch):
    """Cut into blocks by id, over files, chunks, repeats and broken rows, the pairs are the same."""
    rows = [{"prompt": f"Hi {i}", "responses": [f"one {i % 7}", "two"]} for i in range(40)]
    first = file(tmp_path, *rows[:25], "{", *rows[5:10])
    second = file(tmp_path, *({**row, "id": f"x{i}"} for i, row in enumerate(rows[25:])), name="other.jsonl")
    one = load([first, second])
    assert (len(one.of.blocks), len(one.pairs), one.of.repeats, one.of.n_broken) == (1, 40, 5, 1)
    assert one.pairs["prompt"].list.first().struct.field("content").to_list() == [f"Hi {i}" for i in range(40)]
    monkeypatch.setattr("data_tools.unlabelled._CHUNK", 200)
    for most in (256, 2):  # with two files open at once a bucket holds several blocks
        monkeypatch.setattr("data_tools.unlabelled.MOST", most)
        several = load([first, second], at_once=7)
        assert [len(read_table(block, PREFERENCE)) for block in several.of.blocks] == [7, 7, 7, 7, 7, 5]
        assert several.pairs.equals(one.pairs.sort("pair_id")) and several.broken == one.broken
        assert several.of.repeats == 5
    some = load([first, second], rows=9, at_once=4)
    assert some.pairs.equals(sample(one.pairs, 9).sort("pair_id"))
    with pytest.raises(UserError, match="--rows: 0 is not above 0"):
        load([first], rows=0)
