"""Each format's rows of five pairs, written by hand; and tables come back as they were, but for what is named here."""

import gzip
import json

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data_tools import __main__ as cli
from data_tools import artifact, exports, sources
from data_tools.errors import UserError
from data_tools.schema import PREFERENCE, SPLITS

ONE_FILE = [name for name, module in exports.formats().items() if module.ENDINGS]
# What our readers do not take back, though it stands in the file: format -> columns.


def turns(*texts, system=None):
    """The user's and the assistant's in turn."""
    before = [] if system is None else [{"role": "system", "content": system}]
    return before + [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(texts)]


def said(text):
    return [{"role": "assistant", "content": text}]


def pair(pair_id, prompt, chosen, rejected, **more):
    return dict.fromkeys(PREFERENCE) | {
        "pair_id": pair_id, "prompt": prompt, "chosen": chosen, "rejected": rejected, "source": "made", **more,
    }  # fmt: skip


PAIRS = [
    pair("1", turns("Name a fruit."), "A pear.", "A chair.", category="chat", split="train", margin=0.5),
    pair("2", turns("Hi", "Hello", "Bye", system="Be brief."), 'Bye\n"é"', "\u2028.", label_kind="human", split="test"),
    pair("3", turns("Hi", system=""), "Ok", "No", group_id="g", subset="s", split="validation", margin=1.0),
    pair("4", [*turns("One"), *turns("Two")], "Three", "Four"),
    pair("5", [*said("Welcome"), *turns("Thanks")], "Yes", "No", group_id="g"),
]
NONE = dict.fromkeys(("group_id", "category", "subset", "label_kind", "split", "margin"))
EXTRAS = [
    {**NONE, "id": "1", "source": "made", "category": "chat", "split": "train", "margin": 0.5},
    {**NONE, "id": "2", "source": "made", "label_kind": "human", "split": "test"},
    {**NONE, "id": "3", "source": "made", "group_id": "g", "subset": "s", "split": "validation", "margin": 1.0},
    {**NONE, "id": "4", "source": "made"},
    {**NONE, "id": "5", "source": "made", "group_id": "g"},
]
PROMPTS = [
    [{"role": "user", "content": "Name a fruit."}],
    [
        {"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello"}, {"role": "user", "content": "Bye"},
    ],
    [{"role": "system", "content": ""}, {"role": "user", "content": "Hi"}],
    [{"role": "user", "content": "One"}, {"role": "user", "content": "Two"}],
    [{"role": "assistant", "content": "Welcome"}, {"role": "user", "content": "Thanks"}],
]  # fmt: skip
TRL = [
    {"prompt": PROMPTS[0], "chosen": said("A pear."), "rejected": said("A chair."), **EXTRAS[0]},
    {"prompt": PROMPTS[1], "chosen": said('Bye\n"é"'), "rejected": said("\u2028."), **EXTRAS[1]},
    {"prompt": PROMPTS[2], "chosen": said("Ok"), "rejected": said("No"), **EXTRAS[2]},
    {"prompt": PROMPTS[3], "chosen": said("Three"), "rejected": said("Four"), **EXTRAS[3]},
    {"prompt": PROMPTS[4], "chosen": said("Yes"), "rejected": said("No"), **EXTRAS[4]},
]
TURNS = {"user and assistant do not take turns": 2}
# format -> (rows, what was left out)
EXPECTED = {
    "trl": (TRL, {}),
    "trl-implicit": (
        [
            {"chosen": [*PROMPTS[0], *said("A pear.")], "rejected": [*PROMPTS[0], *said("A chair.")], **EXTRAS[0]},
            {"chosen": [*PROMPTS[1], *said('Bye\n"é"')], "rejected": [*PROMPTS[1], *said("\u2028.")], **EXTRAS[1]},
            {"chosen": [*PROMPTS[2], *said("Ok")], "rejected": [*PROMPTS[2], *said("No")], **EXTRAS[2]},
            {"chosen": [*PROMPTS[3], *said("Three")], "rejected": [*PROMPTS[3], *said("Four")], **EXTRAS[3]},
        ],
        {"conversation begins with the assistant": 1},
    ),
    "trl-unpaired": (
        [
            {"prompt": PROMPTS[0], "completion": said("A pear."), "label": True, **EXTRAS[0]},
            {"prompt": PROMPTS[0], "completion": said("A chair."), "label": False, **EXTRAS[0]},
            {"prompt": PROMPTS[1], "completion": said('Bye\n"é"'), "label": True, **EXTRAS[1]},
            {"prompt": PROMPTS[1], "completion": said("\u2028."), "label": False, **EXTRAS[1]},
            {"prompt": PROMPTS[2], "completion": said("Ok"), "label": True, **EXTRAS[2]},
            {"prompt": PROMPTS[2], "completion": said("No"), "label": False, **EXTRAS[2]},
            {"prompt": PROMPTS[3], "completion": said("Three"), "label": True, **EXTRAS[3]},
            {"prompt": PROMPTS[3], "completion": said("Four"), "label": False, **EXTRAS[3]},
            {"prompt": PROMPTS[4], "completion": said("Yes"), "label": True, **EXTRAS[4]},
            {"prompt": PROMPTS[4], "completion": said("No"), "label": False, **EXTRAS[4]},
        ],
        {},
    ),
    "openrlhf": ([row | {"margin": margin} for row, margin in zip(TRL, (0.5, 0.0, 1.0, 0.0, 0.0), strict=True)], {}),
    "llama-factory": (
        [
            {
                "conversations": [{"from": "human", "value": "Name a fruit."}],
                "chosen": {"from": "gpt", "value": "A pear."}, "rejected": {"from": "gpt", "value": "A chair."},
                **EXTRAS[0],
            },
            {
                "conversations": [
                    {"from": "system", "value": "Be brief."}, {"from": "human", "value": "Hi"},
                    {"from": "gpt", "value": "Hello"}, {"from": "human", "value": "Bye"},
                ],
                "chosen": {"from": "gpt", "value": 'Bye\n"é"'}, "rejected": {"from": "gpt", "value": "\u2028."},
                **EXTRAS[1],
            },
            {
                "conversations": [{"from": "system", "value": ""}, {"from": "human", "value": "Hi"}],
                "chosen": {"from": "gpt", "value": "Ok"}, "rejected": {"from": "gpt", "value": "No"},
                **EXTRAS[2],
            },
        ],
        TURNS,
    ),
    "nemo-rl": (
        [
            {"context": row["prompt"],
             "completions": [{"rank": 0, "completion": row["chosen"]}, {"rank": 1, "completion": row["rejected"]}],
             **extras}
            for row, extras in zip(TRL, EXTRAS, strict=True)
        ],
        {},
    ),
    "ms-swift": (
        [
            {"messages": [*PROMPTS[0], *said("A pear.")], "rejected_response": "A chair.", **EXTRAS[0]},
            {"messages": [*PROMPTS[1], *said('Bye\n"é"')], "rejected_response": "\u2028.", **EXTRAS[1]},
            {"messages": [*PROMPTS[2], *said("Ok")], "rejected_response": "No", **EXTRAS[2]},
        ],
        TURNS,
    ),
    "pairs": (
        [
            {"prompt": prompt, "chosen": row["chosen"], "rejected": row["rejected"], **extras}
            for prompt, row, extras in zip(PROMPTS, PAIRS, EXTRAS, strict=True)
        ],
        {},
    ),
}  # fmt: skip


