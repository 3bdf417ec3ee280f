"""A folder for ``datasets``: ``load_dataset(folder)`` gives its splits, in TRL's conversational form.

A parquet for each split and a card, README.md, that names them; as it is, it can be uploaded as a data set of the hub.
Pairs without a split are in train, the only one that ``datasets`` has for them; their key ``split`` stays null.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import polars as pl

from data_tools import artifact
from data_tools.errors import UserError
from data_tools.exports import trl
from data_tools.schema import SPLITS

SUMMARY = "datasets: a folder of parquet files by split with a card, rows as for trl"
READER = "trl"
ENDINGS = ()
_CARD = "README.md"
_SAID = "`prompt`, `chosen` and `rejected` are lists of turns (`role`, `content`)"  # by which a card is known as ours
notes = trl.notes
rows = trl.rows


def write(rows: Callable[[pl.LazyFrame], pl.LazyFrame], frame: pl.LazyFrame, out: Path) -> None:
    """Raises UserError for a folder that holds anything else, for it is replaced."""
    ours = {_CARD, *(f"{split}.parquet" for split in SPLITS)}
    if out.is_dir() and (others := sorted(path.name for path in out.iterdir() if path.name not in ours)):
        raise UserError(f"{out}: holds {others[0]}, which is no part of an export; use another folder")
    if out.is_dir() and any(out.iterdir()) and not _is_ours(out):
        raise UserError(f"{out}: holds files that are no export of ours, and would be replaced; use another folder")
    split = pl.col("split").fill_null("train")
    counted = dict(frame.group_by(split).len().collect(engine="streaming").iter_rows())
    with artifact.atomic_folder(out) as folder:
        for name in SPLITS:
            if counted.get(name):
                rows(frame.filter(split == name)).sink_parquet(folder / f"{name}.parquet", engine="streaming")
        (folder / _CARD).write_text(
            _card({name: counted[name] for name in SPLITS if name in counted}), encoding="utf-8"
        )


def forget(out: Path) -> None:
    """Remove an export; a folder that is none stays."""
    if out.is_dir() and _is_ours(out):
        artifact.remove(out)


def _is_ours(out: Path) -> bool:
    card = out / _CARD
    return card.is_file() and _SAID in card.read_text("utf-8", "replace")


def _card(counted: dict[str, int]) -> str:
    files = "".join(f"  - split: {name}\n    path: {name}.parquet\n" for name in counted)
    lines = "".join(f"| {name} | {n:,} |\n" for name, n in counted.items())
    return (
        f"---\nconfigs:\n- config_name: default\n  data_files:\n{files}---\n# Preference pairs\n\n"
        f"| split | pairs |\n| --- | ---: |\n{lines}\n"
        f"{_SAID}: the conversation, the response that "
        "is preferred to the other, and the other. `id` tells pairs apart, `group_id` ties the pairs of one comparison "
        "of several responses, `margin` in (0, 1] is the strength of the preference, null where unknown.\n"
    )
