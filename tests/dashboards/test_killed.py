"""Fits with the default logger that are killed (SIGKILL) and go on: one curve, one line of the HParams tab."""

import os
import shutil
import signal
import subprocess
from collections import Counter

import pytest
import torch
from tensorboard.plugins.hparams import metadata

from genrm_lightning.__main__ import main
from genrm_lightning.dashboards.logger import RUN, FitLogger
from genrm_lightning.dashboards.one_curve import curves_before
from genrm_lightning.locking import only_one
from tests.dashboards.common import charts, config, points, read
from tests.dashboards.dying import told
from tests.tiny_star import side_by_side, write_yaml

CHECKPOINTS = {
    "class_path": "lightning.pytorch.callbacks.ModelCheckpoint",
    "init_args": {"every_n_train_steps": 2, "save_top_k": 0, "save_last": True, "enable_version_counter": False},
}
TELLS = {"class_path": "tests.dashboards.dying.Tells"}


@pytest.fixture(scope="module")
def lives(tiny_llama, tmp_path_factory):
    """Fits of six steps, which validate behind the second and the fifth; the folders of their runs.

    ``whole`` in one go. ``killed`` dies twice: behind its third step, which is written and which it will take again,
    its checkpoint being of the second; and right behind the next checkpoint, of the fourth. Its runs after each death
    are kept. A copy of its root, ``longer``, goes on twice: when there is nothing left to do, and for a third epoch.
    Then another one begins in the root itself.
    """
    folder = tmp_path_factory.mktemp("lives")
    given = config(folder / "killed", tiny_llama, max_epochs=2)
    given["trainer"].pop("logger")
    root, runs, longer = folder / "killed/out", folder / "killed/out/tensorboard", str(folder / "longer")

    def job(name, *dies, **more):
        died = [{"class_path": "tests.dashboards.dying.Dies", "init_args": {"steps": s, "written": w}} for s, w in dies]
        trainer = {**given["trainer"], "callbacks": [*died, TELLS, CHECKPOINTS], **more}
        file = write_yaml(folder / f"{name}.yaml", {**given, "trainer": trainer})
        resumes = ["--ckpt_path", "last"] if name not in ("whole", "killed", "fresh") else []
        return {"argv": ["fit", "--config", str(file), *resumes], "after": True}

    jobs = [
        job("whole", default_root_dir=str(folder / "whole")),
        job("killed", (3, True)) | {"copy": [str(runs), str(folder / "first death")]},
        job("resumed", (4, False)) | {"copy": [str(runs), str(folder / "second death")]},
        job("done") | {"copy": [str(root), longer]},
        job("nothing left", default_root_dir=longer),
        job("longer", default_root_dir=longer, max_epochs=3),
        job("fresh"),
    ]
    found = side_by_side(folder, *jobs)
    expected = [0, -signal.SIGKILL, -signal.SIGKILL, 0, 0, 0, 0]
    assert [one["status"] for one in found] == expected, [one["said"] for one in found]
    return folder


def test_a_killed_fit_is_one_curve(lives):
    events, whole = (read(lives / way / "tensorboard/version_0") for way in ("killed/out", "whole"))
    assert len(list((lives / "killed/out/tensorboard/version_0").glob("*tfevents*"))) == 3
    found, expected = points(events), points(whole)
    assert found.keys() == expected.keys() and found["train/loss"] == [0, 1, 2, 3, 4, 5]
    for name, steps in expected.items():
        if not name.startswith("pace/"):  # its points go by the clock
            assert found[name] == steps, name
    for name in ("train/loss", "val/loss", "judge/accuracy", "category/maths", "lr-AdamW/pg1"):
        values = [[e.value for e in run.Scalars(name)] for run in (events, whole)]
        assert values[0] == pytest.approx(values[1], abs=1e-6), name
    assert charts(events) == charts(whole)
    assert found["judge/accuracy"] == [1, 4]


def test_a_fit_that_goes_on_again_and_again_is_one_curve(lives):
    found = points(read(lives / "longer/tensorboard/version_0"))
    steps = {"train/loss": [*range(9)], "lr-AdamW/pg1": [*range(9)], "val/loss": [1, 4, 7], "judge/accuracy": [1, 4, 7]}
    assert {name: found[name] for name in steps} == steps


def test_no_batch_comes_twice_and_none_is_left_out(lives):
    whole, longer = told(lives / "whole"), told(lives / "longer")
    assert len(longer) == 9 and longer[:6] == whole
    for epoch in range(3):
        trees = Counter(pair for step in longer[3 * epoch :][:3] for pair in step)
        assert len(trees) == 11 and {*trees.values()} == {2}, "of each pair both orders"


def test_nothing_is_missing_behind_a_kill(lives):
    """The checkpoint's own step, which Lightning logs after it; and what was logged behind it goes on from there."""
    assert points(read(lives / "first death/version_0"))["train/loss"] == [0, 1, 2]
    assert points(read(lives / "second death/version_0"))["train/loss"] == [0, 1, 2, 3]


def test_the_judge_is_laid_out_from_a_checkpoint_of_its_first_validation(lives):
    """It was written before the validation behind its own step; the life that goes on from it dies before the next."""
    before, after = (read(lives / f"{name} death/version_0") for name in ("first", "second"))
    for events in (before, after):
        assert points(events)["judge/accuracy"] == [1]
        assert set(charts(events)["Judge by category (95 % interval)"]) == {"maths", "chat_long"}
    written = [len(events.Tensors("custom_scalars__config__")) for events in (before, after)]
    assert written[1] > written[0], "the second life has written a layout of its own"


