"""A STaR run in this process, its fits included."""

from __future__ import annotations

import contextlib
import sys

import pytest

from data_tools.artifact import read_json
from genrm_lightning import cli
from genrm_lightning.__main__ import main
from genrm_lightning.star import fitting
from tests.tiny_star import star_config, write_yaml


@pytest.fixture(autouse=True)
def fit_here(monkeypatch):
    """``run_fit`` without the seconds of a new process; the process itself is tested in test_kill_resume.py."""

    def run_fit(config, folder):
        with contextlib.redirect_stdout(sys.stderr):  # as run_fit has it
            assert cli.main(["fit", "--config", str(config)]) == 0
        fitting.shutil.rmtree(folder / "checkpoints", ignore_errors=True)

    monkeypatch.setattr(fitting, "run_fit", run_fit)


def star(capsys, folder, backbone, *flags, **changes):
    """Run it; (stdout, the summary)."""
    file = write_yaml(folder / "star.yaml", star_config(folder / "run", backbone, **changes))
    status = main(["star", "--config", str(file), *map(str, flags)])
    said = capsys.readouterr()
    assert status == 0, said.err
    return said.out, read_json(folder / "run" / "summary.json")


def refused(capsys, folder, backbone, **changes):
    """The one line of a run that is refused; nothing is left of it."""
    file = write_yaml(folder / "star.yaml", star_config(folder / "run", backbone, **changes))
    assert main(["star", "--config", str(file)]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and said.count("\n") == 1, said
    return said
