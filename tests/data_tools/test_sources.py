import gzip
import json

import polars as pl
import pytest

from data_tools import sources
from data_tools.errors import UserError
from data_tools.order import hash64
from data_tools.schema import PREFERENCE
from tests.data_tools.raw import error


def user(text):
    return {"role": "user", "content": text}


def assistant(text):
    return {"role": "assistant", "content": text}


PAIRS = [
    {
        "id": f"p{i}",
        "source": "s",
        "category": None if i else "chat",
        "subset": None,
        "prompt": [{"role": "system", "content": "Be brief."}, user("a"), assistant("b"), user(f"q{i}")]
        if i == 4
        else [user(f"q{i}")],
        "chosen": "c [[A]]",
        "rejected": '["r"]',
        "label_kind": "human",
        "margin": 0.5 if i == 1 else None,
        "split": ("train", "validation", "test")[i % 3],
    }
    for i in range(5)
]
TRL = [
    {"prompt": "q", "chosen": "c", "rejected": "r"},
    {"prompt": "q2", "chosen": "c", "rejected": "r", "margin": 2},
    {"prompt": "q3", "chosen": "c", "rejected": "r", "margin": 4, "label_kind": "human"},
    {"prompt": "q4", "chosen": "c", "rejected": "r", "split": "test"},
    {"prompt": "q5", "chosen": "c\n", "rejected": ""},
]


def write(path, rows, newline="\n"):
    lines = [row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows]
    data = "".join(line + newline for line in lines).encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


@pytest.mark.parametrize("name", ["five.jsonl", "five.jsonl.gz", "odd [1]* name.jsonl"])
def test_pairs(tmp_path, name):
    frame = sources.read(write(tmp_path / name, PAIRS))
    assert frame.schema == PREFERENCE
    expected = [{**row, "pair_id": row["id"], "group_id": None} for row in PAIRS]
    assert frame.to_dicts() == [{name: row[name] for name in PREFERENCE} for row in expected]


def test_blank_lines_and_windows_line_ends_are_fine(tmp_path):
    frame = sources.read(write(tmp_path / "x.jsonl", ["", *PAIRS[:2], "  ", *PAIRS[2:]], newline="\r\n"))
    assert frame["pair_id"].to_list() == ["p0", "p1", "p2", "p3", "p4"]


def test_the_format_is_told_by_the_first_row(tmp_path):
    assert sources.format_of(write(tmp_path / "a.jsonl", PAIRS)) is sources.formats()["pairs"]
    assert sources.format_of(write(tmp_path / "b.jsonl", TRL)) is sources.formats()["trl"]
    said = error(write(tmp_path / "c.jsonl", [{"prompt": "q", "winner": "c"}]))
    assert said.startswith("the first row has prompt, winner, which fits no known format; rename its keys, or name")
    assert "; trl (chosen, rejected); trl_unpaired (prompt, completion, label); " in said
    assert "ms_swift (messages, rejected_response or rejected_messages)" in said
    with pytest.raises(UserError, match="format 'csv' is unknown; there are: auto, chat_arena, .*, trl, trl_unpaired"):
        sources.read(tmp_path / "a.jsonl", "csv")


def test_a_row_of_several_formats_is_refused_unless_one_is_named(tmp_path):
    swift = {"messages": [user("q"), assistant("c")], "rejected_response": "r2"}
    path = write(tmp_path / "x.jsonl", [{**TRL[0], **swift}])
    assert error(path) == (
        "the first row has prompt, chosen, rejected, messages, rejected_response, and fits several formats: "
        "ms_swift, trl; say which with --format"
    )
    assert sources.read(path, "trl")["rejected"].to_list() == ["r"]
    assert sources.read(path, "ms_swift")["rejected"].to_list() == ["r2"]


def test_a_named_format_needs_its_keys(tmp_path):
    said = error(write(tmp_path / "x.jsonl", TRL), "llmbar")
    assert said == "the first row has prompt, chosen, rejected; format llmbar needs input, output_1, output_2, label"


def test_a_table_already_ingested_is_no_raw_file(tmp_path):
    path = write(tmp_path / "x.jsonl", sources.read(write(tmp_path / "raw.jsonl", PAIRS)).to_dicts())
    assert error(path) == "is a table already ingested; use clean or split"


