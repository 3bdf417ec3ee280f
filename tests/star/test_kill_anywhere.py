"""A run that is killed with all its processes at random moments ends like one that is not, and draws nothing twice."""

import collections
import random
import signal

import pytest

from data_tools.artifact import read_json
from genrm_lightning.star.sharing import SHARED
from tests.tiny_star import leftovers, side_by_side, star_config, star_fit, tables, write_yaml


@pytest.mark.parametrize(
    ("kills", "least", "fit"), [(3, 1, "here"), pytest.param(20, 12, "apart", marks=pytest.mark.slow)]
)
def test_killed_at_random_moments(tmp_path, tiny_llama, kills, least, fit):
    checkpoints = {
        "class_path": "lightning.pytorch.callbacks.ModelCheckpoint",
        "init_args": {"save_last": True, "save_top_k": 0, "every_n_train_steps": 2},
    }
    settings = {"fit": star_fit(max_epochs=4, callbacks=[checkpoints])}
    if kills > 3:
        settings["warm_start"] = {"pairs": 4, "fit": star_fit()}
    whole, run = tmp_path / "whole", tmp_path / "run"
    argv = [
        ["star", "--config", write_yaml(tmp_path / f"{path.name}.yaml", star_config(path, tiny_llama, **settings))]
        for path in (whole, run)
    ]
    trace = tmp_path / "trace-whole"
    (told,) = side_by_side(tmp_path, {"argv": argv[0], "fit": fit, "trace": str(trace)})
    assert told["status"] == 0, told
    named = [(float(line.split()[0]), line.split()[2].replace(str(whole), str(run), 1))
             for line in trace.read_text().splitlines() if " named " in line]  # fmt: skip
    draw = random.Random(7)
    jobs = []
    for moment in sorted(draw.uniform(0, 0.95 * told["seconds"]) for _ in range(kills)):
        before = [time for time, _ in named if time <= moment]
        # Some of its files go again: what comes later tells as well that it is past.
        marks = [path for _, path in named[max(0, len(before) - 1) :]] if before else [str(argv[1][2])]
        kill = [signal.SIGKILL, marks, moment - (before[-1] if before else 0)]
        jobs.append({"argv": argv[1], "fit": fit, "after": True, "trace": str(tmp_path / "trace"), "kill": kill})
    *told, last = side_by_side(tmp_path, *jobs, {**jobs[0], "kill": [signal.SIGKILL, "nowhere", 0]})
    killed = sum(job["status"] == -signal.SIGKILL for job in told)
    assert last["status"] == 0 and {job["status"] for job in told} <= {-signal.SIGKILL, 0}, (told, last)
    assert killed >= least, [job["status"] for job in told]
    same_rows(run, whole)
    assert leftovers(run) == [] and not (run / SHARED).exists()
    # Every shard got its name once; what was begun more often was under way when a kill came.
    counts = {what: collections.Counter() for what in ("named", "draws")}
    for line in (tmp_path / "trace").read_text().splitlines():
        _, what, path = line.split()
        counts[what][path] += "/shard-" in path
    named, begun = ({path: n for path, n in counter.items() if n} for counter in (counts["named"], counts["draws"]))
    assert named.keys() == begun.keys() and set(named.values()) == {1}
    assert len(begun) <= sum(begun.values()) <= len(begun) + killed


def same_rows(run, whole):
    ours, theirs = tables(run), tables(whole)
    assert ours.keys() == theirs.keys()
    for name, table in ours.items():
        assert table.equals(theirs[name]), name
    rows, expected = (
        [{k: v for k, v in row.items() if k != "seconds"} for row in read_json(path / "summary.json")["rows"]]
        for path in (run, whole)
    )
    assert rows == expected
    for judge in whole.glob("*/fit/judge/model.safetensors"):
        assert (run / judge.relative_to(whole)).read_bytes() == judge.read_bytes(), judge
