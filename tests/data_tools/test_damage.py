"""Damaged tables: told in one line wherever the damage shows."""

import os

import polars as pl
import pytest

from data_tools import artifact, panics
from data_tools.errors import UserError
from data_tools.schema import JUDGMENT
from tests.data_tools import fuzzing
from tests.data_tools.test_cli import fails
from tests.data_tools.test_fuzz import judgments, preferences


def test_a_panic_is_an_error_of_polars_and_its_words_are_not_shown(capfd):
    with pytest.raises(pl.exceptions.ComputeError, match="damaged"), panics.contained():
        os.write(2, b"thread panicked at")
        raise pl.exceptions.PanicException("called `Result::unwrap()`")
    assert capfd.readouterr().err == ""
    with pytest.raises(KeyboardInterrupt), panics.contained():
        os.write(2, b"a warning")
        raise KeyboardInterrupt
    os.write(2, b", and more")
    assert capfd.readouterr().err == "a warning, and more"


def test_damage_that_no_check_has_read_is_found_when_the_query_fails(tmp_path, capsys):
    file, pairs = tmp_path / "judgments.parquet", tmp_path / "pairs.parquet"
    pairs.write_bytes(fuzzing.framed(preferences(), "parquet"))
    whole = fuzzing.framed(judgments(), "parquet")
    for at in range(4, len(whole) // 2, 40):
        file.write_bytes(whole[:at] + b"\xff" * 12 + whole[at + 12 :])
        try:
            artifact.scan_tables([file], JUDGMENT)
            with panics.contained():
                pl.scan_parquet(file).select("rationale").collect()
        except UserError:  # the checks have seen it
            continue
        except pl.exceptions.PolarsError:
            break
    else:
        raise AssertionError("no damage that only the query meets")
    given = (
        "star",
        "--judgments",
        file,
        "--preferences",
        pairs,
        "--objective",
        "sft",
        "--out",
        tmp_path / "out.parquet",
    )
    assert fails(capsys, *given).startswith(f"{file}: not a readable parquet file (")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["judgments.parquet", "pairs.parquet"]


def test_a_query_that_fails_over_whole_tables_keeps_its_error(tmp_path):
    judgments().write_parquet(tmp_path / "t.parquet")
    with pytest.raises(pl.exceptions.ColumnNotFoundError), artifact.damage_told([tmp_path / "t.parquet"]):
        pl.scan_parquet(tmp_path / "t.parquet").select("none").collect()