def test_trl_standard(tmp_path):
    frame = sources.read(write(tmp_path / "mine.v1.jsonl.gz", TRL))
    assert frame["prompt"].to_list() == [[user(q)] for q in ("q", "q2", "q3", "q4", "q5")]
    assert frame["chosen"].to_list() == ["c"] * 4 + ["c\n"]
    assert frame["margin"].to_list() == [None, 0.5, 1.0, None, None]  # 2 and 4 by the largest
    assert frame["source"].to_list() == ["mine"] * 5
    assert frame["split"].to_list() == [None, None, None, "test", None]
    assert frame["label_kind"][2] == "human"


def test_margins_up_to_one_stay(tmp_path):
    rows = [{**TRL[0], "margin": 0.25}, {**TRL[1], "margin": 0.5}]
    assert sources.read(write(tmp_path / "x.jsonl", rows))["margin"].to_list() == [0.25, 0.5]


def test_a_trl_row_without_an_id_has_one_from_its_content(tmp_path):
    ids = sources.read(write(tmp_path / "a.jsonl", TRL))["pair_id"]
    assert ids[0] == f"{hash64('pair', chr(0x1D).join(['user' + chr(0x1F) + 'q', 'c', 'r'])):016x}"
    assert ids.n_unique() == 5
    assert sources.read(write(tmp_path / "b.jsonl", TRL[::-1]))["pair_id"].to_list() == ids.to_list()[::-1]


def test_a_trl_row_with_an_id_keeps_it(tmp_path):
    rows = [{**row, "id": i} for i, row in enumerate(TRL)]
    assert sources.read(write(tmp_path / "a.jsonl", rows))["pair_id"].to_list() == ["0", "1", "2", "3", "4"]
    del rows[3]["id"]
    assert error(write(tmp_path / "b.jsonl", rows)).startswith("line 4: key 'id' is missing, but the first row has one")


TURNS = [{"role": "system", "content": "s"}, user("q"), assistant("a"), user("q2")]


