import polars as pl
import pytest

from data_tools.errors import UserError
from data_tools.schema import (
    EXAMPLE,
    JUDGMENT,
    MESSAGES,
    PREFERENCE,
    TABLES,
    check,
    check_unique_ids,
    check_values,
    conform,
)


def test_conform_fills_absent_columns_with_null_in_the_schemas_order():
    frame = conform(pl.DataFrame({"rejected": ["r"], "pair_id": ["p"], "margin": [1], "extra": [0]}), PREFERENCE)
    assert frame.schema == PREFERENCE
    row = frame.row(0, named=True)
    assert {k: v for k, v in row.items() if v is not None} == {"rejected": "r", "pair_id": "p", "margin": 1.0}


def test_conform_works_lazily():
    lazy = conform(pl.LazyFrame({"pair_id": ["p"]}), JUDGMENT)
    assert isinstance(lazy, pl.LazyFrame)
    assert lazy.collect().schema == JUDGMENT


@pytest.mark.parametrize("name", TABLES)
def test_check_accepts_an_empty_table_and_drops_surplus_columns(name):
    schema = TABLES[name]
    frame = pl.DataFrame(schema=schema).with_columns(surplus=pl.lit(1))
    assert check(frame, schema, "x").schema == schema


def test_check_names_file_and_missing_column():
    with pytest.raises(UserError, match=r"data\.parquet: column 'chosen' is missing; a PREFERENCE table has pair_id"):
        check(pl.DataFrame(schema=PREFERENCE).drop("chosen"), PREFERENCE, "data.parquet")


def test_check_names_both_types():
    with pytest.raises(UserError, match=r"x: column 'swapped' is Int64, a EXAMPLE table has Boolean there"):
        check(pl.DataFrame(schema=EXAMPLE).with_columns(pl.col("swapped").cast(pl.Int64)), EXAMPLE, "x")


def test_prompt_is_a_list_of_turns():
    assert pl.List(pl.Struct({"role": pl.String, "content": pl.String})) == MESSAGES
    assert PREFERENCE["prompt"] == EXAMPLE["prompt"] == MESSAGES


def row(**other):
    return {"pair_id": "p", "prompt": [{"role": "user", "content": "q"}], "chosen": "c", "rejected": "r"} | other


def turn(role="user", content="q"):
    return {"role": role, "content": content}


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"pair_id": None}, "column 'pair_id' is null"),
        ({"chosen": None}, "column 'chosen' is null"),
        ({"rejected": None}, "column 'rejected' is null"),
        ({"prompt": None}, "column 'prompt' is null"),
        ({"prompt": []}, "column 'prompt' has no turns"),
        ({"prompt": [turn(), None]}, "column 'prompt' has a turn without role or content"),
        ({"prompt": [turn(), turn(None)]}, "column 'prompt' has a turn without role or content"),
        ({"prompt": [turn("user", None)]}, "column 'prompt' has a turn without role or content"),
        ({"prompt": [turn("tool"), turn()]}, "column 'prompt' has a turn of an unknown role; there are: system, user"),
    ],
)
def test_a_preference_without_its_values_is_named_by_file_row_and_column(other, said):
    names = {name: PREFERENCE[name] for name in row()}
    frame = conform(pl.DataFrame([row(), row(), row(**other), row(pair_id=None)], schema=names), PREFERENCE)
    with pytest.raises(UserError, match=f"^x.parquet: row 3: {said}"):
        check_values(frame, PREFERENCE, "x.parquet")
    assert check_values(frame.head(2), PREFERENCE, "x").equals(frame.head(2))


@pytest.mark.parametrize("column", ["pair_id", "swapped"])
def test_a_judgment_without_its_place_is_named(column):
    frame = conform(pl.DataFrame({"pair_id": ["p", "q"], "swapped": [True, False]}), JUDGMENT)
    assert check_values(frame, JUDGMENT, "x").equals(frame)
    frame = frame.with_columns(pl.when(pl.col("pair_id") == "p").then(column).alias(column))
    with pytest.raises(UserError, match=f"^x: row 2: column '{column}' is null"):
        check_values(frame, JUDGMENT, "x")


def test_ids_that_occur_again_are_named():
    frame = pl.DataFrame({"pair_id": ["b", "a", "b", "c", "c", "b"]})
    with pytest.raises(UserError, match="^one, two: id 'b' stands for 3 rows"):
        check_unique_ids(frame, "one, two")
    assert check_unique_ids(frame.unique(), "x").height == 3