def write(path, pairs):
    artifact.write_table(pl.DataFrame(pairs, schema=PREFERENCE, orient="row"), path, PREFERENCE)
    return artifact.scan_tables([path], PREFERENCE)


@pytest.fixture
def frame(tmp_path):
    return write(tmp_path / "in.parquet", PAIRS)


def lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


def test_every_format_is_expected():
    assert sorted(EXPECTED) == sorted(ONE_FILE)


@pytest.mark.parametrize("name", EXPECTED)
def test_rows(frame, tmp_path, name):
    rows, left_out = EXPECTED[name]
    done = exports.export(frame, name, tmp_path / "out.jsonl")
    assert done.left_out == left_out and done.pairs == 5 - sum(left_out.values())
    found = lines(tmp_path / "out.jsonl")
    unused = {key for key in rows[0] if all(row[key] is None for row in rows)} - {"label_kind"}
    assert found == [{key: value for key, value in row.items() if key not in unused} for row in rows]


@pytest.mark.parametrize("ending", [".jsonl.gz", ".jsonl.zst", ".parquet"])
def test_other_endings(frame, tmp_path, ending):
    exports.export(frame, "trl", tmp_path / f"out{ending}")
    found = sources.read(tmp_path / f"out{ending}", "trl")
    assert found.equals(frame.collect())
    if ending == ".jsonl.gz":
        assert gzip.decompress((tmp_path / "out.jsonl.gz").read_bytes()).startswith(b'{"prompt"')


