"""Full disks, disks that cannot be written, signals, power cuts: one line, and the same command goes on."""

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from data_tools import artifact
from data_tools.__main__ import main as data_tools
from data_tools.errors import DiskFull
from genrm_lightning.__main__ import main
from tests.tiny_star import leftovers, side_by_side, star_config, star_fit, tables, write_yaml

DRAW = ["--sampling.rationale_tokens", "6", "--dtype", "float32", "--judge_prompt", "brief", "--shard_size", "2"]
OWN_DISKS = ("unshare", "-rm")  # in name spaces of its own a process may mount what it likes


@pytest.fixture(scope="module")
def disk(tmp_path_factory):
    """A folder that jobs can put a disk on."""
    folder = tmp_path_factory.mktemp("disk")
    command = [*OWN_DISKS, "mount", "-t", "tmpfs", "none", str(folder)]
    try:
        allowed = subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        allowed = False
    if not allowed:
        pytest.skip("no disk may be mounted here")
    return folder


@pytest.fixture(scope="module")
def sample(tmp_path_factory, tiny_llama):
    folder = tmp_path_factory.mktemp("pairs")
    data_tools(["verifiable", "--rows", "12", "--test-rows", "4", "--out", str(folder)])
    given = ["--judge", str(tiny_llama), "--pairs", str(folder / "train.parquet"), *DRAW]
    return lambda out, *flags: ["sample", *given, "--out", str(out), *flags]


def one_line(said: str, *, error: bool = True) -> str:
    """The last line, where no other is an error."""
    lines = said.splitlines()
    assert "Traceback" not in said and not any(line.startswith("error:") for line in lines[:-1]), said
    assert lines[-1].startswith("error: ") == error, said
    return lines[-1]


def test_a_disk_that_fills_and_one_that_is_read_only(tmp_path, disk, sample):
    """It fills at the first file, in the shards, at the table; with room the same command goes on each time."""
    argv = sample(disk / "out")
    sizes = ["4k", "8k", "40k", "72k", "72k,ro", "1m,rw"]
    jobs = [{"argv": argv, "room": [str(disk), size], "after": True} for size in sizes]
    jobs[-1]["copy"] = [str(disk / "out"), str(tmp_path / "out")]
    jobs.append({"argv": sample(tmp_path / "whole")})
    told = side_by_side(tmp_path, *jobs, within=OWN_DISKS)
    for size, job in zip(sizes[:-2], told, strict=False):
        assert job["status"] == 2, (size, job)
        said = one_line(job["said"])
        assert f"{disk}" in said and "no room left on the disk" in said and "run the same command again" in said, said
    assert told[-3]["status"] == 2 and "Read-only file system" in one_line(told[-3]["said"])
    assert [job["status"] for job in told[-2:]] == [0, 0], told
    assert "goes on after " in told[-2]["said"], "shards of before were used"
    ours, theirs = tables(tmp_path / "out"), tables(tmp_path / "whole")
    assert ours.keys() == theirs.keys() and all(ours[name].equals(theirs[name]) for name in ours)
    assert leftovers(tmp_path / "out") == []


@pytest.mark.slow
def test_a_run_whose_disk_fills_again_and_again(tmp_path, disk, tiny_llama):
    warm = {"pairs": 4, "fit": star_fit()}
    runs = [disk / "run", tmp_path / "whole"]
    argv = [
        ["star", "--config", write_yaml(tmp_path / f"{run.name}.yaml", star_config(run, tiny_llama, warm_start=warm))]
        for run in runs
    ]
    sizes = ["16k", "64k", "120k", "200k", "400k", "1000k", "1600k", "2000k", "2600k", "20m"]
    jobs = [{"argv": argv[0], "room": [str(disk), size], "after": True} for size in sizes]
    jobs[-1]["copy"] = [str(runs[0]), str(tmp_path / "run")]
    told = side_by_side(tmp_path, *jobs, {"argv": argv[1]}, within=OWN_DISKS)
    full = [(size, job) for size, job in zip(sizes[:-1], told, strict=False) if job["status"]]
    assert len(full) >= 6, "the smaller sizes are too small for the weights alone"
    for size, job in full:
        assert job["status"] == 2, (size, job)
        assert f"{disk}" in one_line(job["said"]) and "no room left" in job["said"], (size, job)
    assert [job["status"] for job in told[-2:]] == [0, 0], told
    ours, theirs = tables(tmp_path / "run"), tables(tmp_path / "whole")
    assert ours.keys() == theirs.keys() and all(ours[name].equals(theirs[name]) for name in ours)


