"""LLaMA-Factory's ShareGPT preference rows, and the entry of ``dataset_info.json`` that names them.

A system turn stands first in ``conversations``, where LLaMA-Factory takes it from. It skips rows in which user and
assistant do not take turns: they are left out here, and counted.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

from data_tools import artifact
from data_tools.errors import UserError
from data_tools.exports import _rows

SUMMARY = "LLaMA-Factory: ShareGPT conversations, chosen, rejected; its dataset_info.json beside"
READER = "llama_factory"
ENDINGS = (".jsonl", ".parquet")
UNFIT = _rows.TURNS
_NAMES = {"user": "human", "assistant": "gpt", "system": "system"}


def rows(frame: pl.LazyFrame) -> pl.LazyFrame:
    turn = pl.element().struct
    said = pl.struct(turn.field("role").replace_strict(_NAMES).alias("from"), turn.field("content").alias("value"))
    answers = (
        pl.struct(pl.lit("gpt").alias("from"), pl.col(side).alias("value")).alias(side)
        for side in ("chosen", "rejected")
    )
    return frame.select(pl.col("prompt").list.eval(said).alias("conversations"), *answers, *_rows.extras())


def forget(out: Path) -> None:
    """Remove an export, and its entry in the folder's ``dataset_info.json``, which goes as well when it is empty."""
    out.unlink(missing_ok=True)
    file = out.with_name("dataset_info.json")
    entries = artifact.read_json(file) if file.exists() else None
    if not isinstance(entries, dict):
        return
    left = {
        name: entry
        for name, entry in entries.items()
        if not (isinstance(entry, dict) and entry.get("file_name") == out.name)
    }
    if left == entries:
        return
    if left:
        artifact.write_json(file, left)
    else:
        file.unlink()


def beside(out: Path) -> dict[Path, Any]:
    """The folder's ``dataset_info.json`` with the file in it, under its name without the ending.

    Raises:
        UserError: the name stands there for another file.
    """
    file = out.with_name("dataset_info.json")
    entries = artifact.read_json(file) if file.exists() else {}
    if not isinstance(entries, dict):
        raise UserError(f"{file}: is no object of data sets; move it away")
    columns = {"messages": "conversations", "chosen": "chosen", "rejected": "rejected"}
    entry = {"file_name": out.name, "formatting": "sharegpt", "ranking": True, "columns": columns}
    name = next(out.name.removesuffix(ending) for ending in ENDINGS if out.name.lower().endswith(ending))
    known = entries.get(name)
    if isinstance(known, dict) and known.get("file_name") != out.name:
        raise UserError(f"{file}: has a data set '{name}' of another file; give --out another name")
    return {file: {**entries, name: entry}}
