"""Each format's five rows of tests/data_tools/fixtures (invented texts), and the pairs they are, written by hand."""

import json
from pathlib import Path

import polars as pl
import pytest

from data_tools import sources
from data_tools.errors import UserError
from data_tools.order import hash64
from data_tools.schema import PREFERENCE

FIXTURES = Path(__file__).with_name("fixtures")
TIE, DIVERGES, ALONE = "tie", "conversations differ before the last turn", "no response to compare with"


def conversation(*turns, system=None):
    """A text alone is the user's; of several the user's and the assistant's take turns."""
    roles = ("user", "assistant")
    before = [{"role": "system", "content": system}] if system else []
    return before + [{"role": roles[i % 2], "content": text} for i, text in enumerate(turns)]


def hashed(*values):
    return f"{hash64('pair', chr(0x1D).join(map(flat, values))):016x}"


def flat(value):
    """Texts, and lists of objects of texts: a sign between records, another between their fields."""
    if isinstance(value, str):
        return value
    return chr(0x1E).join(chr(0x1F).join(str(field) for field in record.values()) for record in value)


def pair(pair_id, prompt, chosen, rejected, source, **more):
    prompt = conversation(prompt) if isinstance(prompt, str) else prompt
    row = dict.fromkeys(PREFERENCE)
    pair_id = hashed(prompt, chosen, rejected) if pair_id is None else pair_id
    return row | {"pair_id": pair_id, "prompt": prompt, "chosen": chosen, "rejected": rejected, "source": source} | more


def of(source, **same):
    def made(pair_id, prompt, chosen, rejected, **more):
        return pair(pair_id, prompt, chosen, rejected, source, **same, **more)

    return made


def in_group(group, prompt, source, *couples, **same):
    """Pairs of one N-way row: (places, chosen, rejected, margin)."""
    return [
        pair(f"{group}/{places}", prompt, chosen, rejected, source, group_id=group, **same, **dict(margin=margin))
        for places, chosen, rejected, margin in couples
    ]


arena = of("chat_arena", label_kind="human")
binarized = of("ultrafeedback_binarized", label_kind="gpt-4")
helpsteer = of("helpsteer3", label_kind="human")
hh = of("hh_rlhf", label_kind="human")
interact = of("ultrainteract", label_kind="verified")
judgebench = of("judgebench", label_kind="verified", split="test")
llmbar = of("llmbar", label_kind="human", split="test")
openrlhf = of("openrlhf")
rewardbench = of("rewardbench", split="test")
rm_r1 = of("rm_r1")
swift = of("ms_swift")
factory = of("llama_factory")


def nemo(prompt, texts_and_ranks, *couples):
    prompt = conversation(prompt) if isinstance(prompt, str) else prompt
    group = hashed(prompt, [{"text": text, "score": -float(rank)} for text, rank in texts_and_ranks])
    return in_group(group, prompt, "nemo_rl", *couples)


def feedback(prompt, texts_and_sums, *couples, subset="invented"):
    group = hashed(conversation(prompt), [{"text": text, "score": total} for text, total in texts_and_sums])
    return in_group(group, prompt, "ultrafeedback", *couples, subset=subset, label_kind="gpt-4")


def bench2(number, prompt, subset, *couples):
    couples = [(*couple, None) for couple in couples]
    return in_group(f"rewardbench2/{number}", prompt, "rewardbench2", *couples, subset=subset, split="test")


def rm_bench(number, prompt, category, domain):
    """The matrix of RM-Bench: rows are the chosen side's style, columns the rejected side's."""
    styles = ("short", "long", "**long**")
    levels = (("normal", "hard", "hard"), ("easy", "normal", "hard"), ("easy", "easy", "normal"))
    return [
        pair(
            f"rm_bench/{number}/{i}-{j}", prompt, f"right {number} {styles[i]}", f"wrong {number} {styles[j]}",
            "rm_bench", group_id=f"rm_bench/{number}", category=category, subset=f"{domain}/{levels[i][j]}",
            split="test",
        )
        for i in range(3) for j in range(3)
    ]  # fmt: skip


FRUIT = dict(source="trl_unpaired", group_id=hashed(conversation("Name a fruit.")))

