"""Each filter against what it should keep, by hand."""

from __future__ import annotations

import doctest

import polars as pl
import pytest

from data_tools import star
from data_tools.errors import UserError
from data_tools.order import chosen_is_a, hash64
from data_tools.selection import texts
from data_tools.selection.filters import FILTERS, register
from tests.data_tools.selection.tables import many, preferences, row, select, table


def place(pair, swapped, rights, start):
    return [row(start + i, pair, swapped, bool(right)) for i, right in enumerate(rights)]


def test_doctests():
    assert doctest.testmod(texts).failed == 0


# Right samples: p 2 of 2 and 1 of 2; q 2 of 2 and 2 of 2; r 1 of 2 and none of 2; s 2 of 2, in one order alone.
ROWS = [
    *place("p", False, [1, 1], 0), *place("p", True, [1, 0], 10), *place("q", False, [1, 1], 20),
    *place("q", True, [1, 1], 30), *place("r", False, [1, 0], 40), *place("r", True, [0, 0], 50),
    *place("s", False, [1, 1], 60),
]  # fmt: skip


@pytest.mark.parametrize(
    ("filter", "kept"),
    [
        ("right_in_both", [20, 21, 30, 31]),
        ("right_in_both:share=0.4", [0, 1, 10, 20, 21, 30, 31]),
        ("right_in_both:share=0", [0, 1, 10, 20, 21, 30, 31]),
        ("consistency_band", [0, 1, 10, 40]),
        ("consistency_band:low=0.5", [0, 1, 10]),
        ("consistency_band:high=0.7", [40]),
        ("both_letters", [10, 40]),
        ("both_orders", [0, 1, 10, 20, 21, 30, 31]),
        ("hardest:pairs=1", [40]),  # a quarter right
        ("hardest:pairs=2", [0, 1, 10, 40]),
    ],
)
def test_filters_by_votes(filter, kept):
    assert select(ROWS, filters=[filter])[0] == kept


def test_right_in_both_looks_at_the_votes_not_at_what_another_filter_left():
    rows = [row(0, "p", False), row(1, "p", True, rationale="")]
    assert select(rows, filters=["min_words:words=1", "right_in_both"])[0] == [0]


def test_ties_of_the_hardest_go_by_hash():
    rows = [row(i, f"p-{i}") for i in range(5)]
    first = sorted(range(5), key=lambda i: hash64("balance", f"p-{i}"))
    assert select(rows, filters=["hardest:pairs=2"])[0] == sorted(first[:2])


@pytest.mark.parametrize(
    ("filter", "more"),
    [
        ("margin:least=0.2", {"sure": 0.6}),
        ("margin:least=0.2", {"sure": 0.4}),  # the vote is drawn, so it may go against p_a
        ("margin:least=0.2", {"p_a": None}),
        ("stopped", {"finish_reason": "length"}),
        ("stopped", {"finish_reason": None}),
        ("verdict_agrees", {"verdict": "INVALID"}),
        ("verdict_agrees", {"verdict": None}),
        ("min_words:words=2", {"rationale": "one"}),
        ("max_words:words=2", {"rationale": "one two, three"}),
        ("no_repetition", {"rationale": "it is good and " * 6}),
        ("no_repetition", {"rationale": "It is very VERY, very (very) good."}),
    ],
)
def test_filters_of_one_sample(filter, more):
    chosen, counts = select([row(0), row(1, **more), row(2)], filters=[filter])
    assert chosen == [0, 2] and counts["dropped"][filter.partition(":")[0]] == 1


@pytest.mark.parametrize(("scope", "kept"), [("all", [0, 3]), ("prompt", [0, 2, 3])])
def test_distinct_rationales(scope, kept):
    said = ["A is better: clear.", "a IS better -- clear", "A is better clear", "A is clear"]
    rows = [row(i, pair, rationale=text) for i, (pair, text) in enumerate(zip("ppqq", said, strict=True))]
    assert select(rows, filters=[f"distinct_rationales:scope={scope}"])[0] == kept


def test_near_duplicates():
    words = [f"word{i}" for i in range(80)]
    nearly = " ".join([*words[:40], "other", *words[41:]])  # 75 of 81 3-grams in common: 0.93
    half = " ".join([*words[:40], *(f"more{i}" for i in range(40))])
    said = {0: " ".join(words), 1: nearly, 2: half, 3: "Word0, " + " ".join(words[1:]).upper(), 4: "two words"}
    rows = [row(i, rationale=text) for i, text in said.items()]
    assert select(rows, filters=["near_duplicates"])[0] == [0, 2, 4]
    assert select(rows, filters=["near_duplicates:similarity=1"])[0] == [0, 1, 2, 4]
    rows = [row(i, f"p-{i}", rationale=text) for i, text in said.items()]
    assert select(rows, filters=["near_duplicates:scope=prompt"])[0] == [0, 1, 2, 3, 4]
    assert select(rows, filters=["near_duplicates"])[0] == [0, 2, 4]