@pytest.mark.parametrize(
    ("row", "prompt"),
    [
        ({"prompt": TURNS, "chosen": [assistant("c")], "rejected": [assistant("r")]}, TURNS),
        ({"prompt": TURNS, "chosen": "c", "rejected": "r"}, TURNS),
        ({"prompt": "q", "chosen": [assistant("c")], "rejected": [assistant("r")]}, [user("q")]),
        ({"chosen": [*TURNS, assistant("c")], "rejected": [*TURNS, assistant("r")]}, TURNS),
        ({"prompt": "ignored", "chosen": [*TURNS, assistant("c")], "rejected": [*TURNS, assistant("r")]}, TURNS),
        ({"prompt": None, "chosen": [user("q"), assistant("c")], "rejected": [user("q"), assistant("r")]}, [user("q")]),
        (
            {
                "prompt": [user("q")],
                "chosen": [assistant("a"), user("q2"), assistant("c")],
                "rejected": [assistant("a"), user("q2"), assistant("r")],
            },
            [user("q"), assistant("a"), user("q2")],
        ),
        # Turns that go on with the prompt, a user's first: the prompt is not said again and must not be lost.
        (
            {
                "prompt": [user("q"), assistant("a")],
                "chosen": [user("q2"), assistant("c")],
                "rejected": [user("q2"), assistant("r")],
            },
            [user("q"), assistant("a"), user("q2")],
        ),
        (
            {
                "prompt": [{"role": "system", "content": "s"}],
                "chosen": [user("q"), assistant("c")],
                "rejected": [user("q"), assistant("r")],
            },
            [{"role": "system", "content": "s"}, user("q")],
        ),
        # Whole conversations that begin with the prompt: it is not doubled.
        ({"prompt": TURNS, "chosen": [*TURNS, assistant("c")], "rejected": [*TURNS, assistant("r")]}, TURNS),
        ({"prompt": TURNS[:2], "chosen": [*TURNS, assistant("c")], "rejected": [*TURNS, assistant("r")]}, TURNS),
    ],
)
def test_trl_conversational(tmp_path, row, prompt):
    frame = sources.read(write(tmp_path / "x.jsonl", [row] * 5))
    assert frame["prompt"].to_list() == [prompt] * 5
    assert frame.select("chosen", "rejected").rows() == [("c", "r")] * 5


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"chosen": "c", "rejected": "r"}, "there is no prompt"),
        ({"chosen": [assistant("c")], "rejected": [assistant("r")]}, "there is no prompt"),
        ({"chosen": [user("q"), assistant("c")], "rejected": [user("Q"), assistant("r")]}, "there is no prompt"),
        ({"prompt": "q", "chosen": [user("c")], "rejected": [assistant("r")]}, "'chosen' is missing, or does not end"),
        ({"prompt": "q", "chosen": [assistant("c")], "rejected": []}, "'rejected' is missing, or does not end"),
        ({"prompt": "q", "chosen": "c", "rejected": None}, "'rejected' is missing"),
        ({"chosen": [user("q"), assistant("c")], "rejected": None}, "'rejected' is missing"),
        ({"chosen": None, "rejected": [user("q"), assistant("r")]}, "'chosen' is missing"),
        ({"prompt": [user("q"), assistant("a")], "chosen": "c", "rejected": "r"}, "the last turn of 'prompt'"),
        (
            {"prompt": [{"role": "human", "content": "q"}], "chosen": "c", "rejected": "r"},
            "a turn of 'prompt' has an unknown role",
        ),
        ({"prompt": "q", "chosen": "c", "rejected": "r", "margin": -1}, "margin is -1.0"),
        ({"prompt": "q", "chosen": "c", "rejected": "r", "split": "dev"}, "split is 'dev'; there are: train, valid"),
    ],
)
def test_trl_rows_that_cannot_be_read(tmp_path, row, said):
    assert error(write(tmp_path / "x.jsonl", ["", row])).startswith(f"line 2: {said}")


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("chosen", [assistant("c")], "key 'chosen' should be a string, found [{"),
        ("rejected", {"content": "r"}, "key 'rejected' should be a string"),
        ("chosen", True, "key 'chosen' should be a string, found true"),
        ("prompt", "q", 'key \'prompt\' should be a list of {"role", "content"} turns, found "q"'),
        ("prompt", [{"role": "user", "content": [{"type": "text", "text": "q"}]}], "key 'prompt' should be a list"),
        ("prompt", [{"role": "user"}], "a turn of 'prompt' lacks 'role' or 'content'"),
        ("prompt", None, "key 'prompt' is missing or null"),
        ("margin", "strong", "key 'margin' should be a number, found \"strong\""),
        ("margin", 1.5, "margin is 1.5, it should be above 0 and at most 1"),
        ("margin", 0, "margin is 0.0"),
        ("split", "dev", "split is 'dev'"),
        ("chosen", None, "key 'chosen' is missing or null"),
        ("id", None, "key 'id' is missing or null"),
    ],
)
def test_a_wrong_value_is_named_with_its_line(tmp_path, key, value, said):
    rows = [*PAIRS[:3], "", {**PAIRS[3], key: value}, PAIRS[4]]
    assert error(write(tmp_path / "x.jsonl", rows)).startswith(f"line 5: {said}")


def test_a_missing_key_is_named_with_its_line(tmp_path):
    row = {key: value for key, value in PAIRS[3].items() if key != "rejected"}
    assert error(write(tmp_path / "x.jsonl", [*PAIRS[:3], row])) == "line 4: key 'rejected' is missing or null"


def test_the_first_bad_line_is_named(tmp_path):
    rows = [PAIRS[0], {**PAIRS[1], "split": "dev"}, {**PAIRS[2], "chosen": None}]
    assert error(write(tmp_path / "x.jsonl", rows)).startswith("line 2: split")


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz"])
@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"id": "x", ', "line 4 is not valid JSON (Expecting property name"),
        (json.dumps(PAIRS[0])[:-20], "line 4 is not valid JSON"),
        ("[1, 2]", "line 4 is not a JSON object"),
        ("null", "line 4 is not a JSON object"),
        (json.dumps(PAIRS[0]) * 2, "line 4 is not valid JSON (Extra data"),
        (
            json.dumps(PAIRS[0]).replace("null", "NaN"),
            "line 4 is not valid JSON (NaN is no JSON number); write null instead",
        ),
        (json.dumps({**PAIRS[0], "margin": -1}).replace("-1", "1" * 5000), "line 4 holds a number of thousands"),
        (json.dumps({**PAIRS[0], "margin": -1}).replace("-1", "1" * 400), "line 4 holds a number out of range"),
        (json.dumps({**PAIRS[0], "margin": -1}).replace("-1", "1e400"), "line 4 holds a number out of range"),
        (json.dumps({**PAIRS[0], "margin": -1}).replace("-1", "[" * 50_000 + "]" * 50_000), "line 4 is nested too"),
        (json.dumps({**PAIRS[0], "chosen": "\ud800x"}), "line 4 holds half a character"),
        (json.dumps({**PAIRS[0], "chosen": "x\udc00"}), "line 4 holds half a character"),
        (json.dumps({**PAIRS[0], "prompt": [user("\udfff.")]}), "line 4 holds half a character"),
    ],
)
def test_a_broken_line_is_named(tmp_path, suffix, line, said):
    assert error(write(tmp_path / f"x{suffix}", [PAIRS[0], "", PAIRS[1], line, PAIRS[2]])).startswith(said)