def test_the_entry_of_llama_factory_joins_those_that_are_there(frame, tmp_path):
    info = tmp_path / "dataset_info.json"
    info.write_text('{"other": {"file_name": "other.json"}}')
    done = exports.export(frame, "llama-factory", tmp_path / "mine.jsonl")
    assert done.files == [info]
    assert json.loads(info.read_text()) == {
        "other": {"file_name": "other.json"},
        "mine": {
            "file_name": "mine.jsonl", "formatting": "sharegpt", "ranking": True,
            "columns": {"messages": "conversations", "chosen": "chosen", "rejected": "rejected"},
        },
    }  # fmt: skip


def test_notes(frame, tmp_path):
    def notes(name, table=frame):
        return exports.export(table, name, tmp_path / "out.jsonl").notes

    assert notes("trl") == ["margin: 3 of 5 pairs have none; TRL's RewardTrainer needs all or none: drop the key there"]
    again = "ingest reads it again with --format openrlhf: its rows look like TRL's"
    assert notes("openrlhf") == ["margin: 3 of 5 pairs have none, written as 0", again]
    assert notes("nemo-rl") == notes("pairs") == []
    three = [("a", "b"), ("a", "c"), ("b", "c")]
    group = [pair(f"{i}", turns("q"), chosen, rejected, source=None) for i, (chosen, rejected) in enumerate(three)]
    assert notes("trl-unpaired", write(tmp_path / "group.parquet", group)) == [
        "label: 1 responses are good in one row and bad in another (the middle of N-way groups)",
        "source: 3 pairs have none; ingest will give them the name of the file",
    ]


def test_rows_that_are_no_preferences_are_left_out(tmp_path):
    odd = [
        pair("1", turns("q"), "a", "b"),
        pair("2", turns("q", "a"), "a", "b"),
        pair("3", turns("q"), "a", "b", margin=0.0),
        pair("4", turns("q"), "a", "b", margin=float("nan")),
        pair("5", turns("q"), "a", "b", split="dev"),
        pair("6", turns("q"), "a", " \n"),
        pair("7", turns(" "), "a", "b"),
        pair("8", turns("q"), "a", "a "),
    ]
    done = exports.export(write(tmp_path / "in.parquet", odd), "trl", tmp_path / "out.jsonl")
    assert done.pairs == 1 and done.left_out == {
        "margin not above 0 and at most 1": 2,
        "prompt does not end with the user's turn": 1,
        "split is none of train, validation, test": 1,
        "empty prompt or response": 2,
        "chosen equals rejected": 1,
    }


def test_ms_swift_has_no_room_for_an_empty_turn(tmp_path):
    pairs = write(tmp_path / "in.parquet", [pair("1", turns("q"), "a", "b"), pair("2", turns("q", "", "r"), "a", "b")])
    done = exports.export(pairs, "ms-swift", tmp_path / "out.jsonl")
    assert done.pairs == 1 and done.left_out == {"empty turn of the assistant": 1}


