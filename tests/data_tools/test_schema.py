import polars as pl
import pytest

from data_tools.errors import UserError
from data_tools.schema import EXAMPLE, JUDGMENT, MESSAGES, PREFERENCE, TABLES, check, conform


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
