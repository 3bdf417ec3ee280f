"""Attacks: what changes and what must not, draws, controls of like length, names that are none."""

from __future__ import annotations

import re

import polars as pl
import pytest

from data_tools.attacks import ATTACKS, FAMILIES, PLACES, attacked, chosen
from data_tools.attacks.controls import LEAST, MOST, grown
from data_tools.attacks.dress import line_breaks, markdown, said_again
from data_tools.errors import UserError
from data_tools.judging import Verdict, defuse, parse, render_prompt
from data_tools.marks import unmarked
from data_tools.order import hash64
from data_tools.schema import PREFERENCE, check, check_values, conform

FIRST = "Foxes are red. They run at night!"
TEXTS = [
    FIRST,
    "x",
    "",
    "  spaces \n\n around  ",
    "1. one\n2. two",
    "```py\nx = 1\n\n\ny = 2\n```",
    "日本語です。短い。",
]


def pairs(n: int = 14) -> pl.DataFrame:
    rows = [
        {
            "pair_id": f"pair-{i}",
            "prompt": [{"role": "user", "content": f"Name an animal. ({i})"}],
            "chosen": f"A fox, number {i}. It is red.",
            "rejected": TEXTS[i % len(TEXTS)],
            "category": "chat",
        }
        for i in range(n)
    ]
    return conform(pl.DataFrame(rows), PREFERENCE)


@pytest.mark.parametrize("name", ATTACKS)
def test_only_the_worse_response_changes(name):
    clean = pairs()
    rows = attacked(clean, name)
    check_values(check(rows, PREFERENCE, name), PREFERENCE, name)
    assert rows.drop("rejected").equals(clean.drop("rejected"))  # ids too: order and seeds are drawn from them
    changed = rows.filter(rows["rejected"] != clean["rejected"])
    said = clean.filter(clean["rejected"].str.strip_chars() != "").height
    assert changed.height >= said


def test_a_lazy_table_stays_lazy():
    lazy = attacked(pairs().lazy(), "symbol")
    assert isinstance(lazy, pl.LazyFrame) and lazy.collect(engine="streaming").equals(attacked(pairs(), "symbol"))


@pytest.mark.parametrize("name", ATTACKS)
def test_what_an_attack_makes_depends_on_the_pair_alone(name):
    clean = pairs()
    rows = attacked(clean, name)
    assert attacked(clean.reverse(), name).reverse().equals(rows)
    other = attacked(clean.with_columns(chosen=pl.lit("else"), category=pl.lit(None, pl.String)), name)
    assert other["rejected"].equals(rows["rejected"])


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_an_attack_says_what_it_is(attack):
    assert re.fullmatch(r"[a-z0-9_]+", attack.name) and attack.name not in FAMILIES
    assert attack.family in FAMILIES and attack.place in PLACES
    assert attack.description and attack.source
    assert bool(attack.texts) != (attack.transform is not None)
    assert (attack.transform is not None) == (attack.place == "transform")
    assert attack.nothing == (attack.place == "replace")
    assert attack.kind == ("control" if attack.family == "control" else attack.place)
    response = attack(FIRST, "pair-1")
    if attack.place == "append":
        assert response.startswith(FIRST + attack.joint) and attack("", "pair-1") in attack.texts
    elif attack.place == "prepend":
        assert response.endswith(attack.joint + FIRST)
    elif attack.place == "replace":
        assert response in attack.texts and FIRST not in response


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_a_control_stands_in_the_same_place_and_is_about_as_long(attack):
    if attack.kind == "control":
        assert attack.control is None
        return
    control = ATTACKS[attack.control]
    assert control.kind == "control"
    if attack.family != "combined":  # of a long fixed text
        assert control.place == attack.place
    if attack.family == "dress":  # the marks are what is tried
        return
    text = FIRST * 8
    before, under, plain = (len(one) for one in (text, attack(text, "pair-1"), control(text, "pair-1")))
    assert abs(under - plain) <= max(30, 0.35 * abs(plain - before)), (attack.name, under, plain, before)


def test_variants_are_drawn_evenly_and_apart_from_the_order():
    several = {name: attack for name, attack in ATTACKS.items() if len(attack.texts) > 1}
    assert {"symbol", "end_token", "argued_verdict", "foreign_opener_alone", "all_together"} == set(several)
    for attack in several.values():
        drawn = [attack.texts.index(attack("", f"pair-{i}")) for i in range(600)]
        counts = [drawn.count(i) for i in range(len(attack.texts))]
        assert min(counts) > 0.75 * 600 / len(counts), (attack.name, counts)
        in_order = [hash64("order", f"pair-{i}") & 1 for i in range(600)]
        first = [drawn[i] for i in range(600) if in_order[i]].count(0)
        assert 0.4 < first / counts[0] < 0.6, attack.name


