"""Rationales of any model from a file: what is read, what counts, and which line is wrong."""

import json

import polars as pl
import pytest

from data_tools import verifiable
from data_tools.__main__ import main
from data_tools.artifact import write_table
from data_tools.errors import UserError
from data_tools.judging import Verdict, hint
from data_tools.order import chosen_is_a
from data_tools.rationales import read
from data_tools.schema import JUDGMENT, PREFERENCE, conform
from data_tools.told import is_right

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
        ("{", "line 2 is not valid JSON"),
        ("[]", "line 2 is not a JSON object"),
        ("[" * 100_000, "line 2 is nested too deeply"),
        (json.dumps({**LINES[0], "n": 0})[:-2] + "1" * 5000 + "}", "line 2 holds a number of thousands of digits"),
        (json.dumps({**LINES[0], "rationale": "\ud800"}), "line 2 holds half a character"),
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


@pytest.mark.parametrize("told", [None, "right", "wrong"])
def test_prompts_out_and_answers_in(tmp_path, capsys, told):
    """What another model is asked is what ours would be, and its answers come back to the same places."""
    pairs = verifiable.build(4, 0, 2)["train"]
    write_table(pairs, tmp_path / "train.parquet", PREFERENCE)
    out = tmp_path / "prompts.jsonl"
    argv = ["prompts", str(tmp_path / "train.parquet"), "--out", str(out), "--template", "brief"]
    assert main([*argv, *(["--told", told] if told else [])]) == 0
    assert "8 prompts" in capsys.readouterr().out
    asked = [json.loads(line) for line in out.read_text().splitlines()]
    assert {(one["pair_id"], one["swapped"]) for one in asked} == {
        (pair, swapped) for pair in pairs["pair_id"] for swapped in (False, True)
    }
    for one in asked:
        right = Verdict.A if chosen_is_a(one["pair_id"], one["swapped"]) else Verdict.B
        shown = [letter for letter in (Verdict.A, Verdict.B) if hint("brief", letter) in one["messages"][-1]["content"]]
        assert [letter is right for letter in shown] == ([] if told is None else [told == "right"])
        one |= {"rationale": "because", "verdict": str(right)}
    out.write_text("\n".join(map(json.dumps, asked)))
    table, invalid = read(out)
    assert (table.height, invalid) == (8, 0) and is_right(table).all()
