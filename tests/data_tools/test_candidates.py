"""Reading prompts with several responses."""

import json

import pytest

from data_tools.candidates import CANDIDATES, load_candidates
from data_tools.errors import UserError

TURNS = [{"role": "user", "content": "Hi"}]
TEXTS = ["one", "two\nlines", 'three "quoted" \\ and é', ""]


def file(folder, *rows, name="x.jsonl"):
    (folder / name).write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return folder / name


@pytest.mark.parametrize("turns", [False, True])
def test_a_row_a_response(tmp_path, turns):
    responses = [[{"role": "assistant", "content": text}] for text in TEXTS] if turns else TEXTS
    rows = [
        {"id": "a", "prompt": "Hi", "responses": responses},
        {"id": "b", "prompt": "Ho", "responses": responses[:1]},
    ]
    found = load_candidates([file(tmp_path, *rows)])
    assert found.rows.schema == CANDIDATES and not found.broken
    rows = found.rows.to_dicts()
    assert [(row["group_id"], row["candidate"], row["response"]) for row in rows] == [
        *(("a", i, text) for i, text in enumerate(TEXTS)), ("b", 0, "one"),
    ]  # fmt: skip
    assert rows[0]["prompt"] == TURNS


def test_broken_rows_are_told(tmp_path):
    row = {"prompt": "Hi", "responses": ["one", "two"]}
    bad = [
        {**row, "responses": []},
        {**row, "responses": None},
        {**row, "responses": ["a", None]},
        {**row, "prompt": None},
    ]
    found = load_candidates([file(tmp_path, row, *bad, "{")])
    assert len(found.rows) == 2 and [broken.row for _, broken in found.broken] == [2, 3, 4, 5, 6]
    assert "holds what is no response" in found.broken[0][1].detail


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([{"prompt": "Hi", "response": "a"}], "needed: prompt and responses, a list"),
        ([{"prompt": "Hi", "responses": []}], "no candidates to rank; the first of 1 broken rows"),
        ([{"id": "x", "prompt": p, "responses": ["a", "b"]} for p in ("Hi", "Ho")], "id 'x' stands for several"),
    ],
)
def test_what_is_no_candidate(tmp_path, rows, said):
    with pytest.raises(UserError, match=said):
        load_candidates([file(tmp_path, *rows)])


def test_repeats_without_ids_are_counted(tmp_path):
    row = {"prompt": "Hi", "responses": ["one", "two"]}
    found = load_candidates([file(tmp_path, {**row, "responses": ["one", None]}, row, row)])
    assert (len(found.rows), found.repeats) == (2, 1) and [broken.row for _, broken in found.broken] == [1]