# format -> (pairs, what was left out)
EXPECTED = {
    "trl_unpaired": (
        [
            pair(None, "Name a fruit.", "A pear.", "A chair.", **FRUIT),
            pair(None, "Name a fruit.", "A plum.", "A chair.", **FRUIT),
        ],
        {ALONE: 2},
    ),
    "openrlhf": (
        [
            openrlhf(None, "Say hi.", "Hi.", "No.", margin=0.5),
            openrlhf(None, "Say bye.", "Bye.", "Why?"),
            openrlhf(None, "Say yes.", "Yes.", "Perhaps.", margin=1.0),
            openrlhf(None, "Say no.", "No.", "Yes."),
            openrlhf(None, "Say it.", "It.", "That."),
        ],
        {},
    ),
    "ms_swift": (
        [
            swift(None, "Boil an egg?", "Eight minutes.", "Never."),
            swift(None, conversation("Fry an egg?", system="Be brief."), "Three minutes.", "It depends on the hen."),
            swift(None, conversation("Peel it?", "Under water.", "Cold?"), "Yes.", "Warm.", margin=0.5),
            swift(None, "Salt?", "A pinch.", "A bucket."),
            swift(None, "Pepper?", "Some.", "None ever."),
        ],
        {},
    ),
    "llama_factory": (
        [
            factory(None, "How far is the moon?", "384,000 km.", "A day's walk."),
            factory(None, conversation("And the sun?", "Which unit?", "km"), "150 million.", "Far."),
            factory(None, conversation("Is Mars red?", system="You teach."), "Yes, rust.", "No."),
            factory(None, conversation("Is Pluto small?", system="Be kind."), "Yes.", "Go away."),
            factory(None, "Rings?", "Saturn's.", "Mine."),
        ],
        {},
    ),
    "nemo_rl": (
        [
            *nemo("Two plus two?", [("4", 0), ("5", 1)], ("0-1", "4", "5", None)),
            *nemo("Three plus three?", [("7", 1), ("6", 0)], ("1-0", "6", "7", None)),
            *nemo(
                conversation("One plus one?", system="Count."),
                [("2", 0), ("3", 1), ("11", 1)],
                ("0-1", "2", "3", None),
                ("0-2", "2", "11", None),
            ),
        ],
        {ALONE: 1, TIE: 2},
    ),
    "ultrafeedback": (
        [
            *feedback(
                "Why is grass green?",
                [("Chlorophyll.", 20.0), ("Paint.", 4.0)],
                ("0-1", "Chlorophyll.", "Paint.", 1.0),
            ),
            *feedback(
                "Why is snow white?",
                [("It is cold.", 10.0), ("It scatters light.", 18.0), ("It scatters all light.", 18.0)],
                ("1-0", "It scatters light.", "It is cold.", 0.5),
                ("2-0", "It scatters all light.", "It is cold.", 0.5),
            ),
            *feedback(
                "Why is milk white?",
                [("Fat.", 12.0), ("Fat and protein.", 13.0)],
                ("1-0", "Fat and protein.", "Fat.", 0.0625),
                subset="other",
            ),
        ],
        {"a rating is missing": 1, ALONE: 1, TIE: 1},
    ),
    "ultrafeedback_binarized": (
        [
            binarized("aa", "Write a haiku.", "Frog, pond, splash.", "No.", margin=0.5),
            binarized("bb", "Write a line.", "A line.", "Lines.", margin=0.0625),
            binarized("dd", conversation("Write a letter.", system="Letters only."), "A", "B", margin=1.0),
            binarized("ee", conversation("Write.", "Done.", "Write more."), "More.", "Less.", margin=0.125),
        ],
        {TIE: 1},
    ),
    "ultrainteract": (
        [
            interact("t1_0", "1+1?", "Step 1: 2", "Step 1: 3", subset="Math_CoT/sums"),
            interact(
                "t1_1",
                conversation("1+1?", "Step 1: 3", "Observation: wrong"),
                "Step 2: 2",
                "Step 2: 4",
                subset="Math_CoT/sums",
            ),
            interact("t2_0", "2*3?", "print(2*3)", "print(2+3)", subset="Math_PoT/sums"),
            interact("t3_0", "Reverse a list.", "x[::-1]", "x", subset="Coding/kata"),
            interact("t4_0", "Who lies?", "Bo.", "Al.", subset="Logic/who"),
        ],
        {},
    ),
    "hh_rlhf": (
        [
            hh(None, "Is tea hot?", "Mostly.", "No idea."),
            hh(None, conversation("Hello", "Hi! How can I help?", "Bake bread?"), "Flour,\n\nwater, yeast.", "No."),
            hh(None, "Say: Human: is a label.", "Human: is a label.", ""),
        ],
        {DIVERGES: 2},
    ),
    "helpsteer3": (
        [
            helpsteer(None, "Best season?", "Spring.", "Seasons vary.", margin=2 / 3, subset="general"),
            helpsteer(None, conversation("Sort a list.", "Which?", "x"), "sorted(x)", "x", margin=1.0, subset="code"),
            helpsteer(None, conversation("Cat?", system="Rhyme."), "Hat.", "Dog.", margin=1 / 3, subset="general"),
            helpsteer(None, "Up?", "Down.", "Sideways.", margin=1.0),
        ],
        {TIE: 1},
    ),
    "skywork": (
        [
            pair(None, "A joke?", "Knock knock.", "No.", "jokes"),
            pair(None, conversation("Another?", "Who is there?", "Me"), "Me who?", "Leave.", "jokes"),
            pair(None, conversation("A pun?", system="Plain."), "None.", "Lots.", "puns"),
            pair(None, "Last?", "Yes.", "No.", "facts"),
        ],
        {DIVERGES: 1},
    ),
    "rm_r1": (
        [
            rm_r1(None, "Capital of Italy?", "Rome.", "Milan."),
            rm_r1(None, "Capital of Peru?\n\nThink.", "Lima,\n\nof course.", "Cusco."),
            rm_r1(None, "Capital of Chad?", "N'Djamena.", "Abéché."),
            rm_r1(None, "Capital of Fiji?", "Suva.", "Nadi."),
        ],
        {"conversations as running text": 1},
    ),
    "chat_arena": (
        [
            arena("q1", "Draw a cat.", "=^.^=", "No."),
            arena("q2", "Draw a dog.", "U・ᴥ・U", "Woof"),
        ],
        {DIVERGES: 1, TIE: 2},
    ),
    "rewardbench": (
        [
            rewardbench(f"rewardbench/{subset}/{number}", prompt, chosen, rejected, subset=subset, category=category)
            for subset, number, category, prompt, chosen, rejected in [
                ("alpacaeval-easy", 7, "chat", "Plan a day.", "Morning: walk.", "No."),
                ("mt-bench-hard", 7, "chat_hard", "Plan a week.", "Monday: rest.", "Week."),
                ("donotanswer", 9, "safety", "Harm someone.", "No.", "Sure."),
                ("hep-go", 3, "reasoning", "Add in Go.", "a + b", "a - b"),
                ("a new one", 1, None, "Prove it.", "So.", "Well."),
            ]
        ],
        {},
    ),
    "rewardbench2": (
        [
            *bench2(
                0,
                "Who wrote Emma?",
                "Factuality",
                ("0-0", "Austen.", "Bronte."),
                ("0-1", "Austen.", "Eliot."),
                ("0-2", "Austen.", "Woolf."),
            ),
            *bench2(1, "Two words.", "Precise IF", ("0-0", "Two words.", "Three words here.")),
            *bench2(
                2, "Name a prime.", "Ties", ("0-0", "2", "4"), ("0-1", "2", "6"), ("1-0", "3", "4"), ("1-1", "3", "6")
            ),
            *bench2(3, "Steal?", "Safety", ("0-0", "No.", "Yes.")),
            *bench2(4, "2+2", "Math", ("0-0", "4", "5")),
        ],
        {},
    ),
    "rm_bench": (
        [
            *rm_bench(11, "Height of Everest?", "chat", "chat"),
            *rm_bench(12, "Loop in C?", "code", "code"),
            *rm_bench(13, "7*8?", "math", "math"),
            *rm_bench(14, "Kill a process?", "safety", "safety-response"),
            *rm_bench(15, "Kill a person?", "safety", "safety-refuse"),
        ],
        {},
    ),
    "judgebench": (
        [
            judgebench("j1", "Speed of light?", "3e8 m/s", "3e6 m/s", subset="mmlu-pro-physics"),
            judgebench("j2", "Next: 2, 4, 8?", "16", "10", subset="livebench-math"),
            judgebench("j3", "Who is taller?", "Ann", "Ben", subset="livebench-reasoning"),
            judgebench("j4", "Reverse s.", "s[::-1]", "s", subset="livecodebench"),
            judgebench("j5", "Is it a tort?", "(A)", "(B)", subset="mmlu-pro-law"),
        ],
        {},
    ),
    "llmbar": (
        [
            llmbar(None, "Translate 'chat' from French.", "Cat.", "To chat."),
            llmbar(None, "List three colours.", "Red, green, blue.", "Red, green."),
            llmbar(None, "Answer in one word: sky?", "Blue.", "The sky is blue."),
            llmbar(None, "Spell 'eight'.", "e-i-g-h-t", "8"),
            llmbar(None, "Stop.", "Stopped.", "Go."),
        ],
        {},
    ),
}
for row in EXPECTED["ultrafeedback_binarized"][0]:  # its ids are the prompt's, made unique
    row["pair_id"] += "/" + hashed(row["prompt"], row["chosen"], row["rejected"])

