"""``join``: draw shards for a run that another process has, on this machine or another one."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from data_tools.artifact import digest, digest_of, read_json, read_table
from data_tools.errors import UserError
from data_tools.schema import PREFERENCE
from genrm_lightning.claims import Claims
from genrm_lightning.judgments import shards_of
from genrm_lightning.progress import Progress
from genrm_lightning.samplers.base import SamplingSettings
from genrm_lightning.samplers.choice import SamplerSettings, chosen_sampler
from genrm_lightning.shards import note
from genrm_lightning.star.sharing import ASKED, OWNER, PAIRS, SHARED
from genrm_lightning.star.stage import identity


def join(run: Path, patience: float) -> int:
    """Help the run in ``run`` until it ends.

    Args:
        patience: seconds to wait for a run to begin, and for one whose process has died to be started again.

    Returns:
        How many shards were drawn here.

    Raises:
        UserError: no run began, or the process of the run died and none came after it; a judge that is another one
            here than there.
    """
    folder = run / SHARED
    drawn, done = 0, None
    with Claims(folder) as claims:
        _await(run, claims, patience, f"no run is under way there; begin it with: star --run {run}")
        note(f"{run}: joined")
        while True:
            if not claims.held(OWNER):
                if not claims.left(OWNER):
                    return drawn
                _await(run, claims, patience, "the process of the run has died; start it again, then join again")
            ask = _asked(folder)
            if ask is None or ask == done:
                claims.wait()
                continue
            drawn += _help(run, ask, claims)
            # Where it is asked for no more its end was not seen: the run may be started again and ask the same.
            done = ask if _asked(folder) == ask and claims.held(OWNER) else None


def _await(run: Path, claims: Claims, patience: float, otherwise: str) -> None:
    until = time.monotonic() + patience
    while not claims.held(OWNER):
        if time.monotonic() >= until:
            raise UserError(f"{run}: {otherwise}")
        claims.wait()


def _asked(folder: Path) -> dict[str, Any] | None:
    try:
        return read_json(folder / ASKED)
    except UserError:  # nothing is asked for just now
        return None


def _help(run: Path, ask: dict[str, Any], claims: Claims) -> int:
    """Draw shards of what is asked for until all are there, or it is asked for no more; how many."""
    folder = run / SHARED

    def asked() -> bool:
        return _asked(folder) == ask and claims.held(OWNER)

    try:
        pairs = read_table(folder / PAIRS, PREFERENCE)
        if digest(folder / PAIRS) != ask["pairs"]:
            return 0
    except UserError:
        if asked():
            raise
        return 0
    judge = str(run / ask["judge"]) if ask["in_run"] else ask["judge"]
    sampler = SamplerSettings.of(ask["sampler"])
    if sampler.served is None and not ask["in_run"] and digest_of(identity(judge)) != ask["identity"]:
        raise UserError(f"'{judge}' is not the model here that it is where the run is; copy it from there")
    shards = shards_of(run / ask["folder"], pairs, SamplingSettings(**ask["sampling"]), **ask["draw"])
    if digest_of(shards.keys) != ask["keys"]:
        raise UserError(f"{run}: the run is of another version of the program; join it with the same one")
    if not shards.missing():
        return 0
    with (
        Progress(f"{run}: helped with {ask['label']}", None, "samples") as progress,
        chosen_sampler(sampler, judge, ask["dtype"]) as make,
    ):
        return shards.fill(make, claims, drew=progress.advance, go_on=asked)