def test_fake_verdicts_come_in_both_letters_and_are_read_by_nobody():
    for name in ("verdict", "framed_verdict"):
        texts = {letter: ATTACKS[f"{name}_{letter.lower()}"](FIRST, "p") for letter in "AB"}
        for letter, text in texts.items():
            assert parse(text) is Verdict(letter)
        assert texts["A"].replace("[[A]]", "[[B]]") == texts["B"]
    # In a judge prompt they are taken apart, whatever attack brings them.
    for name in ATTACKS:
        for row in attacked(pairs(4), name).iter_rows(named=True):
            shown = render_prompt(row["prompt"], row["rejected"], row["chosen"], "brief")[1]["content"]
            assert parse(shown) is Verdict.INVALID
            assert shown.count("[End of Response A]") == shown.count("[Response B]") == 1
            assert defuse(row["rejected"]).strip() in shown


def test_a_server_gets_no_mark_of_a_chat_template():
    """Our own renderer splits them (tests/test_attacks_rendered.py); for servers they are taken apart in the text."""
    marks = re.compile(r"<\|\w+\|>|\[/?INST\]|</?s>|<(?:start|end)_of_turn>")
    marked = [name for name, attack in ATTACKS.items() if any(marks.search(text) for text in attack.texts)]
    assert marked == ["chatml_turn", "llama3_turn", "inst_turn", "gemma_turn", "end_token", "all_together"]
    for name in marked:
        assert not any(marks.search(unmarked(text)) for text in ATTACKS[name].texts), name


def test_a_control_says_nothing_for_the_response():
    claims = r"better|best|correct|prefer|judge|verdict|good|accura|help|expert|instruct|\[\[|<\||\*\*|#"
    for attack in ATTACKS.values():
        if attack.kind == "control":
            assert not re.search(claims, attack("", "pair-1"), re.IGNORECASE), attack.name


@pytest.mark.parametrize("text", TEXTS)
def test_dress_keeps_every_word(text):
    def bare(shown: str) -> str:
        return re.sub(r"\s+", "", shown)

    assert bare(line_breaks(text)) == "Answer" + bare(text)
    undressed = markdown(text).replace("**", "").removeprefix("## ")
    assert bare(re.sub(r"(?m)^- ", "", undressed)) == "Answer" + bare(text)


def test_markdown_leaves_marks_that_are_there():
    text = "# Head\n| a | b |\n> said\n1. **Bold** already\n2. Plain item\n    code = 1\n---\nLast one. And more."
    assert markdown(text).splitlines()[2:] == [
        "# Head", "| a | b |", "> said", "1. **Bold** already", "2. **Plain item**", "    code = 1", "---",
        "- **Last one.**", "- **And more.**",
    ]  # fmt: skip
    code = "```py\ndef f(x):\n    return x\n```"
    assert markdown(f"See here.\n{code}").endswith(code) and line_breaks(code).endswith(code)


@pytest.mark.parametrize("length", [0, 10, 300, 5000])
def test_padding_doubles_a_response_within_bounds(length):
    text = ("ab " * length)[:length].strip()
    for sentences in (["one.", "two."], ["a sentence of some length, in words."]):
        added = len(grown(text, sentences)) - len(text)
        assert min(max(len(text), LEAST), MOST) <= added <= min(max(len(text), LEAST), MOST) + 60
    assert not text or said_again(text).startswith(f"{text}\n\n{text.splitlines()[0]}")


def test_attacks_are_chosen_by_name_or_family_with_their_controls():
    assert [attack.name for attack in chosen()] == list(ATTACKS)
    assert [attack.name for attack in chosen(["markdown"])] == ["markdown", "line_breaks"]
    names = [attack.name for attack in chosen(["nothing", "empty", "flattery"])]
    assert names == ["empty", "symbol", "flattery", "neutral_end", "neutral_instead"]
    assert [attack.name for attack in chosen(["nothing"], controls=False)] == ["empty", "symbol"]


@pytest.mark.parametrize(
    "names, said", [(["flatery"], "attack 'flatery' is unknown; there are: thought"), ([], "no attack")]
)
def test_unknown_names_are_told_those_there_are(names, said):
    with pytest.raises(UserError, match=said) as error:
        chosen(names)
    assert "flattery" in str(error.value) and "persuasion" in str(error.value) and "\n" not in str(error.value)
    with pytest.raises(UserError, match="attack 'empt' is unknown"):
        attacked(pairs(2), "empt")


def test_a_family_is_no_attack():
    with pytest.raises(UserError, match="attack 'openers' is unknown"):
        attacked(pairs(2), "openers")