def test_a_broken_first_line_is_named(tmp_path):
    assert error(write(tmp_path / "x.jsonl", ["{", *PAIRS])).startswith("line 1 is not valid JSON")


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz"])
def test_a_line_that_is_not_utf8_is_named(tmp_path, suffix):
    path = write(tmp_path / "x.jsonl", PAIRS)
    data = path.read_bytes().replace(b'"p3"', b'"p\xff"')
    path = tmp_path / f"y{suffix}"
    path.write_bytes(gzip.compress(data) if suffix.endswith("gz") else data)
    assert error(path).startswith("line 4 is not UTF-8 (byte 10)")


def test_files_that_hold_nothing(tmp_path):
    assert error(tmp_path / "nope.jsonl") == "no such file"
    assert error(tmp_path).startswith("the folder holds no raw files; they end in .jsonl, .ndjson, .jsonl.gz, ")
    assert error(write(tmp_path / "empty.jsonl", [])).startswith("the file is empty")
    assert error(write(tmp_path / "empty.jsonl.gz", [])).startswith("the file holds only blank lines")
    assert error(write(tmp_path / "blank.jsonl", ["", " "])).startswith("the file holds only blank lines")


def test_files_of_another_kind(tmp_path):
    pl.DataFrame({"id": [1]}).write_parquet(tmp_path / "x")
    assert error(tmp_path / "x").startswith("is parquet, though its name does not say so")
    (tmp_path / "bom.jsonl").write_text(json.dumps(PAIRS[0]) + "\n", encoding="utf-8-sig")
    assert sources.read(tmp_path / "bom.jsonl")["pair_id"].to_list() == ["p0"]
    (tmp_path / "pretty.jsonl").write_text(json.dumps(PAIRS, indent=1))
    assert error(tmp_path / "pretty.jsonl").startswith("line 1 is not valid JSON")


def test_a_damaged_archive(tmp_path):
    path = write(tmp_path / "x.jsonl.gz", PAIRS)
    path.write_bytes(path.read_bytes()[:-12])
    assert "damaged" in error(path)


def test_a_string_that_looks_like_a_list_is_a_string(tmp_path):
    text = 'in JSON: {"chosen": ["x"], "content": {"y": true}}'
    row = {**PAIRS[0], "chosen": text, "rejected": '[{"role": "assistant"}]'}
    frame = sources.read(write(tmp_path / "x.jsonl", [row]))
    assert frame.select("chosen", "rejected").row(0) == (text, '[{"role": "assistant"}]')


def test_escaped_characters_that_are_whole_are_read(tmp_path):
    row = {**PAIRS[0], "chosen": "\U0001f600", "rejected": r"in JSON: \ud800"}
    frame = sources.read(write(tmp_path / "x.jsonl", [json.dumps(row), json.dumps({**row, "other": "\ud800"})]))
    assert frame.select("chosen", "rejected").rows() == [(row["chosen"], row["rejected"])] * 2


def test_a_trl_file_whose_shape_changes_is_refused(tmp_path):
    turned = {"prompt": "q", "chosen": [assistant("c")], "rejected": [assistant("r")]}
    assert error(write(tmp_path / "a.jsonl", [TRL[0], turned])).startswith("line 2: key 'chosen' should be a string")
    assert error(write(tmp_path / "b.jsonl", [turned, TRL[0]])).startswith("line 2: key 'chosen' should be a list")


def test_real_pairs(pairs_folder):
    frame = pl.concat([sources.read(path) for path in sorted(pairs_folder.glob("*.jsonl.gz"))])
    assert frame.height > 1000
    assert frame["pair_id"].n_unique() == frame.height
    assert set(frame["split"].unique()) == {"train", "validation", "test"}
