"""OpenRLHF's preference rows, whose column names its user sets: ``prompt_key``, ``chosen_key``, ``rejected_key``.

The values are those of the format trl; a ``margin`` of 0 says that there is none. Rows under OpenRLHF's own defaults
(chosen, rejected) are trl's, so no row is recognised as this format: it takes the name, or a key.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import polars as pl

from data_tools.errors import UserError
from data_tools.sources import trl
from data_tools.sources._rows import Rows


@dataclass(frozen=True)
class Named:
    """The format under these column names.

    Raises:
        UserError: one column for two things.
    """

    prompt: str = "prompt"
    chosen: str = "chosen"
    rejected: str = "rejected"
    ANY_SCALE: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if len(self._names) < 3:
            raise UserError(f"the keys {self.prompt}, {self.chosen}, {self.rejected}: each column needs its own name")

    @property
    def KEYS(self) -> tuple[str, str]:
        return self.chosen, self.rejected

    @property
    def REMEDY(self) -> dict[str, str]:
        said = trl.REMEDY
        for ours, theirs in self._names.items():
            said = {column: text.replace(f"'{theirs}'", f"'{ours}'") for column, text in said.items()}
        return said

    @property
    def _names(self) -> dict[str, str]:
        return {self.prompt: "prompt", self.chosen: "chosen", self.rejected: "rejected"}

    def _renamed(self, first: dict[str, Any]) -> dict[str, Any]:
        """A first row with trl's keys; what stood under those before is none of the pair."""
        return {key: value for key, value in first.items() if key not in self._names.values()} | {
            theirs: first.get(ours) for ours, theirs in self._names.items()
        }

    def schema(self, first: dict[str, Any]) -> pl.Schema:
        back = {theirs: ours for ours, theirs in self._names.items()}
        raw = trl.schema(self._renamed(first))
        names = {key: dtype for key, dtype in raw.items() if key not in back and key not in self._names}
        return pl.Schema(names | {back[key]: raw[key] for key in back})

    def pairs(self, rows: Rows) -> pl.LazyFrame:
        none = pl.col("margin") == 0
        frame = rows.frame.rename(self._names).with_columns(pl.when(~none).then("margin").alias("margin"))
        return trl.pairs(replace(rows, frame=frame, first=self._renamed(rows.first)))


_DEFAULT = Named()
KEYS = _DEFAULT.KEYS
NEEDS = "chosen, rejected, or other names for them"
REMEDY = trl.REMEDY
ANY_SCALE = True
schema = _DEFAULT.schema
pairs = _DEFAULT.pairs


def fits(first: dict[str, Any]) -> bool:
    return False
