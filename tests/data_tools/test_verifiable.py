"""The embedded data: right by construction, checked from the text; nothing gives the answer away."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Callable
from hashlib import blake2b
from itertools import groupby
from pathlib import Path
from random import Random

import polars as pl
import pytest

from data_tools import verifiable
from data_tools import verifiable_words as words
from data_tools.errors import UserError
from data_tools.judging import defuse
from data_tools.order import chosen_is_a, hash64, responses
from data_tools.schema import PREFERENCE, check
from data_tools.verifiable import HELD_OUT, KINDS, LEVELS, build
from data_tools.verifiable_kinds import Kind, Task
from data_tools.verifiable_topics import TOPICS

TRAINED = [kind for kind in KINDS if kind not in HELD_OUT]
GOLDEN = "cf537d5c375ba49991f61e132c9b9481"


def digest(parts: dict[str, pl.DataFrame]) -> str:
    text = json.dumps({name: frame.to_dicts() for name, frame in parts.items()}, sort_keys=True)
    return blake2b(text.encode(), digest_size=16).hexdigest()


@pytest.fixture(scope="module")
def big() -> dict[str, pl.DataFrame]:
    return build(rows=4800, seed=11, test_rows=1000)


@pytest.fixture(scope="module")
def pairs(big) -> list[dict]:
    """Every row of every part, its prompt as text."""
    return [row | {"prompt": row["prompt"][0]["content"]} for frame in big.values() for row in frame.to_dicts()]


# ---------------------------------------------------------------- the tables


def test_parts_are_preference_tables(big):
    assert {name: len(frame) for name, frame in big.items()} == {
        "train": 4800,
        "validation": 480,
        "test": 1000,
        "ood": 1000,
    }
    ids = []
    for name, frame in big.items():
        check(frame, PREFERENCE, name)
        assert frame["split"].unique().to_list() == ["test" if name == "ood" else name]
        assert frame["source"].unique().to_list() == ["verifiable"]
        assert frame["label_kind"].unique().to_list() == ["verified"]
        assert frame["margin"].null_count() == frame["group_id"].null_count() == len(frame)
        assert frame.select(pl.col("prompt").list.len().unique()).item() == 1
        assert {turn["role"] for turns in frame["prompt"] for turn in turns} == {"user"}
        ids += frame["pair_id"].to_list()
    assert len(set(ids)) == len(ids)
    assert ids[0] == "verifiable-11-train-0"


def test_smallest_build():
    assert {name: len(frame) for name, frame in build(1, 0, test_rows=1).items()} == {
        "train": 1,
        "validation": 32,
        "test": 1,
        "ood": 1,
    }


def test_same_arguments_same_tables_in_a_fresh_process():
    here = digest(build(60, 7, test_rows=45))
    code = (
        "from data_tools.verifiable import build; import json, hashlib\n"
        "parts = {n: f.to_dicts() for n, f in build(60, 7, test_rows=45).items()}\n"
        "print(hashlib.blake2b(json.dumps(parts, sort_keys=True).encode(), digest_size=16).hexdigest())"
    )
    root = Path(verifiable.__file__).parents[1]
    env = os.environ | {"PYTHONHASHSEED": "123", "PYTHONPATH": str(root)}
    there = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    # The golden value changes with every change of the words; then the embedded data is another data set.
    assert here == there.stdout.strip() == GOLDEN


def test_another_seed_is_another_table():
    assert digest(build(20, 7, test_rows=5)) != digest(build(20, 8, test_rows=5))


def test_fewer_rows_are_the_beginning_of_more():
    small, large = build(100, 3, test_rows=50), build(200, 3, test_rows=50)
    assert small["train"].equals(large["train"].head(100))
    assert small["validation"].equals(large["validation"].head(32))
    for part in ("test", "ood"):
        assert small[part].equals(large[part])
        assert build(1, 3, test_rows=20)[part].equals(large[part].head(20))


def test_no_prompt_is_in_two_parts_of_any_seed():
    prompts = defaultdict(list)
    for seed in (0, 1):
        for name, frame in build(1200, seed, test_rows=400).items():
            texts = [" ".join(turns[0]["content"].lower().split()) for turns in frame["prompt"]]
            assert len(set(texts)) == len(texts)  # so no pair occurs twice either
            prompts[name] += texts
    names = list(prompts)
    for i, one in enumerate(names):
        for other in names[i + 1 :]:
            assert not set(prompts[one]) & set(prompts[other]), (one, other)


def test_held_out_kinds_are_in_ood_alone(big):
    for name, frame in big.items():
        assert set(frame["category"]) == set(HELD_OUT if name == "ood" else TRAINED)
    assert len(HELD_OUT) >= 4 and len(TRAINED) >= 6


def test_kinds_and_levels_are_balanced(big):
    for frame in big.values():
        for column, groups in (("category", 1), ("subset", len(LEVELS))):
            counts = frame[column].value_counts()["count"]
            assert counts.max() - counts.min() <= 1
            assert len(counts) == groups * frame["category"].n_unique()
    assert set(big["train"]["subset"]) == {f"{kind}-{level}" for kind in TRAINED for level in LEVELS}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rows": 0}, "rows is 0; it must lie between 1 and 20000"),
        ({"rows": -3}, "rows is -3"),
        ({"rows": 10**9}, "rows is 1000000000"),
        ({"rows": 5, "test_rows": 0}, "test_rows is 0"),
        ({"rows": 5, "test_rows": 10**6}, "test_rows is 1000000"),
    ],
)
def test_unreasonable_sizes_are_refused(arguments, message):
    with pytest.raises(UserError, match=message):
        build(seed=0, **arguments)


def test_running_out_of_prompts_is_one_line(monkeypatch):
    monkeypatch.setattr(verifiable, "MAX_TEST_ROWS", 10**6)
    with pytest.raises(UserError, match=r"more than kind '\w+' has prompts; ask for fewer$"):
        build(1, 0, test_rows=4000)


# ---------------------------------------------------------------- the answers, read off the text


def quoted(text: str) -> list[str]:
    return re.findall(r'"([^"]+)"', text)


def tokens(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def ask_of(prompt: str, phrases: dict[str, str]) -> str:
    """The one value whose phrase (a regular expression) the prompt contains."""
    found = {value for phrase, value in phrases.items() if re.search(rf"\b({phrase})(?!\w)", prompt)}
    assert len(found) == 1, (prompt, found)
    return found.pop()


def topic_holds(prompt: str, response: str, level: int) -> bool:
    every = {name: sentences for group in TOPICS.values() for name, sentences in group.items()}
    (name,) = set(tokens(prompt)) & set(every)
    return name in tokens(response) if level == 1 else response in every[name]


def case_holds(prompt: str, response: str, level: int) -> bool:
    style = ask_of(
        prompt,
        {
            "all in capital letters|in upper case|only capital letters": "upper",
            "all in small letters|in lower case|only small letters": "lower",
            "every word begins with|title case": "title",
            "start and nowhere else|only the first word is capitalised": "plain",
            "only the first word in full|first word, and no other": "first",
            "only the last word in full|last word, and no other": "last",
        },
    )
    parts = response.rstrip(".").split()
    at = 0 if style == "first" else len(parts) - 1
    return {
        "upper": response.isupper(),
        "lower": response.islower(),
        "title": all(part[0].isupper() and not part[1:].isupper() for part in parts),
        "plain": response[0].isupper() and response[1:].islower(),
        "first": len(parts[0]) > 1 and [part.isupper() for part in parts] == [i == at for i in range(len(parts))],
        "last": [part.isupper() for part in parts] == [i == at for i in range(len(parts))],
    }[style]


def keyword_holds(prompt: str, response: str, level: int) -> bool:
    assert len(quoted(prompt)) == (2 if level == 2 else 1)
    return set(quoted(prompt)) <= set(tokens(response))


def form_holds(prompt: str, response: str, level: int) -> bool:
    wanted = ask_of(
        prompt,
        {
            "a question(?! that asks| that starts| to be)|one question|asks a question": "?",
            "exclamation(?! mark)|with an exclamation mark": "!",
            "statement|full stop": ".",
            "yes-or-no|with yes or no": "yes-no",
            "asks for a reason|starts with .why.": "why",
            "command|order|instruction": "command",
        },
    )
    end, first = response[-1], response.split()[0]
    imperative = first in {"Tell", "Write", "Never", "Draw", "Learn", "Stop", "Sing", "Ask", "Go", "Bring"}
    return {
        ".": end == "." and not imperative,
        "yes-no": end == "?" and first in {"Do", "Have", "Did", "Is", "Can", "Are", "Does", "Would"},
        "why": end == "?" and first == "Why",
        "command": end == "." and imperative,
    }.get(wanted, end == wanted)


def copy_holds(prompt: str, response: str, level: int) -> bool:
    return prompt.split(": ", 1)[1] == response


def start_holds(prompt: str, response: str, level: int) -> bool:
    (opener,) = quoted(prompt)
    return response.lower().startswith(opener.lower() + " ")


def ending_holds(prompt: str, response: str, level: int) -> bool:
    (end,) = quoted(prompt)
    return response.endswith(f" {end}.")


def category_holds(prompt: str, response: str, level: int) -> bool:
    banks = [dict(bank) for bank in (*words.CATEGORIES.values(), *words.HALVES)]
    members = [bank[name] for bank in banks for name in bank if re.search(rf"\b{name}(?! that)\b", prompt)]
    named = max(members, key=len)
    return any(re.search(rf"\b{member}[.?]$", response) for member in named)


def mood_holds(prompt: str, response: str, level: int) -> bool:
    mood = ask_of(prompt, {name: name for name in words.SHOWN})
    return response in (words.FELT if level == 1 else words.SHOWN)[mood]


def language_holds(prompt: str, response: str, level: int) -> bool:
    name = ask_of(prompt, {language: language for language in words.LANGUAGES})
    if level == 3:
        (phrase,) = quoted(prompt)
        meant = words.PHRASES[phrase][["French", "German", "Spanish"].index(name)]
        return response.lower() == meant.lower() + "."
    return response in words.LANGUAGES[name]


def opposite_holds(prompt: str, response: str, level: int) -> bool:
    at = ask_of(prompt, {"opposite of": "1", "same as": "2"})
    (word,), (answer,) = quoted(prompt), quoted(response)
    return answer in {triple[int(at)] for field in words.OPPOSITES.values() for triple in field if triple[0] == word}


HOLDS = {kind: globals()[f"{kind}_holds"] for kind in KINDS}


@pytest.mark.parametrize("kind", KINDS)
def test_each_response_is_right_for_its_own_prompt_alone(kind):
    for level in LEVELS:
        rng = Random(hash64("test", f"{kind}-{level}"))
        for _ in range(300):
            task = KINDS[kind](rng, level)
            for i, prompt in enumerate(task.prompts):
                for j, response in enumerate(task.responses):
                    assert HOLDS[kind](prompt, response, level) == (i == j), (kind, level, prompt, response)


def test_chosen_is_right_and_rejected_is_wrong(pairs):
    for row in pairs:
        holds, level = HOLDS[row["category"]], int(row["subset"][-1])
        assert holds(row["prompt"], row["chosen"], level), row
        assert not holds(row["prompt"], row["rejected"], level), row


def test_a_topic_is_named_only_where_it_is_asked_for():
    topics = [name for group in TOPICS.values() for name in group]
    stems = {stem for name in topics for stem in (name, name.removesuffix("s"))}
    frames = (*words.STATEMENTS, *words.YES_NO, *words.REASONS, *words.EXCLAMATIONS, *words.COMMANDS)
    hints = [hint for group in TOPICS.values() for sentences in group.values() for hint in sentences]
    assert len(set(hints)) == len(hints)
    for text in (*frames, *hints):
        assert not stems & set(tokens(text)), text


def test_no_word_is_in_two_categories_that_are_crossed():
    for bank in (*(tuple(field.items()) for field in words.CATEGORIES.values()), *words.HALVES):
        members = [member for _, group in bank for member in group]
        assert len(set(members)) == len(members)
    flat = [(field, m) for field, bank in words.CATEGORIES.items() for group in bank.values() for m in group]
    assert len({member for _, member in flat}) == len(flat)


def test_texts_are_short_and_plain(pairs):
    for row in pairs:
        texts = row["prompt"], row["chosen"], row["rejected"]
        assert len(row["prompt"].split()) <= 25 and max(len(text.split()) for text in texts[1:]) <= 15, texts
        for text in texts:
            assert text == " ".join(text.split()) and "{" not in text
            assert not re.search(r"\b(a [aeio]|an [^aeiou])", text), text
            assert defuse(text) == text and "Verdict" not in text and "[" not in text


# ---------------------------------------------------------------- nothing gives the answer away


def within_chance(right: float, total: int, z: float = 3.29) -> bool:
    """Whether ``right`` of ``total`` is inside the 99.9 % interval of fair coins."""
    return abs(right - total / 2) <= z * math.sqrt(total) / 2


def of_kind(pairs: list[dict], kind: str, *parts: str) -> list[dict]:
    rows = [row for row in pairs if row["category"] == kind]
    return [row for row in rows if row["pair_id"].split("-")[2] in parts] if parts else rows


def surface(text: str) -> Counter:
    """What a response looks like without its prompt: words as written, first, last, length, marks, capitals."""
    parts = text.split()
    seen = Counter(parts)
    seen.update(tokens(text))
    seen.update((f"first={parts[0]}", f"last={parts[-1]}", f"end={text[-1]}"))
    seen["length"] = len(text) / 20
    seen["words"] = len(parts) / 4
    seen["capitals"] = 4 * sum(map(str.isupper, text)) / len(text)
    return seen


class Probe:
    """An averaged perceptron that says whether A is better from features of the two responses alone."""

    def __init__(self, rows: list[tuple[Counter, int]], epochs: int = 4) -> None:
        weights: dict[str, float] = defaultdict(float)
        total: dict[str, float] = defaultdict(float)
        rows, steps = list(rows), 0
        for epoch in range(epochs):
            Random(epoch).shuffle(rows)
            for features, label in rows:
                steps += 1
                if label * sum(weights[name] * value for name, value in features.items()) <= 0:
                    for name, value in features.items():
                        weights[name] += label * value
                        total[name] += label * value * steps
        self.weights = {name: weights[name] - total[name] / steps for name in weights}

    def right(self, rows: list[tuple[Counter, int]]) -> float:
        score = 0.0
        for features, label in rows:
            side = label * sum(self.weights.get(name, 0.0) * value for name, value in features.items())
            score += 1.0 if side > 0 else 0.5 if side == 0 else 0.0
        return score


def masked(rows: list[dict]) -> list[tuple[Counter, int]]:
    """(features of A minus features of B, +1 if A is better) with the prompt hidden."""
    examples = []
    for row in rows:
        a, b, letter = responses(row["pair_id"], False, row["chosen"], row["rejected"])
        difference = surface(a)
        difference.subtract(surface(b))
        examples.append((difference, 1 if letter == "A" else -1))
    return examples


def learn_and_hold_out(pairs: list[dict], kind: str | None = None) -> tuple[list[dict], list[dict]]:
    if kind is None:
        return [r for r in pairs if "-train-" in r["pair_id"]], [r for r in pairs if "-test-" in r["pair_id"]]
    if kind in HELD_OUT:
        rows = of_kind(pairs, kind)
        return rows[: len(rows) // 2], rows[len(rows) // 2 :]
    return of_kind(pairs, kind, "train"), of_kind(pairs, kind, "validation", "test")


@pytest.mark.parametrize("kind", KINDS)
def test_length_says_nothing(pairs, kind):
    for size in (len, lambda text: len(text.split())):
        lengths = [(size(row["chosen"]), size(row["rejected"])) for row in of_kind(pairs, kind)]
        longer = [chosen > rejected for chosen, rejected in lengths if chosen != rejected]
        assert within_chance(sum(longer), len(longer)), (kind, sum(longer), len(longer))


@pytest.fixture(scope="module")
def asked() -> dict[str, list[tuple[Task, int]]]:
    """kind -> for each row of a build the task that it came from, and which of the two prompts was asked."""
    drawn: list[tuple[str, Task]] = []

    def recorded(name: str, kind: Kind) -> Kind:
        def draw(rng: Random, level: int) -> Task:
            drawn.append((name, kind(rng, level)))
            return drawn[-1][1]

        return draw

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(verifiable, "KINDS", {name: recorded(name, kind) for name, kind in KINDS.items()})
        tables = build(rows=1200, seed=5, test_rows=1000)
    # Neighbouring rows are of different kinds, so the last draw of a run of one kind is the one that was taken.
    taken = [list(draws)[-1] for _, draws in groupby(drawn, key=lambda draw: draw[0])]
    rows = [row for table in tables.values() for row in table.to_dicts()]
    found: dict[str, list[tuple[Task, int]]] = defaultdict(list)
    for row, (name, task) in zip(rows, taken, strict=True):
        index = task.prompts.index(row["prompt"][0]["content"])
        assert (row["category"], row["chosen"]) == (name, task.responses[index])
        assert row["rejected"] == task.responses[1 - index]
        found[name].append((task, index))
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_which_prompt_is_asked_is_a_fair_coin(asked, kind):
    """Neither the place in the task nor the form of the prompt says which of the two is asked."""
    by_form: list[Callable[[Task], list]] = [
        lambda task: [0, 1],
        lambda task: list(task.prompts),
        lambda task: [len(prompt) for prompt in task.prompts],
        lambda task: [len(prompt.split()) for prompt in task.prompts],
    ]
    for form in by_form:
        seen = [(form(task), index) for task, index in asked[kind] if form(task)[0] != form(task)[1]]
        larger = [values[index] > values[1 - index] for values, index in seen]
        assert within_chance(sum(larger), len(larger)), (kind, sum(larger), len(larger))
    assert len(asked[kind]) >= 200


@pytest.mark.parametrize("kind", [*KINDS, None])
def test_responses_alone_say_nothing(pairs, kind):
    learn, held = learn_and_hold_out(pairs, kind)
    right = Probe(masked(learn)).right(masked(held))
    assert within_chance(right, len(held)), (kind, right, len(held))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("leak", ["a word", "a mark", "length"])
def test_the_probe_would_see_a_leak(pairs, kind, leak):
    def leaky(row: dict) -> dict:
        chosen = {
            "a word": row["chosen"] + " Indeed.",
            "a mark": row["chosen"].rstrip(".!?") + ";",
            "length": row["chosen"] + " " + row["chosen"],
        }[leak]
        return row | {"chosen": chosen}

    learn, held = (list(map(leaky, rows)) for rows in learn_and_hold_out(pairs, kind))
    assert Probe(masked(learn)).right(masked(held)) > 0.9 * len(held)


def test_reading_both_is_what_it_takes(pairs):
    """Words shared with the prompt solve the kind that quotes its answer: the tests above do not pass on noise."""
    rows = of_kind(pairs, "copy")
    right = 0
    for row in rows:
        asked, chosen, rejected = (set(tokens(row[name])) for name in ("prompt", "chosen", "rejected"))
        right += len(asked & chosen) > len(asked & rejected)
    assert right > 0.9 * len(rows)


def test_levels_and_kinds_narrow_the_draw():
    tables = build(40, 0, 20, levels=[1, 2], kinds=["copy", "topic"])
    for part in ("train", "validation", "test"):
        assert set(tables[part]["category"]) == {"copy", "topic"}
    assert set(tables["ood"]["category"]) == set(HELD_OUT)
    assert {subset[-1] for table in tables.values() for subset in table["subset"]} == {"1", "2"}
    for wrong in ({"levels": [4]}, {"levels": []}, {"kinds": ["nope"]}, {"kinds": []}, {"kinds": [HELD_OUT[0]]}):
        with pytest.raises(UserError, match="verifiable: (levels|kinds) are"):
            build(8, 0, **wrong)


def test_reference_rationales_say_what_is_so():
    """Each names what the prompt asks for, and gives it to the preferred response, in both orders."""
    made, reasons = build(180, 5)["train"], verifiable.rationales(180, 5)
    assert reasons.select("pair_id", "swapped").rows() == [(p, s) for p in made["pair_id"] for s in (False, True)]
    assert reasons["verdict"].value_counts()["count"].to_list() == [180, 180]
    said = re.compile(r"It should (.+)\. Response A (.+): (yes|no)\. Response B (.+): (yes|no)\.")
    for row in reasons.join(made, on="pair_id").iter_rows(named=True):
        ask, a, a_fits, b, b_fits = said.fullmatch(row["rationale"]).groups()
        assert (a_fits, b_fits) == (("yes", "no") if row["verdict"] == "A" else ("no", "yes"))
        right, wrong = (a, b) if row["verdict"] == "A" else (b, a)
        assert (row["verdict"] == "A") == chosen_is_a(row["pair_id"], row["swapped"])
        # "begin with x" and "begins with x"; "be" and "is".
        assert right.split(" ", 1)[1] == ask.split(" ", 1)[1] != wrong.split(" ", 1)[1], row["rationale"]
        for text, feature in ((row["chosen"], right), (row["rejected"], wrong)):
            words_said = re.findall(r'"([^"]+)"', feature)
            assert all(word.lower() in text.lower() for word in words_said), (text, feature)
            if row["category"] == "topic" and row["subset"] == "topic-1":
                assert feature.removeprefix("is about ") in text.lower()
    quoted = reasons.filter(
        pl.col("pair_id").is_in(
            made.filter(pl.col("category").is_in(["copy", "start", "keyword"]))["pair_id"].implode()
        )
    )
    assert quoted["rationale"].str.count_matches('"').min() == 6, "every feature of these kinds is a quotation"


def test_reference_rationales_follow_the_arguments():
    few = verifiable.rationales(12, 5, (1,), ("copy", "start"))
    assert few.head(8).equals(verifiable.rationales(4, 5, (1,), ("copy", "start")))
    assert set(build(12, 5, 4, (1,), ("copy", "start"))["train"]["pair_id"]) == set(few["pair_id"])
    with pytest.raises(UserError, match="levels are"):
        verifiable.rationales(4, 5, (9,))
