"""Rationales of any model, from a file: JUDGMENT parquet, or JSON Lines that anything can write.

A line of JSON Lines is an object with

    pair_id     of the PREFERENCE table
    swapped     the order shown: false, the one that order.py draws for the pair; true, the other one
    rationale   text; what a verdict's frame begins is left out
    verdict     "A" or "B", the letter of the better response as shown; anything else is INVALID

and whatever else, which is not read. A rationale votes as its verdict says.
"""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl

from data_tools.artifact import read_table
from data_tools.errors import UserError
from data_tools.judging import rationale_of
from data_tools.schema import JUDGMENT, conform
from data_tools.sources import _jsonl
from data_tools.sources._broken import Broken
from data_tools.sources._values import half_a_character, has_surrogate

_KEYS = {"pair_id": str, "swapped": bool, "rationale": str, "verdict": str}
_KIND = {str: "text", bool: "true or false"}
_PLACE = ["pair_id", "swapped"]


def read(path: str | Path) -> tuple[pl.DataFrame, int]:
    """(JUDGMENT with a verdict in every row, how many rows had none).

    ``token_ids`` and ``n_tokens`` are null: no file says which tokenizer they are of. ``sample_index`` counts the rows
    of a prompt in the file's order.

    Raises:
        UserError: no such file, or a line or column that is not as it should be; names it.
    """
    path = Path(path)
    return judgments(read_table(path, JUDGMENT) if path.suffix == ".parquet" else _lines(path))


def judgments(table: pl.DataFrame) -> tuple[pl.DataFrame, int]:
    """(JUDGMENT with a verdict in every row, how many rows had none) of a table with the keys of such a line."""
    table = conform(table, JUDGMENT)
    texts = table["rationale"].fill_null("").map_elements(rationale_of, return_dtype=pl.String)
    index = pl.int_range(pl.len()).over(_PLACE).cast(pl.Int32)
    table = table.with_columns(
        texts,
        vote="verdict",
        sample_index=index,
        token_ids=pl.lit(None, JUDGMENT["token_ids"]),
        n_tokens=pl.lit(None, JUDGMENT["n_tokens"]),
    )
    valid = table.filter(pl.col("verdict").is_in(["A", "B"]).fill_null(False))
    return valid, table.height - valid.height


def _lines(path: Path) -> pl.DataFrame:
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    columns: dict[str, list] = {key: [] for key in _KEYS}
    with open(path, encoding="utf-8") as file:
        try:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    row = _row(path, number, line)
                    for key, values in columns.items():
                        values.append(row[key])
        except UnicodeDecodeError as error:
            raise UserError(f"{path}: not UTF-8 text ({error.reason}); give JSON Lines or a JUDGMENT parquet") from None
    return pl.DataFrame(columns, schema={key: JUDGMENT[key] for key in _KEYS})


def _row(path: Path, number: int, line: str) -> dict:
    row = _jsonl.parse(line, f"line {number}")
    if isinstance(row, Broken):
        raise UserError(f"{path}: {row.detail}")
    if has_surrogate([row.get(key) for key in _KEYS]):
        raise UserError(f"{path}: {half_a_character(f'line {number}')}")
    for key, kind in _KEYS.items():
        if type(row.get(key)) is not kind:
            found = "missing" if key not in row else json.dumps(row[key], ensure_ascii=False)[:40]
            raise UserError(f"{path}: line {number}: '{key}' is {found}; it should be {_KIND[kind]}")
    return row