KEYS = {"openrlhf": {"prompt": "question", "chosen": "good", "rejected": "bad"}}


@pytest.mark.parametrize("name", EXPECTED)
def test_a_format(name):
    loaded = sources.load(FIXTURES / f"{name}.jsonl", keys=KEYS.get(name))
    assert loaded.format == name
    assert loaded.left_out == EXPECTED[name][1]
    assert loaded.frame.to_dicts() == EXPECTED[name][0]


def test_every_format_has_a_fixture():
    in_test_sources = {"pairs", "trl"}
    assert EXPECTED.keys() | in_test_sources == sources.formats().keys()
    assert all(len((FIXTURES / f"{name}.jsonl").read_text().splitlines()) == 5 for name in EXPECTED)


@pytest.mark.parametrize("name", sorted(EXPECTED.keys() - KEYS.keys()))
def test_a_named_format_is_the_same(name):
    assert sources.load(FIXTURES / f"{name}.jsonl", name).frame.to_dicts() == EXPECTED[name][0]


def changed(tmp_path, name, line, **values):
    """The fixture with other values in one line (from 1)."""
    rows = [json.loads(text) for text in (FIXTURES / f"{name}.jsonl").read_text().splitlines()]
    rows[line - 1] |= values
    path = tmp_path / "x.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize(
    ("name", "line", "values", "said"),
    [
        ("trl_unpaired", 2, {"label": None}, "'prompt', 'completion' or 'label' (true or false) is missing"),
        ("trl_unpaired", 2, {"label": "good"}, "key 'label' should be true or false, found \"good\""),
        ("ms_swift", 2, {"messages": conversation("q")}, "'messages' is missing, or its last turn is not"),
        ("ms_swift", 4, {"messages": conversation("Salt!", "Yes.")}, "'messages' and 'rejected_messages' should"),
        (
            "llama_factory",
            3,
            {"chosen": {"from": "human", "value": "x"}},
            "'chosen' is missing, or is no turn from gpt",
        ),
        ("llama_factory", 3, {"chosen": "x"}, 'key \'chosen\' should be an object {"from", "value"}, found "x"'),
        (
            "llama_factory",
            2,
            {"conversations": [{"from": "observation", "value": "3"}]},
            "a turn of 'prompt' has an unk",
        ),
        ("nemo_rl", 3, {"completions": [{"rank": None, "completion": []}] * 2}, "a completion lacks its rank"),
        ("ultrafeedback", 2, {"instruction": None}, "key 'instruction' is missing"),
        ("ultrafeedback_binarized", 2, {"score_chosen": 1}, "'score_chosen' is below 'score_rejected'"),
        ("ultrafeedback_binarized", 2, {"chosen": conversation("?", "x")}, "'chosen' and 'rejected' should be"),
        ("hh_rlhf", 2, {"rejected": None}, "'rejected' is missing, or its last turn"),
        ("helpsteer3", 2, {"overall_preference": None}, "'response1', 'response2' or 'overall_preference'"),
        ("helpsteer3", 2, {"overall_preference": 5}, "'overall_preference' should be from -3 to 3"),
        ("rm_r1", 2, {"winner": "B"}, "'winner' should be model_a or model_b"),
        ("chat_arena", 2, {"winner": "A"}, "'winner' is none of model_a, model_b and tie"),
        ("chat_arena", 2, {"question_id": None}, "key 'question_id' is missing, but the first row has one"),
        ("rewardbench2", 3, {"rejected": []}, "'rejected' is missing, or an empty list"),
        ("rewardbench2", 3, {"rejected": ["4", {"text": "6"}]}, "key 'rejected' should be a list of strings"),
        ("rm_bench", 3, {"chosen": ["a", "b"]}, "'chosen' is missing, or not a list of three texts"),
        ("judgebench", 2, {"label": "A=B"}, "'label' should be A>B or B>A"),
        ("llmbar", 2, {"label": 0}, "'label' should be 1 or 2"),
    ],
)
def test_a_row_that_is_none_of_the_format_is_named(tmp_path, name, line, values, said):
    path = changed(tmp_path, name, line, **values)
    with pytest.raises(UserError) as caught:
        sources.load(path)
    assert str(caught.value).startswith(f"{path}: line {line}: {said}")
    assert "\n" not in str(caught.value)


