"""A comparison that takes seconds: every kind of method on the tiny Llama."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from tests.tiny_star import star_config, star_fit

METHODS: dict[str, dict[str, Any]] = {
    "bradley-terry": {"kind": "pairs", "objective": "BradleyTerry", "label": "Bradley-Terry"},
    "zero-shot": {"kind": "zero-shot"},
    "zero-shot-cot": {"kind": "zero-shot", "rationale": True},
    "pairrm": {"kind": "pairs", "objective": "PairRM"},
    "genrm": {"kind": "pairs", "objective": "GenRM"},
    "star-sft": {"kind": "star", "variant": "star-sft"},
    "star-rationalizer": {"kind": "star", "variant": "star-rationalizer"},
    "star-dpo": {"kind": "star", "variant": "star-dpo", "fit": {"model": {"init_args": {"beta": 0.5}}}},
}


def compare_config(out: Path, backbone: Path, names: list[str] | None = None, **changes: Any) -> dict[str, Any]:
    """The config as a dict; ``names`` of METHODS, all where None; ``changes`` replace top-level keys."""
    star = star_config(out, backbone, warm_start={"pairs": 4, "fit": star_fit()})
    for key in ("run", "variant"):
        del star[key]
    config = {
        "out": str(out),
        "data": star.pop("data"),
        "star": star,
        "methods": {name: METHODS[name] for name in names or METHODS},
        "equal": ["pairs"],
    }
    return config | changes


def write_config(path: Path, config: Mapping[str, Any]) -> Path:
    """Write it in its own order, which is the table's."""
    path.write_text(yaml.safe_dump(dict(config), sort_keys=False))
    return path
