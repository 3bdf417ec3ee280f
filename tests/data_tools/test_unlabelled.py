"""Reading pairs that nobody has labelled."""

import json

import pytest

from data_tools.errors import UserError
from data_tools.schema import PREFERENCE
from data_tools.unlabelled import load_unlabelled

TURNS = [{"role": "user", "content": "Hi"}]


def file(folder, *rows, name="pairs.jsonl"):
    (folder / name).write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return folder / name


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
def test_shapes_of_a_row(tmp_path, row):
    (found,) = load_unlabelled([file(tmp_path, {**row, "id": "x", "source": "s", "category": "c"})]).pairs.to_dicts()
    assert (found["pair_id"], found["source"], found["category"]) == ("x", "s", "c")
    assert (found["prompt"], found["chosen"], found["rejected"]) == (TURNS, "one", "two")


def test_ids_are_hashes_of_the_content(tmp_path):
    row = {"prompt": "Hi", "response_a": "one", "response_b": "two"}
    first = load_unlabelled([file(tmp_path, row)]).pairs
    again = load_unlabelled([file(tmp_path, {**row, "response_a": "three"}, row, name="other.jsonl")]).pairs
    assert first.schema == PREFERENCE and first["pair_id"][0] == again["pair_id"][1] != again["pair_id"][0]
    assert again["source"].to_list() == ["other", "other"]


def test_broken_rows_are_told(tmp_path):
    row = {"prompt": "Hi", "responses": ["one", "two"]}
    bad = [{**row, "responses": ["a"]}, {**row, "responses": ["a", "b", "c"]}, {**row, "responses": ["a", "a"]}]
    found = load_unlabelled([file(tmp_path, row, *bad, {**row, "prompt": None}, "{")])
    assert len(found.pairs) == 1
    assert [broken.row for _, broken in found.broken] == [2, 3, 4, 5, 6]
    said = [broken.detail for _, broken in found.broken]
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
def test_what_is_no_pair(tmp_path, row, said):
    with pytest.raises(UserError) as error:
        load_unlabelled([file(tmp_path, row)])
    assert said in str(error.value) and "pairs.jsonl" in str(error.value)


def test_repeats_without_ids_are_counted(tmp_path):
    row = {"prompt": "Hi", "responses": ["one", "two"], "label_kind": "human"}
    found = load_unlabelled(path for path in [file(tmp_path, row, row, {**row, "prompt": "Ho"})])
    assert (len(found.pairs), found.repeats) == (2, 1) and found.pairs["label_kind"].null_count() == 2


def test_a_first_row_with_a_null_tells_no_shape(tmp_path):
    row = {"prompt": "Hi", "responses": ["one", "two"]}
    found = load_unlabelled([file(tmp_path, {**row, "responses": ["one", None]}, row)])
    assert len(found.pairs) == 1 and [broken.row for _, broken in found.broken] == [1]


def test_an_id_twice(tmp_path):
    row = {"id": "x", "prompt": "Hi", "responses": ["one", "two"]}
    with pytest.raises(UserError, match="id 'x' stands for several rows"):
        load_unlabelled([file(tmp_path, row, {**row, "prompt": "Ho"})])
