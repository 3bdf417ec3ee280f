import polars as pl
import pytest

from data_tools import clean as module
from data_tools.clean import REASONS, clean
from data_tools.errors import UserError
from data_tools.schema import PREFERENCE, conform


def table(rows):
    """rows: (pair_id, prompt text, chosen, rejected, split)"""
    names = ("pair_id", "prompt", "chosen", "rejected", "split")
    records = [dict(zip(names, (i, [{"role": "user", "content": q}], *rest), strict=True)) for i, q, *rest in rows]
    return conform(pl.DataFrame(records, schema={name: PREFERENCE[name] for name in names}), PREFERENCE)


def check(rows, kept, **expected):
    frame = table(rows)
    done, counts = clean(frame)
    assert done["pair_id"].to_list() == kept
    assert done.equals(frame.filter(pl.col("pair_id").is_in(kept)))  # text untouched, order kept
    assert list(counts) == list(REASONS)
    assert {name: n for name, n in counts.items() if n} == {getattr(module, name): n for name, n in expected.items()}
    assert frame.height == done.height + sum(counts.values())


def test_nothing_to_drop():
    check([("b", "q", " x ", "y", "train"), ("a", "q", "y", "z", None)], ["b", "a"])


def test_empty():
    rows = [("a", " \n", "x", "y", "train"), ("b", "q", "\t", "y", "train"), ("c", "q", "x", "", "train")]
    check([*rows, ("d", "q", "x", "y", "train")], ["d"], EMPTY=3)


def test_identical_apart_from_outer_whitespace():
    check([("a", "q", " x\n", "x", "test"), ("b", "q", "X", "x", "test")], ["b"], IDENTICAL=1)


def test_repeats_keep_the_smallest_id():
    rows = [("c", "q", "x", "y", "train"), ("b", "q", "x ", "y", "train"), ("a", "w", "x", "y", "train")]
    check([*rows, ("d", "q", "x", "z", "train")], ["b", "a", "d"], REPEAT=1)


def test_both_orders_go_together():
    rows = [("a", "q", "x", "y", "train"), ("b", "q", "y", "x", "train"), ("c", "q", "x", "y", "train")]
    check([*rows, ("d", "w", "y", "x", "train")], ["d"], BOTH_ORDERS=3)


def test_a_training_row_with_a_test_prompt_goes():
    rows = [
        ("a", "The  Question", "x", "y", "train"),
        ("b", "the question\n", "x", "z", "validation"),
        ("c", "the question", "x", "y", "test"),
        ("d", "another", "x", "y", "train"),
    ]
    check(rows, ["c", "d"], IN_TEST=2)


def test_a_training_row_cannot_spoil_a_test_row():
    check([("a", "q", "x", "y", "test"), ("b", "q", "y", "x", "train")], ["a"], IN_TEST=1)
    check([("b", "q", "x", "y", "test"), ("a", "q", "x", "y", "train")], ["b"], IN_TEST=1)


def test_a_training_row_with_a_validation_prompt_goes():
    check([("a", "q", "x", "y", "train"), ("b", "Q", "x", "z", "validation")], ["b"], IN_VALIDATION=1)


def test_rows_without_a_split_do_not_leak_either():
    check([("a", "q", "x", "y", None), ("b", "q", "x", "z", "test")], ["b"], IN_TEST=1)


def test_max_chars_counts_prompt_and_longer_response():
    frame = table([("a", "qqq", "x", "yyyy", "train"), ("b", "qqq", "xxxxx", "y", "train")])  # 7 and 8
    done, counts = clean(frame, max_chars=7)
    assert done["pair_id"].to_list() == ["a"] and counts[module.TOO_LONG] == 1
    with pytest.raises(UserError, match="max_chars=0"):
        clean(frame, max_chars=0)


def test_the_prompt_of_a_test_row_that_is_too_long_is_still_held_out():
    frame = table([("a", "q", "x", "y" * 99, "test"), ("b", "q", "x", "y", "train")])
    done, counts = clean(frame, max_chars=50)
    assert done.is_empty() and (counts[module.TOO_LONG], counts[module.IN_TEST]) == (1, 1)


def test_prompts_that_differ_in_roles_alone_are_no_repeats():
    turns = [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]
    other = [{"role": "system", "content": "a"}, {"role": "user", "content": "b"}]
    frame = table([("a", "", "x", "y", "train"), ("b", "", "x", "y", "train")])
    frame = frame.with_columns(prompt=pl.Series([turns, other], dtype=PREFERENCE["prompt"]))
    assert clean(frame)[0].height == 2


def test_cleaning_twice_changes_nothing():
    rows = [(str(i), f"q{i % 5}", f"x{i % 3}", f"y{i % 2}", ("train", "test")[i % 4 == 0]) for i in range(60)]
    once, counts = clean(table(rows))
    twice, again = clean(once)
    assert sum(counts.values()) > 0 and sum(again.values()) == 0 and twice.equals(once)


def test_an_empty_table():
    assert clean(table([]))[0].is_empty()