@pytest.mark.parametrize(("limit", "write"), [
    (4096, lambda path: artifact.write_text(path, "x" * 100_000)),
    (4096, lambda path: artifact.write_json(path, ["x"] * 100_000)),
])  # fmt: skip
def test_a_file_that_may_not_be_so_large(tmp_path, limit, write):
    import resource

    (tmp_path / "file").write_text("old")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        with pytest.raises(DiskFull, match=f"{tmp_path}: no room left on the disk, or for files of this size"):
            write(tmp_path / "file")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [path.name for path in tmp_path.iterdir()] == ["file"] and (tmp_path / "file").read_text() == "old"


def test_signals_end_in_a_line(tmp_path, sample):
    out = [tmp_path / name for name in ("term", "int", "shared")]
    jobs = [
        {"argv": sample(out[0]), "kill": [signal.SIGTERM, f"{out[0]}/shard-00001.parquet", 0]},
        {"argv": sample(out[1]), "kill": [signal.SIGINT, f"{out[1]}/shard-00001.parquet", 0]},
        {"argv": sample(out[2], "--share", "true"), "kill": [signal.SIGTERM, f"{out[2]}/shard-00001.parquet", 0]},
        {"argv": ["join", "--run", tmp_path], "kill": [signal.SIGTERM, f"{out[0]}/shard-00001.parquet", 0]},
    ]
    told = side_by_side(tmp_path, *jobs)
    assert [job["status"] for job in told] == [143, 130, 143, 143], told
    for job, word in zip(told, ("terminated", "interrupted", "terminated", "terminated"), strict=True):
        assert one_line(job["said"], error=False) == f"{word}; the same command goes on from here"
    for folder in out:
        names = {path.name for path in folder.iterdir()}
        assert names >= {"started.json", "shard-00001.parquet"} and not any(".tmp" in name for name in names)
        assert not list(folder.glob(".shared/*")), "claims are let go of"


@pytest.mark.slow
def test_a_run_that_is_told_to_end_ends_its_fit(tmp_path, tiny_llama):
    fit = star_fit(max_epochs=200)
    fit["trainer"]["callbacks"] = [{
        "class_path": "lightning.pytorch.callbacks.ModelCheckpoint",
        "init_args": {"save_last": True, "save_top_k": 0, "every_n_train_steps": 1},
    }]  # fmt: skip
    run = tmp_path / "run"
    argv = ["star", "--config", write_yaml(tmp_path / "star.yaml", star_config(run, tiny_llama, fit=fit))]
    (told,) = side_by_side(
        tmp_path, {"argv": argv, "kill": [signal.SIGTERM, f"{run}/iteration-1/fit/checkpoints/last.ckpt", 0]}
    )
    assert told["status"] == 143 and "Traceback" not in told["said"], told
    assert told["said"].splitlines()[-1] == "terminated; the same command goes on from here"
    assert (run / "iteration-1/fit/checkpoints/last.ckpt").exists()


@pytest.mark.parametrize("content", ["", '{"began": 1.5, "key": {"st', "\0\0\0\0", '{"key": 4}'])
@pytest.mark.parametrize("name", ["started.json", "manifest.json"])
def test_a_stage_that_a_power_cut_left_unreadable(tmp_path, capfd, sample, name, content):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).write_text(content)
    (tmp_path / "out/shard-00000.parquet").write_bytes(b"")
    for flags in ([], ["--share", "true"]):
        assert main(sample(tmp_path / "out", *flags)) == 2
        said = one_line(capfd.readouterr().err)
        assert str(tmp_path / "out" / name) in said and ("remove" in said or "use another" in said)
    assert sorted(os.listdir(tmp_path / "out")) == sorted([name, "shard-00000.parquet"])


@pytest.mark.parametrize("jump", [-4e8, 4e8])
def test_a_clock_that_jumped(tmp_path, sample, jump):
    """Begun at another date than the shards have: the rows are the same."""
    out = [tmp_path / "jumped", tmp_path / "whole"]
    assert main(sample(out[0], "--shard", "1/2")) == 0
    started = json.loads((out[0] / "started.json").read_text())
    (out[0] / "started.json").write_text(json.dumps({**started, "began": started["began"] + jump}))
    for shard in out[0].glob("shard-*"):
        os.utime(shard, (1, 1))
    for folder in out:
        assert main(sample(folder)) == 0
    ours, theirs = (tables(folder)["judgments.parquet"] for folder in out)
    assert ours.equals(theirs) and not (out[0] / ".shared").exists()


def test_data_reach_the_disk_before_their_name_does(tmp_path, monkeypatch):
    """After a power cut a file is whole or absent: data to the disk, then the name is given, then the name too."""
    done = []
    real = os.fsync, os.replace

    def fsync(descriptor):
        done.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")).suffix or "folder")
        real[0](descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", lambda *paths: (done.append("name"), real[1](*paths)))
    artifact.write_json(tmp_path / "a.json", {})
    assert done == [".json", "name", "folder"]
