"""A file of scores as a judge: what any model, of any trainer, said of the pairs before."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import polars as pl

from data_tools.artifact import digest
from data_tools.errors import UserError
from data_tools.schema import JUDGMENT, check_values, conform
from genrm_lightning.judges.base import REWARDS, Judge, Judged, verdicts

ENDINGS = (".parquet", ".jsonl", ".ndjson", ".csv")
# What the field calls the columns: ours, and those of RewardBench's own files.
_IDS = ("pair_id", "id")
_CHOSEN = ("chosen_reward", "score_chosen", "scores_chosen")
_REJECTED = ("rejected_reward", "score_rejected", "scores_rejected")


class StoredScores(Judge):
    """Scores of a file with a row a pair: ``pair_id``, ``chosen_reward`` and ``rejected_reward``; or its judgments.

    ``id``, ``score_chosen`` and ``score_rejected`` are understood, too. p(A) is σ of the difference of the scores, as
    for reward models; scores may be of any scale, so it is no probability. A JUDGMENT table is taken as it is.

    Args:
        path: Parquet, JSON Lines or CSV.

    Raises:
        UserError: no such file, or a column is missing; names it.
    """

    kind = "scores"

    def __init__(self, path: str | Path) -> None:
        self.path, self.name = Path(path), str(path)
        self._table = _read(self.path)
        self._judgments = set(JUDGMENT) <= set(self._table.columns)
        self.probabilities = self._judgments
        if self._judgments:
            self._table = check_values(conform(self._table, JUDGMENT), JUDGMENT, self.path)
            self.n_samples = int(self._table["sample_index"].max() or 0) + 1
        else:
            self._table = _rewards(self._table, self.path)

    def key(self) -> dict[str, Any]:
        return {"scores": digest(self.path)}

    def judge(self, pairs: pl.DataFrame, folder: Path, where: str, aloud: bool = True) -> Judged:
        ids = self._table["pair_id"]
        missing = pairs.filter(~pl.col("pair_id").is_in(ids.implode()))["pair_id"]
        if len(missing):
            raise UserError(
                f"{self.path}: no scores of {len(missing)} of {len(pairs)} pairs of {where}, such as "
                f"'{missing.min()}'; score them, or leave the pairs out"
            )
        table = self._table.join(pairs.select("pair_id"), on="pair_id", how="semi")
        if self._judgments:
            return Judged(table.sort("pair_id", "swapped", "sample_index"))
        margin = pl.col("chosen_reward") - pl.col("rejected_reward")
        both = table.select("pair_id", margin=margin, margin_swapped=margin)
        return Judged(verdicts(both, self.name), table.sort("pair_id"))


def _read(path: Path) -> pl.DataFrame:
    if not path.is_file():
        raise UserError(f"{path}: no such file; name a file of scores: {', '.join(ENDINGS)}")
    readers = {
        ".parquet": pl.read_parquet,
        ".csv": partial(pl.read_csv, infer_schema=False),
        ".jsonl": pl.read_ndjson,
        ".ndjson": pl.read_ndjson,
    }
    try:
        return readers[path.suffix](path)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{path}: cannot be read as {path.suffix[1:]} ({said}); write the scores anew") from None


def _rewards(table: pl.DataFrame, path: Path) -> pl.DataFrame:
    def named(names: tuple[str, ...]) -> str:
        found = next((name for name in names if name in table.columns), None)
        if found is None:
            raise UserError(
                f"{path}: column '{names[0]}' is missing; a file of scores has pair_id, chosen_reward and "
                f"rejected_reward (or {', '.join(names[1:])})"
            )
        return found

    rows = table.select(
        pl.col(named(_IDS)).cast(pl.String).alias("pair_id"),
        pl.col(named(_CHOSEN)).cast(pl.Float64, strict=False).alias("chosen_reward"),
        pl.col(named(_REJECTED)).cast(pl.Float64, strict=False).alias("rejected_reward"),
    )
    for name in REWARDS:
        bad = rows[name].is_null() if name == "pair_id" else ~rows[name].is_finite().fill_null(False)
        if bad.any():
            raise UserError(f"{path}: row {bad.arg_max() + 1}: column '{name}' holds no {_what(name)}; correct the row")
    twice = rows.filter(pl.col("pair_id").is_duplicated())["pair_id"]
    if len(twice):
        raise UserError(f"{path}: id '{twice.min()}' stands for several rows; keep one of them")
    return rows


def _what(column: str) -> str:
    return "id" if column == "pair_id" else "number"
