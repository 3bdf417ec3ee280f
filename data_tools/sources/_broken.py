"""Rows that cannot be used, each with its place and why."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

# Reasons are few and fixed, so that they can be counted; the detail says the rest.
NOT_JSON = "not JSON"
NOT_OBJECT = "not an object"
NOT_CSV = "not CSV"
WIDTH = "another number of cells"
NOT_UTF8 = "invalid Unicode"
WRONG_TYPE = "wrong type"
NUMBER = "number out of range"
MISSING = "missing value"
UNREADABLE = "unreadable"


@dataclass(frozen=True)
class Broken:
    """A row that cannot be used.

    Attributes:
        row: its line or row, from 1.
        reason: one of a few, to count by.
        detail: what is wrong in words, beginning with the place: ``line 3: key 'chosen' is missing or null``.
        text: the raw line, where there is one.
    """

    row: int
    reason: str
    detail: str
    text: str | None = None

    def line(self, file: Path) -> str:
        """A line of JSON that says where it stands and what is wrong, without the row itself."""
        said = {"file": str(file), "row": self.row, "reason": self.reason, "detail": self.detail}
        return json.dumps(said) + "\n"