texts = st.text(max_size=12)
maybe = st.none() | st.text(min_size=1, max_size=4)


@st.composite
def tables(draw):
    ids = draw(st.lists(st.text(min_size=1, max_size=6), min_size=1, max_size=4, unique=True))
    pairs = []
    for i, pair_id in enumerate(ids):
        rounds = draw(st.integers(0, 2))
        said_so_far = [f"{i} {draw(texts)}", *(draw(texts) for _ in range(2 * rounds))]  # each prompt is one of its own
        prompt = turns(*said_so_far, system=draw(st.none() | texts))
        more = {name: draw(maybe) for name in ("group_id", "category", "subset", "label_kind")}
        margin = draw(st.none() | st.floats(0, 1, exclude_min=True))
        more |= {"split": draw(st.sampled_from([None, *SPLITS])), "margin": margin, "source": draw(texts)}
        pairs.append(pair(pair_id, prompt, draw(texts), draw(texts), **more))
    return pl.DataFrame(pairs, schema=PREFERENCE, orient="row")


# A busy machine is no failure.
quick = settings(max_examples=15, suppress_health_check=list(HealthCheck))


@pytest.mark.parametrize("name", exports.formats())
@quick
@given(table=tables())
def test_round_trip(tmp_path_factory, name, table):
    """Odd characters, system turns, several turns: what is read again is the table that was written."""
    folder = tmp_path_factory.mktemp("trip")
    if name == "ms-swift":  # which refuses such rows
        empty = pl.col("prompt").list.eval(
            (pl.element().struct.field("role") == "assistant") & (pl.element().struct.field("content") == "")
        )
        table = table.filter(~empty.list.any())
    one, other = (pl.col(side).str.strip_chars() for side in ("chosen", "rejected"))
    table = table.filter(one != "", other != "", one != other)  # others are left out
    if table.is_empty():
        return
    module = exports.formats()[name]
    out = folder / ("out" if not module.ENDINGS else "out.jsonl")
    done = exports.export(table.lazy(), name, out)
    assert done.left_out == {} and done.pairs == table.height
    found = sources.read(out, module.READER)
    order = ["prompt", "chosen", "rejected"] if name in ("datasets", "trl-unpaired") else None  # files by split; sorted
    one, other = (table, found)
    if order:
        texts_of = pl.col("prompt").list.eval(pl.element().struct.field("content")).list.join("\n")
        one, other = (rows.sort(texts_of, "chosen") for rows in (one, other))
    assert other.rows(named=True) == one.rows(named=True)


def test_a_late_value_does_not_break_loaders_of_json(tmp_path):
    """datasets takes the type of a column from the first 10 MB, and null for one of nulls."""
    datasets = pytest.importorskip("datasets")
    n = 15_000
    pairs = [
        pair(
            str(i),
            turns("q" * 400),
            "good" * 100,
            "bad",
            margin=None if i < n - 5 else 0.5,
            subset="s" if i == n - 1 else None,
        )
        for i in range(n)
    ]
    exports.export(write(tmp_path / "in.parquet", pairs), "trl", tmp_path / "out.jsonl")
    assert (tmp_path / "out.jsonl").stat().st_size > 12e6
    loaded = datasets.load_dataset(
        "json", data_files=str(tmp_path / "out.jsonl"), split="train", cache_dir=str(tmp_path / "cache")
    )
    assert loaded["id"][:3] == [str(n - 5), str(n - 1), "0"]
    assert loaded["margin"][:3] == [0.5, 0.5, None] and loaded["subset"][1] == "s" and len(loaded) == n


