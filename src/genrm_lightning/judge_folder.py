"""What a judge folder says of itself, readable without torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from data_tools.artifact import read_json
from data_tools.errors import UserError

JUDGE_FILE = "genrm.json"  # beside the weights: template hash, judge prompt, objective, base
REWARD_MODELS = ("BradleyTerry", "PairRM")  # objectives whose judges score responses


def judge_info(folder: str | Path) -> dict[str, Any]:
    """What ``genrm.json`` of a judge folder says; empty for a plain model.

    Raises:
        UserError: the file is none of a judge, or an adapter's that names no base.
    """
    path = Path(folder) / JUDGE_FILE
    info = read_json(path) if path.is_file() else {}
    if not isinstance(info, dict) or (info.get("adapter") and not isinstance(info.get("base"), str)):
        raise UserError(f"{path}: says nothing of a judge, or of its adapter's base; restore it as it was saved")
    return info