def test_a_killed_fit_is_one_line_of_settings(lives):
    runs = lives / "killed/out/tensorboard"
    assert sorted(path.name for path in runs.iterdir()) == ["version_0", "version_1"], "of the fresh fit, the second"
    tags = read(runs / "version_0").summary_metadata
    assert {metadata.SESSION_START_INFO_TAG, metadata.SESSION_END_INFO_TAG} <= tags.keys()


def test_a_fresh_fit_has_its_own_run(lives):
    first, second = (read(lives / f"killed/out/tensorboard/version_{i}") for i in range(2))
    assert points(second)["train/loss"] == points(first)["train/loss"] == [0, 1, 2, 3, 4, 5]
    assert len(list((lives / "killed/out/tensorboard/version_1").glob("*tfevents*"))) == 1


def test_a_run_is_known_by_its_checkpoint(lives, tmp_path):
    """Not by its number: the last fit of a root may have died before it wrote a checkpoint."""
    checkpoint = torch.load(lives / "longer/checkpoints/last.ckpt", weights_only=True)
    shutil.copytree(lives / "killed/out/tensorboard", tmp_path / "tensorboard")
    shutil.copytree(tmp_path / "tensorboard/version_0", tmp_path / "tensorboard/a copy of version_0")

    def place(given, root=tmp_path):
        logger = FitLogger(root)
        logger.go_on(given)
        return logger.log_dir.removeprefix(f"{root}/tensorboard/")

    assert place(checkpoint) == "version_0"
    (tmp_path / "tensorboard/version_0").rename(tmp_path / "tensorboard/mine")
    assert place(checkpoint) == "mine"
    for other in ({}, {RUN: None}, {RUN: "../mine"}, {RUN: 5}, {RUN: "."}):
        assert place(other) == "version_2"
    assert place(checkpoint, tmp_path / "elsewhere") == "version_0"


def test_a_run_that_cannot_be_written_is_told_in_one_line(lives, tmp_path):
    bound = ()
    if not os.geteuid():  # modes do not bind root as it is
        off = "-dac_override,-dac_read_search"
        bound = ("setpriv", "--bounding-set", off, "--inh-caps", off)
        if not shutil.which("setpriv") or subprocess.run([*bound, "true"], check=False).returncode:
            pytest.skip("root cannot give up its rights here")
    root = tmp_path / "out"
    shutil.copytree(lives / "longer", root)
    run = root / "tensorboard/version_0"
    flags = ["--trainer.default_root_dir", str(root), "--ckpt_path", "last"]
    argv = ["fit", "--config", str(lives / "longer.yaml"), *flags]
    run.chmod(0o555)
    try:
        (found,) = side_by_side(tmp_path, {"argv": argv}, within=bound)
    finally:
        run.chmod(0o755)
    assert found["status"] == 2
    assert found["said"].startswith(f"error: {run}: this folder cannot be written"), found["said"]
    assert found["said"].count("\n") == 1


def test_a_torn_record_ends_a_file(lives, tmp_path):
    shutil.copytree(lives / "second death/version_0", tmp_path / "run")
    whole = curves_before(tmp_path / "run", 9)
    assert {"train/loss", "judge/accuracy", "category_low/maths"} <= whole
    assert curves_before(tmp_path / "run", 1) < whole and not curves_before(tmp_path / "run", 0)
    last = sorted((tmp_path / "run").iterdir())[-1]
    content = last.read_bytes()
    for torn in (content[:-3], content + b"\xff" * 30, content + b"\x08" + b"\x00" * 11 + b"\xff" * 12, content[:5]):
        last.write_bytes(torn)
        assert curves_before(tmp_path / "run", 9) <= whole


def test_a_logger_of_ones_own_is_not_replaced(tmp_path, tiny_llama):
    given = config(tmp_path, tiny_llama, max_steps=1, max_epochs=1, limit_val_batches=0)
    arguments = {"save_dir": str(tmp_path), "name": "mine"}
    given["trainer"]["logger"] = {"class_path": "lightning.pytorch.loggers.TensorBoardLogger", "init_args": arguments}
    file = write_yaml(tmp_path / "fit.yaml", given)
    assert main(["fit", "--config", str(file)]) == 0
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["version_0"]
    assert not (tmp_path / "out/tensorboard").exists()
    assert RUN not in torch.load(tmp_path / "out/checkpoints/last.ckpt", weights_only=True)


def test_a_damaged_checkpoint_leaves_no_run(tmp_path, tiny_llama, capsys):
    given = config(tmp_path, tiny_llama, max_epochs=1)
    given["trainer"].pop("logger")
    file = write_yaml(tmp_path / "fit.yaml", given)
    (tmp_path / "out").mkdir()
    for content in (b"nothing", b"PK\x05\x06" + b"\x00" * 18):  # the second is an empty zip file
        (tmp_path / "bad.ckpt").write_bytes(content)
        assert main(["fit", "--config", str(file), "--ckpt_path", str(tmp_path / "bad.ckpt")]) == 2
        said = capsys.readouterr().err
        assert "bad.ckpt: not a readable checkpoint" in said and said.count("\n") == 1
    with only_one(tmp_path / "out"):  # another fit; who is refused has not read its files
        assert main(["fit", "--config", str(file), "--ckpt_path", str(tmp_path / "bad.ckpt")]) == 2
    assert "another command is at work in this folder" in capsys.readouterr().err
    assert not (tmp_path / "out/tensorboard").exists()
