import polars as pl

from data_tools import clean as module
from data_tools.clean import clean
from data_tools.conflicts import outvoted
from data_tools.removal import Left
from data_tools.schema import PREFERENCE, conform


def table(rows):
    """rows: (pair_id, prompt text, chosen, rejected, split)"""
    names = ("pair_id", "prompt", "chosen", "rejected", "split")
    records = [dict(zip(names, (i, [{"role": "user", "content": q}], *rest), strict=True)) for i, q, *rest in rows]
    return conform(pl.DataFrame(records, schema={name: PREFERENCE[name] for name in names}), PREFERENCE)


def check(rows, lost, kept):
    """``lost``: {pair id: share of the votes}; ``kept``: ids after clean, which drops what is still contradictory."""
    remaining = Left(table(rows).lazy())
    found = outvoted(remaining.rows())
    remaining.drop("outvoted", found)
    assert dict(zip(found["pair_id"], found["score"], strict=True)) == lost
    assert [rows[row][0] for row in found["_row"]] == found["pair_id"].to_list()
    left, counts = clean(remaining.rows().drop("_row").collect())
    assert left["pair_id"].to_list() == kept
    return counts


def test_the_majority_stays_and_a_tie_goes():
    two_to_one = [("a", "q", "x", "y", "train"), ("b", "q", "y ", " x", "train"), ("c", "q", "x", "y", "train")]
    tie = [("d", "w", "x", "y", "train"), ("e", "w", "y", "x", "train")]
    counts = check([*two_to_one, *tie], {"b": 1 / 3}, ["a"])
    assert (counts[module.BOTH_ORDERS], counts[module.REPEAT]) == (2, 1)


def test_the_same_responses_to_another_prompt_or_other_roles_do_not_vote():
    check([("a", "q", "x", "y", "train"), ("b", "w", "y", "x", "train"), ("c", "w", "y", "x", "train")], {}, ["a", "b"])


def test_rows_whose_prompt_is_held_out_do_not_vote():
    train = [(name, "Q", "y", "x", "train") for name in "abc"]
    check([*train, ("d", "q", "x", "y", "test")], {}, ["d"])
    check([*train, ("d", "q", "x", "y", "validation")], {}, ["d"])
    test = [("e", "q", "x", "y", "test"), ("f", "q", "y", "x", "test"), ("g", "q", "x", "y", "test")]
    # "Q" and "q" are one prompt for the split, two for a contradiction.
    check([*train, *test], {"f": 1 / 3}, ["e"])


def test_equal_responses_have_no_sides():
    check([("a", "q", "x", "x", None), ("b", "q", "x", "y", None)], {}, ["b"])
    check([], {}, [])
