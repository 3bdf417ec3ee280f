"""Numbers of judgments that nobody has measured yet: those that scores.json of an evaluation would have."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

from data_tools.artifact import read_table
from data_tools.errors import UserError
from data_tools.schema import JUDGMENT, PREFERENCE
from genrm_lightning.evaluation.measured import measure


def numbers_of(judgments: Path, pairs: Path, dropped: Collection[str]) -> dict[str, Any]:
    """The numbers of one JUDGMENT table.

    Raises:
        UserError: a table cannot be read, or the two do not belong together.
    """
    table, preferences = read_table(judgments, JUDGMENT), read_table(pairs, PREFERENCE)
    try:
        return measure(table, preferences, dropped=dropped)
    except ValueError as error:
        raise UserError(f"{judgments}: {error}") from None
