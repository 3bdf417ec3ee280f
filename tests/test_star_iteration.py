"""The main command as a user types it: one true STaR iteration, then nothing to do, then one more."""

import os
import signal
import subprocess
import sys
import time

import pytest
import torch

from data_tools.artifact import read_json
from genrm_lightning.backbone import load_judge, load_renderer
from tests.tiny_star import ROOT, leftovers, python, scalars, star_config, star_fit, tables, write_yaml


def test_star(tmp_path, tiny_llama):
    run = tmp_path / "run"
    config = write_yaml(tmp_path / "star.yaml", star_config(run, tiny_llama))
    first = python("star", "--config", config, "--iterations", 1)
    assert first.returncode == 0, first.stderr
    assert "zero-shot" in first.stdout and "iteration 1" in first.stdout and f"judge: {run}" in first.stdout
    # Progress goes to stderr, in plain lines where there is no terminal; no library speaks.
    for line in first.stderr.splitlines():
        assert line.startswith(("zero-shot: ", "iteration 1: ", "judge saved: ")), line
    rows = read_json(run / "summary.json")["rows"]
    assert [row["label"] for row in rows] == ["zero-shot", "iteration 1"] and all(row["seconds"] > 0 for row in rows)
    assert {"star/accuracy_id", "star/accuracy_ood", "star/kept"} <= scalars(run / "tensorboard/star").keys()
    assert scalars(run / "tensorboard/iteration-1")["train/loss"]
    judge = str(run / "iteration-1/fit/judge")
    load_judge(judge, torch.float32), load_renderer(judge)
    assert leftovers(run) == []
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*.parquet")}

    began = time.monotonic()
    again = python("star", "--config", config, "--iterations", 1)
    seconds = time.monotonic() - began
    assert again.returncode == 0 and "nothing to do" in again.stdout and again.stderr == ""
    assert again.stdout.split("nothing to do")[0].strip() in first.stdout, "the same table"
    # Torch alone takes longer to import than this call: it must not.
    modules = python_modules("star", "--config", config, "--iterations", 1)
    assert not {"torch", "lightning", "transformers"} & modules, f"{seconds:.1f} s"

    more = python("star", "--config", config, "--iterations", 2)
    assert more.returncode == 0, more.stderr
    assert "iteration 2" in more.stdout and not any("zero-shot" in line for line in more.stderr.splitlines())
    assert {path: path.stat().st_mtime_ns for path in before} == before


def python_modules(*argv):
    """The top-level modules that a command has imported when it ends."""
    code = "import sys; from genrm_lightning.__main__ import main; main(sys.argv[1:]); print('MODULES', *sys.modules)"
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}"}
    command = [sys.executable, "-c", code, *map(str, argv)]
    said = subprocess.run(command, capture_output=True, text=True, env=environment, check=True).stdout
    return {name.partition(".")[0] for name in said.rpartition("MODULES")[2].split()}


@pytest.mark.slow
@pytest.mark.parametrize(
    "mark",
    [
        "zero-shot/id/shard-00000.parquet",
        "iteration-1/sample/shard-00000.parquet",
        "iteration-1/fit/checkpoints/last.ckpt",
        "iteration-1/evaluate/started.json",
    ],
)
def test_the_process_group_is_killed(tmp_path, tiny_llama, mark):
    """As a user would: the real command, killed by SIGKILL as soon as the mark is there, and typed again."""
    checkpoints = {
        "class_path": "lightning.pytorch.callbacks.ModelCheckpoint",
        "init_args": {"save_last": True, "save_top_k": 0, "every_n_train_steps": 1},
    }
    fit = star_fit(max_epochs=6, callbacks=[checkpoints])
    runs = [tmp_path / "killed", tmp_path / "whole"]
    configs = [write_yaml(tmp_path / f"{run.name}.yaml", star_config(run, tiny_llama, fit=fit)) for run in runs]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "genrm_lightning", "star", "--config", str(configs[0])]
    running = subprocess.Popen(command, env=environment, start_new_session=True, stdout=subprocess.DEVNULL)
    while not (runs[0] / mark).exists():
        assert running.poll() is None, f"ended before {mark}"
        time.sleep(0.001)
    os.killpg(running.pid, signal.SIGKILL)
    assert running.wait() == -signal.SIGKILL
    for config in configs:
        done = python("star", "--config", config)
        assert done.returncode == 0, done.stderr
    ours, theirs = map(tables, runs)
    assert ours.keys() == theirs.keys() and all(ours[name].equals(theirs[name]) for name in ours)
    weights = [(run / "iteration-1/fit/judge/model.safetensors").read_bytes() for run in runs]
    assert weights[0] == weights[1] and leftovers(runs[0]) == []