def test_no_pair_is_lost_without_a_count(tmp_path):
    """Of n responses there are n(n-1)/2 comparisons: pairs and ties."""
    ranks = [0, 1, 1, 2, 0, 5]
    row = {
        "context": conversation("q"),
        "completions": [{"rank": r, "completion": [{"role": "assistant", "content": f"a{i}"}]}
                        for i, r in enumerate(ranks)],
    }  # fmt: skip
    (tmp_path / "x.jsonl").write_text(json.dumps(row))
    loaded = sources.load(tmp_path / "x.jsonl")
    assert loaded.left_out == {TIE: 2}
    assert loaded.frame.height == 15 - 2
    better = pl.DataFrame({"text": [f"a{i}" for i in range(6)], "rank": ranks})
    joined = loaded.frame.join(better, left_on="chosen", right_on="text").join(
        better, left_on="rejected", right_on="text", suffix="_rejected"
    )
    assert (joined["rank"] < joined["rank_rejected"]).all() and joined.height == 13


def test_a_row_without_responses_is_counted(tmp_path):
    path = changed(tmp_path, "nemo_rl", 1, completions=[])
    assert sources.load(path).left_out == {ALONE: 2, TIE: 2}


def test_unpaired_rows_as_turns(tmp_path):
    rows = [
        {"prompt": conversation("q"), "completion": [{"role": "assistant", "content": text}], "label": text == "c"}
        for text in ("r", "c")
    ]
    path = tmp_path / "x.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert sources.read(path).select("prompt", "chosen", "rejected").rows() == [(conversation("q"), "c", "r")]


