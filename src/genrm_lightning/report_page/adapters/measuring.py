"""Numbers of judgments that nobody has measured yet: those that scores.json of an evaluation would have."""

from __future__ import annotations

from collections.abc import Collection
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from data_tools.artifact import read_table
from data_tools.errors import UserError
from data_tools.schema import JUDGMENT, PREFERENCE
from genrm_lightning.evaluation.scores import set_scores

_MEASURED = "genrm_lightning.evaluation.measured"


def numbers_of(judgments: Path, pairs: Path, dropped: Collection[str]) -> dict[str, Any]:
    """The numbers of one JUDGMENT table.

    Raises:
        UserError: a table cannot be read, or the two do not belong together.
    """
    table, preferences = read_table(judgments, JUDGMENT), read_table(pairs, PREFERENCE)
    try:
        if find_spec(_MEASURED) is not None:
            return import_module(_MEASURED).measure(table, preferences, dropped=dropped)
        return set_scores(table, preferences, dropped).as_dict()
    except ValueError as error:
        raise UserError(f"{judgments}: {error}") from None
