"""All metrics in two processes over gloo: ``processes.py FOLDER`` leaves what each computed, in RANK.json.

Forked, so that torch is imported once.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import torch.distributed as dist

from tests.metrics.cases import CASES, numbers, rows

# The slices of the rows that each process is updated with, one after the other.
SPLITS: dict[str, tuple[list[tuple[int, int | None]], list[tuple[int, int | None]]]] = {
    "uneven": ([(0, 7)], [(7, 60), (60, None)]),
    "the second one has no rows": ([(0, 50), (50, None)], [(0, 0)]),
    "the second one is never updated": ([(0, None)], []),
    "the first one is never updated": ([], [(0, 9), (9, None)]),
}
TWICE = "uneven"


def main(folder: Path, rank: int) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    found = {}
    for split, shares in SPLITS.items():
        for name, (make, inputs) in CASES.items():
            metric = make()
            for start, end in shares[rank]:
                metric.update(*rows(inputs, start, end))
            found[f"{split}: {name}"] = numbers(metric.compute())
            if split == TWICE:  # what was put together for that is apart again
                for start, end in shares[rank]:
                    metric.update(*rows(inputs, start, end))
                found[f"{split}: {name}, again"] = numbers(metric.compute())
    (folder / f"{rank}.json").write_text(json.dumps(found))
    dist.destroy_process_group()


if __name__ == "__main__":
    other = os.fork()
    main(Path(sys.argv[1]), 1 if other else 0)
    if other:
        sys.exit(os.waitstatus_to_exitcode(os.waitpid(other, 0)[1]))