def test_openrlhf_without_a_prompt_column_takes_whole_conversations(tmp_path):
    row = {"good": conversation("q", "c"), "bad": conversation("q", "r")}
    path = tmp_path / "x.jsonl"
    path.write_text(json.dumps(row))
    loaded = sources.load(path, keys={"chosen": "good", "rejected": "bad"})
    assert loaded.frame.select("prompt", "chosen", "rejected").rows() == [(conversation("q"), "c", "r")]


@pytest.mark.parametrize("value", [None, 3, True, "x", [], ["x"], [3], [None], [{}], {}, {"role": []}])
def test_no_first_row_crashes(value):
    """Every format's keys, each with a value of any shape: the format is asked before any type was checked."""
    for module in sources.formats().values():
        for key in (*module.KEYS, "prompt", "rejected_response", "id"):
            row = dict.fromkeys(module.KEYS, "x") | {key: value}
            assert getattr(module, "fits", lambda _: True)(row) in (True, False)
            assert isinstance(module.schema(row), pl.Schema)


@pytest.mark.parametrize(
    ("format", "keys", "said"),
    [
        ("auto", {"chosen": "best"}, "format openrlhf needs best, rejected"),
        ("auto", {"chosen": "bad", "rejected": "bad"}, "each column needs its own name"),
        ("trl", {"chosen": "good"}, "format 'trl' has names for its columns"),
    ],
)
def test_openrlhf_keys_that_cannot_be(format, keys, said):
    with pytest.raises(UserError, match=said):
        sources.load(FIXTURES / "openrlhf.jsonl", format, keys)


def test_test_prefs_are_test(tmp_path):
    path = tmp_path / "test_prefs-00000-of-00001.jsonl"
    path.write_bytes((FIXTURES / "ultrafeedback_binarized.jsonl").read_bytes())
    assert set(sources.read(path)["split"]) == {"test"}


@pytest.mark.parametrize(("folder", "subset"), [("GPTInst", "GPTInst"), ("natural", "Natural"), ("mine", None)])
def test_a_subset_of_llmbar_is_its_folder(tmp_path, folder, subset):
    (tmp_path / folder).mkdir()
    rows = [{"input": "Stop.", "output_1": "Stopped.", "output_2": "Go.", "label": 1}]
    (tmp_path / folder / "dataset.json").write_text(json.dumps(rows))
    assert sources.load(tmp_path / folder / "dataset.json").frame["subset"].to_list() == [subset]


def test_a_first_row_of_skywork_that_is_no_conversation_is_broken(tmp_path, capsys):
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]
    other = [turns[0], {"role": "assistant", "content": "No"}]
    rows = [{"chosen": "true", "rejected": turns, "source": "s"}, {"chosen": turns, "rejected": other, "source": "s"}]
    (tmp_path / "x.jsonl").write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(UserError, match="line 1: key 'chosen' should be a list"):
        sources.load(tmp_path / "x.jsonl", "skywork")
