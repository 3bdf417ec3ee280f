"""Which of the shards a process draws where several share them by number."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

from data_tools.errors import UserError

# What launchers set: the rank, the number of processes. SLURM_NTASKS would not do: it stands in a batch script too,
# where one process runs alone; the other is set by srun for the processes of its step.
LAUNCHERS = (("RANK", "WORLD_SIZE"), ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS"))


def local_rank(environment: Mapping[str, str] = os.environ) -> int:
    """This process' number among those that the launcher has started on this machine; 0 without one."""
    return int(environment.get("LOCAL_RANK") or environment.get("SLURM_LOCALID") or 0)


def part(given: str | int | None, environment: Mapping[str, str] = os.environ) -> tuple[int, int] | None:
    """(i, n): this process takes shard i, i + n, ... of those counted from 1; None: it takes all.

    Args:
        given: ``--shard``, "i/n" with i from 1 to n; None: as the launcher says that has started more than one process.

    Raises:
        UserError: it is something else.
    """
    if given is None:
        for rank, size in LAUNCHERS:
            if rank in environment and int(environment.get(size, 1)) > 1:
                return int(environment[rank]) + 1, int(environment[size])
        return None
    found = re.fullmatch(r"(\d+)/(\d+)", str(given))
    if found and 1 <= int(found[1]) <= int(found[2]):
        return int(found[1]), int(found[2])
    size = "; how many judge prompts a shard holds is --shard_size" if str(given).isdigit() else ""
    raise UserError(f"--shard: {given}: is not i/n, this process' part of the shards, with i from 1 to n{size}")
