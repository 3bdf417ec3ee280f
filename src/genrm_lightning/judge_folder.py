"""What a judge folder says of itself, readable without torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from data_tools.artifact import read_json

JUDGE_FILE = "genrm.json"  # beside the weights: template hash, judge prompt, objective, base


def judge_info(folder: str | Path) -> dict[str, Any]:
    """What ``genrm.json`` of a judge folder says; empty for a plain model."""
    path = Path(folder) / JUDGE_FILE
    return read_json(path) if path.is_file() else {}
