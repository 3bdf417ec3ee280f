"""A comparison on TensorBoard: a run a method, which the HParams tab shows as a table to sort and filter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter

from data_tools.artifact import atomic_folder
from genrm_lightning.dashboards import hparams

# The HParams tab shows five columns unasked.
_FIRST = ("accuracy_id", "accuracy_ood", "position_consistent_accuracy_id", "tokens_a_verdict", "seconds")


def write_board(folder: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write the rows of :func:`genrm_lightning.compare.table.row`, in place of what is there.

    Every number becomes the scalar ``compare/NAME``, those of a category ``compare/accuracy_SET/CATEGORY``.
    """
    with atomic_folder(folder) as temporary:
        for one in rows:
            numbers = scalars(one)
            with SummaryWriter(str(temporary / one["method"])) as writer:
                first = [name for key in _FIRST if (name := f"compare/{key}") in numbers]
                hparams.begin(writer, {"method": one["label"]}, list(dict.fromkeys([*first, *numbers])))
                hparams.end(writer)
                for name, value in numbers.items():
                    writer.add_scalar(name, value, 0)


def scalars(row: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a row by tag; None is left out."""
    found = {f"compare/{name}": float(value) for name, value in row.items() if isinstance(value, int | float)}
    for name, kinds in row.items():
        if name.startswith("categories_"):
            key = name.removeprefix("categories_")
            found |= {f"compare/accuracy_{key}/{kind}": one["accuracy"] for kind, one in kinds.items()}
    return found