def test_datasets_loads_the_folder(frame, tmp_path):
    datasets = pytest.importorskip("datasets")
    exports.export(frame, "datasets", tmp_path / "mine")
    assert sorted(path.name for path in (tmp_path / "mine").iterdir()) == [
        "README.md", "test.parquet", "train.parquet", "validation.parquet",
    ]  # fmt: skip
    loaded = datasets.load_dataset(str(tmp_path / "mine"), cache_dir=str(tmp_path / "cache"))
    assert {name: split["id"][:] for name, split in loaded.items()} == {
        "train": ["1", "4", "5"], "validation": ["3"], "test": ["2"],
    }  # fmt: skip
    assert loaded["validation"][0] == EXPECTED["trl"][0][2]
    exports.export(frame, "datasets", tmp_path / "mine")  # its own folder is replaced
    (tmp_path / "mine" / "precious.txt").write_text("")
    with pytest.raises(UserError, match="holds precious.txt, which is no part of an export"):
        exports.export(frame, "datasets", tmp_path / "mine")


def test_trl_takes_its_rows(frame, tmp_path):
    """Its own functions make one form of the other."""
    data_utils = pytest.importorskip("trl.data_utils")
    datasets = pytest.importorskip("datasets")
    found = {}
    for name in ("trl", "trl-implicit", "trl-unpaired"):
        exports.export(frame, name, tmp_path / f"{name}.jsonl")
        found[name] = lines(tmp_path / f"{name}.jsonl")
        assert all(data_utils.is_conversational(row) for row in found[name])
    explicit = [{key: row[key] for key in ("prompt", "chosen", "rejected")} for row in found["trl"]]
    assert [data_utils.maybe_extract_prompt(row) for row in found["trl-implicit"]] == explicit[:4]
    both = data_utils.unpair_preference_dataset(datasets.Dataset.from_list(explicit)).to_list()
    ours = [{key: row[key] for key in ("prompt", "completion", "label")} for row in found["trl-unpaired"]]
    assert sorted(ours, key=json.dumps) == sorted(({key: row[key] for key in ours[0]} for row in both), key=json.dumps)


@pytest.mark.parametrize(
    ("to", "out", "said"),
    [
        ("csv", "out.jsonl", "format 'csv' is unknown; there are: datasets, llama-factory, ms-swift, "),
        ("llama-factory", "out.jsonl.gz", "llama-factory takes files that end in .jsonl, .parquet; name it so"),
        ("trl", ".jsonl", "trl takes files that end in .jsonl, .jsonl.gz, .jsonl.zst, .parquet; name it so"),
        ("trl", "folder", "folder: is a folder; name a file for --out"),
        ("datasets", "in.parquet", "in.parquet: is read or written by this command, too; name another file for --out"),
        ("ms-swift", "out.jsonl", "no pair can be written as ms-swift (user and assistant do not take turns: 2)"),
        ("llama-factory", "broken/out.jsonl", "dataset_info.json: is no object of data sets; move it away"),
    ],
)  # fmt: skip
def test_errors(tmp_path, capsys, to, out, said):
    (tmp_path / "folder").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "dataset_info.json").write_text("[]")
    write(tmp_path / "in.parquet", PAIRS[:1] if out.startswith("broken") else PAIRS[3:])
    assert cli.main(["export", str(tmp_path / "in.parquet"), "--to", to, "--out", str(tmp_path / out)]) == 2
    told = capsys.readouterr()
    assert told.err.startswith("error: ") and told.err.count("\n") == 1 and said in told.err and told.out == ""
    assert not (tmp_path / "out.jsonl").exists() and not (tmp_path / "broken" / "out.jsonl").exists()


def test_the_command_counts_and_keeps_the_way_back(frame, tmp_path, capsys):
    argv = ["export", tmp_path / "in.parquet", "--to", "llama-factory", "--out", tmp_path / "out.jsonl"]
    assert cli.main([str(argument) for argument in argv]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "left out: user and assistant do not take turns │ 2" in said and "written │ 3" in said
    assert "also written:" in said
    manifest = json.loads((tmp_path / "out.jsonl.manifest.json").read_text())
    assert manifest["counts"] == {"written": 3, "left_out": TURNS} and manifest["settings"] == {"to": "llama-factory"}
    assert manifest["inputs"][0]["file"] == "in.parquet"
