"""A run that is killed at every kind of point ends like one that is not: tables, summary, curves and weights."""

import json
import os
import signal
import subprocess
import sys

import pytest
import torch

from data_tools.artifact import read_json
from tests.tiny_star import ROOT, leftovers, scalars, star_config, star_fit, tables, write_yaml

# Each is where an attempt dies: right before this file gets its name (driver.py), in the order of the run.
POINTS = [
    "data/ood.parquet",  # between two tables
    "data/manifest.json",
    "zero-shot/id/shard-00001.parquet",  # a shard is there, the next one is half written
    "zero-shot/ood.parquet",  # all shards, no table
    "zero-shot/manifest.json",  # both tables, shards gone
    "summary.json",  # the dashboard is written
    "warm-start/sample/shard-00001.parquet",
    "warm-start/select/manifest.json",
    "warm-start/fit/manifest.json",
    "warm-start/evaluate/id.parquet",
    "iteration-1/sample/shard-00002.parquet",
    "iteration-1/sample/judgments.parquet",
    "iteration-1/sample/manifest.json",
    "iteration-1/rationalize/judgments.parquet",
    "iteration-1/select/examples.parquet",
    "iteration-1/select/manifest.json",
    "iteration-1/score/examples.parquet",
    "iteration-1/score/manifest.json",
    "fit",  # in mid-epoch
    "iteration-1/fit/manifest.json",  # the judge is there
    "iteration-1/evaluate/ood/shard-00000.parquet",
    "iteration-1/evaluate/manifest.json",
    "summary.json",
]
EVERY = 3  # steps between checkpoints; an epoch has more, and no multiple of it early on


def config(folder, backbone):
    checkpoints = {
        "class_path": "lightning.pytorch.callbacks.ModelCheckpoint",
        "init_args": {"save_last": True, "save_top_k": 0, "every_n_train_steps": EVERY},
    }
    fit = star_fit(max_epochs=12, callbacks=[checkpoints])
    fit["data"]["init_args"]["batch_size"] = 1
    warm = {"pairs": 4, "fit": star_fit()}
    return write_yaml(
        folder / "star.yaml",
        star_config(folder / "run", backbone, fit=fit, per_prompt=2, warm_start=warm, rationalize_failed=True),
    )


def drive(folder, *points):
    """Run the driver; what it tells of each attempt."""
    command = [sys.executable, str(ROOT / "tests/star/driver.py"), str(folder / "star.yaml"), str(folder / "log")]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*command, *points], capture_output=True, text=True, env=environment, check=False)
    said = (folder / "log").read_text() if (folder / "log").exists() else ""
    assert done.returncode == 0, done.stderr + said
    return json.loads(done.stdout.splitlines()[-1]), said


@pytest.fixture(scope="module")
def whole(tmp_path_factory, tiny_llama):
    """The folder of a run that nothing disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    config(folder, tiny_llama)
    told, said = drive(folder, "")
    assert told[0]["status"] == 0, said
    return folder / "run"


def test_killed_at_every_point_and_resumed(tmp_path, tiny_llama, whole):
    run = tmp_path / "run"
    config(tmp_path, tiny_llama)
    told, said = drive(tmp_path, *POINTS, "")
    for attempt in told[:-1]:
        assert attempt["status"] == -signal.SIGKILL, (attempt, said)
        assert attempt["point"] not in attempt["left"] or attempt["point"] == "summary.json"
    # A kill in the middle of a write leaves the temporary file; a kill of the run takes its fit along.
    assert any(".tmp" in name for name in told[0]["left"])
    fit = next(attempt for attempt in told if attempt["point"] == "fit")
    assert (fit["fits"], fit["orphans"]) == (1, 0)
    assert told[-1]["status"] == 0, said
    assert leftovers(run) == []
    same_end(run, whole)


def test_the_fit_really_goes_on_in_mid_epoch(tmp_path, tiny_llama, whole):
    run = tmp_path / "run"
    config(tmp_path, tiny_llama)
    told, said = drive(tmp_path, "fit")
    assert told[0]["status"] == -signal.SIGKILL, said
    checkpoint = torch.load(run / "iteration-1/fit/checkpoints/last.ckpt", weights_only=True)
    examples = tables(run)["iteration-1/score/examples.parquet"].height
    step = checkpoint["global_step"]
    assert 0 < step < 12 * examples and step % examples, f"killed at step {step} of epochs of {examples}"
    before = read_json(run / "iteration-1/fit/started.json")
    told, said = drive(tmp_path, "")
    assert told[0]["status"] == 0, said
    same_end(run, whole)
    # The row's seconds hold those of the killed attempt, too.
    began = (run / "iteration-1/fit/manifest.json").stat().st_mtime - before["began"]
    assert 0 < read_json(run / "iteration-1/fit/manifest.json")["seconds"] <= began + 1
    steps = [step for step, _ in scalars(run / "tensorboard/iteration-1")["train/loss"]]
    assert steps == sorted(set(steps)), "a resumed fit logs no step twice"


def same_end(run, whole):
    ours, theirs = tables(run), tables(whole)
    assert ours.keys() == theirs.keys() and len(ours) == 16
    for name, table in ours.items():
        assert table.equals(theirs[name]), name
    without = [
        [{k: v for k, v in row.items() if k != "seconds"} for row in read_json(folder / "summary.json")["rows"]]
        for folder in (run, whole)
    ]
    assert without[0] == without[1]
    for fitted in ("warm-start", "iteration-1"):
        weights = [(folder / fitted / "fit/judge/model.safetensors").read_bytes() for folder in (run, whole)]
        assert weights[0] == weights[1], f"the weights of {fitted} differ"
    # No step twice; a kill loses the one that Lightning logs after the checkpoint.
    curve, expected = (scalars(folder / "tensorboard/iteration-1")["train/loss"] for folder in (run, whole))
    assert curve == [point for point in expected if point in curve] and len(curve) >= len(expected) - 1
