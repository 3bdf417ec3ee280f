"""What the peers of data_sides.py share: the tables' names, and the label of a prompt, which all sides draw alike."""

from __future__ import annotations

from data_tools.order import unit

SPLITS = ("train", "validation", "test")
JUDGED = ["pair_id", "swapped", "vote", "p_a"]
TABLE = "table.parquet"


def label(key: str) -> str:
    """Of a prompt by its turns' contents, lower-cased, whitespace collapsed."""
    at = unit("split", key)
    return "test" if at < 0.1 else "validation" if at < 0.2 else "train"
