"""Kinds of runs: a file each turns a folder into a :class:`~genrm_lightning.report_page.model.Run`."""

from __future__ import annotations

from pathlib import Path

from data_tools.errors import UserError
from genrm_lightning.report_page.adapters import compare, evaluation, star
from genrm_lightning.report_page.model import Run

_KINDS = (evaluation, compare, star)  # a comparison's folder may look like a STaR run's, but not the other way round


def read(folder: Path) -> Run:
    """The run in a folder.

    Raises:
        UserError: no folder, no run, one without results so far, or files that are not what they should be.
    """
    if not folder.exists():
        raise UserError(f"{folder}: no such folder")
    if not folder.is_dir():
        raise UserError(f"{folder}: is a file; name the folder that evaluate, star or compare wrote")
    for kind in _KINDS:
        if kind.fits(folder):
            return kind.read(folder)
    for kind in _KINDS:
        if kind.under_way(folder):
            raise UserError(f"{folder}: a run under way without results so far; let its command finish, then report")
    if (folder / "scores.json").exists():
        raise UserError(f"{folder}: has scores.json but no evaluation.json; evaluate the judge again with this version")
    raise UserError(
        f"{folder}: is no run: it has neither evaluation.json nor summary.json; "
        "name a folder that evaluate, star or compare wrote"
    )
