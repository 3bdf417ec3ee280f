"""Rationales of any model from a file: what is read, what counts, and which line is wrong."""

import json

import polars as pl
import pytest

from data_tools.artifact import write_table
from data_tools.errors import UserError
from data_tools.rationales import read
from data_tools.schema import JUDGMENT, conform

LINES = [
    {"pair_id": "p0", "swapped": False, "rationale": "A is short.\nVerdict: [[A]]", "verdict": "A", "model": "any"},
    {"pair_id": "p0", "swapped": False, "rationale": "B <|im_end|> is long.", "verdict": "B"},
    {"pair_id": "p0", "swapped": True, "rationale": "neither", "verdict": "tie"},
]


def test_json_lines(tmp_path):
    file = tmp_path / "r.jsonl"
    file.write_text("\n\n".join(map(json.dumps, LINES)))
    table, invalid = read(file)
    assert invalid == 1 and table.schema == JUDGMENT
    shown = table.select("rationale", "verdict", "vote", "sample_index").rows()
    assert shown == [("A is short.", "A", "A", 0), ("B <|im_end|> is long.", "B", "B", 1)]
    assert table["token_ids"].null_count() == table["p_a"].null_count() == 2


def test_a_table_of_judgments_gives_its_text_alone(tmp_path):
    """Its ids are of a tokenizer that no file names; its vote may have been forced, the verdict is what it says."""
    rows = [{**line, "token_ids": [5, 6], "vote": "A", "p_a": 0.9, "sample_index": 4, "judge": "70B"} for line in LINES]
    rows[2]["verdict"] = "INVALID"
    file = tmp_path / "r.parquet"
    write_table(conform(pl.DataFrame(rows), JUDGMENT), file, JUDGMENT)
    table, invalid = read(file)
    assert invalid == 1 and table["vote"].to_list() == ["A", "B"] and table["sample_index"].to_list() == [0, 1]
    assert table["token_ids"].null_count() == 2 and table["judge"].to_list() == ["70B", "70B"]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "line 2: not valid JSON"),
        ("[]", "line 2: not an object"),
        (json.dumps({**LINES[0], "swapped": 0}), "line 2: 'swapped' is 0; it should be true or false"),
        (json.dumps({k: v for k, v in LINES[0].items() if k != "verdict"}), "line 2: 'verdict' is missing"),
    ],
)
def test_a_line_that_is_wrong(tmp_path, line, said):
    file = tmp_path / "r.jsonl"
    file.write_text(f"{json.dumps(LINES[0])}\n{line}\n")
    with pytest.raises(UserError, match=said):
        read(file)


def test_what_is_no_file_of_rationales(tmp_path):
    (tmp_path / "r.jsonl").write_bytes(b"\xff\xfe\x00")
    for name, said in (("r.jsonl", "not UTF-8"), ("none.jsonl", "no such file"), ("none.parquet", "no such file")):
        with pytest.raises(UserError, match=said):
            read(tmp_path / name)