def letters(lengths):
    """A row a pair with the lengths given for right letter A and for B."""
    names = {letter: [p for p in (f"p-{i}" for i in range(99)) if chosen_is_a(p, False) == (letter == "A")]
             for letter in "AB"}  # fmt: skip
    rows = []
    for letter, of_letter in lengths.items():
        for pair, n in zip(names[letter], of_letter, strict=False):
            rows.append(row(len(rows), pair, n_tokens=n))
    return rows


def test_balance_lengths():
    rows = letters({"A": [10, 10, 50, 90], "B": [10, 50, 50, 200]})
    chosen, counts = select(rows, filters=["balance_lengths"])
    assert sorted(rows[i]["n_tokens"] for i in chosen) == [10, 10, 50, 50] and counts["letters"] == {"A": 2, "B": 2}
    assert select(letters({"A": [10, 1000], "B": [500, 2]}), filters=["balance_lengths:width=1000000"])[1]["kept"] == 4


def test_balance_categories():
    rows = [row(i, f"p-{i}") for i in range(9)]
    categories = {f"p-{i}": "math" if i < 5 else "chat" if i < 7 else None for i in range(9)}
    chosen, _ = select(rows, filters=["balance_categories"], categories=categories)
    by_hash = sorted(range(5), key=lambda i: hash64("balance", f"p-{i}"))
    assert chosen == [*sorted(by_hash[:2]), 5, 6, 7, 8]
    assert len(select(rows, filters=["balance_categories:ratio=2"], categories=categories)[0]) == 8


def test_balance_sides():
    couples = [(20, 10), (20, 10), (20, 10), (10, 20), (10, 10), (90, 10)]
    rows = []
    for i, lengths in enumerate(couples):
        rows += [row(2 * i + k, f"p-{i}", right=not k, n_tokens=n) for k, n in enumerate(lengths)]
    chosen, _ = select(rows, "dpo", filters=["balance_sides"])
    lengths = [(rows[a]["n_tokens"], rows[b]["n_tokens"]) for a, b in chosen]
    assert sorted(lengths) == [(10, 10), (10, 20), (20, 10)]
    alone = row(99, "p-99")
    kept, _ = select([*rows, alone], "dpo", filters=["balance_sides"], uncoupled="keep")
    assert len(kept) == 4 and (99, None) in kept
    with pytest.raises(UserError, match="'balance_sides' compares the two samples of a couple; objective sft has none"):
        select(rows, filters=["balance_sides"])


@pytest.mark.parametrize("name", [name for name in FILTERS if name != "stopped"])  # nobody said that any has
def test_what_a_server_does_not_tell_may_be_null(name):
    objective = "dpo" if FILTERS[name].needs_couples else "sft"
    wide = {"no_repetition": ":min_distinct=0.1", "right_in_both": ":share=0.2", "near_duplicates": ":scope=prompt"}
    pairs, rows = 30, many(3, unknown=True)
    ids = [f"p-{i}" for i in range(pairs)]
    filters = [name + wide.get(name, "")]
    frame, counts = star.examples(table(rows), preferences(ids), objective=objective, filters=filters)
    assert counts["kept"] > 0 and frame["completion_ids"].null_count() == counts["kept"]


def test_a_filter_is_registered_in_a_line():
    def starts_with_a(frame, letter: int = 1):
        return frame.filter(pl.col("rationale").str.head(letter) == "A")

    register(starts_with_a, "texts")
    try:
        assert select([row(0, rationale="A"), row(1, rationale="B")], filters=["starts_with_a:letter=1"])[0] == [0]
    finally:
        del FILTERS["starts_with_a"]
    with pytest.raises(ValueError, match="nowhere"):
        register(starts_with_a, "nowhere")


@pytest.mark.parametrize(
    ("filter", "said"),
    [
        ("distinct_rationales:scope=some", "scope=some should be one of: all, prompt"),
        ("near_duplicates:similarity=x", "similarity=x should be a number, as in similarity=0.8"),
        ("hardest:pairs=1.5", "pairs=1.5 should be a whole number, as in pairs=1000"),
    ],
)
def test_parameters(filter, said):
    with pytest.raises(UserError, match=said):
        select([row(0)], filters=[filter])
