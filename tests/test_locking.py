"""Two commands in one output folder: the second is told so, and the lock leaves nothing behind."""

import subprocess
import sys

import pytest

from data_tools.errors import UserError
from genrm_lightning.locking import only_one

_HOLD = """
import sys
from genrm_lightning.locking import only_one
with only_one(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_process_is_refused_until_the_first_has_died(tmp_path):
    out = tmp_path / "a/out"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", _HOLD, str(out)], **pipes) as first:
        assert first.stdout.readline() == "held\n"
        said = f"{out}: another command is at work in this folder; .* with --out"
        with pytest.raises(UserError, match=said), only_one(out):
            pass
        first.kill()
    with only_one(out):
        (out / "kept").touch()
    assert [path.name for path in out.iterdir()] == ["kept"]


def test_an_empty_folder_goes_again_and_ones_own_stays(tmp_path):
    with only_one(tmp_path / "new/deep"):
        assert (tmp_path / "new/deep").is_dir()
    assert not (tmp_path / "new").exists()
    (tmp_path / "own").mkdir()
    with only_one(tmp_path / "own"):
        pass
    assert (tmp_path / "own").is_dir()


def test_a_folder_that_its_holder_removed_is_locked_anew(tmp_path):
    with only_one(tmp_path / "out"):
        (tmp_path / "out").rmdir()
        with only_one(tmp_path / "out"):  # another folder of the same name
            (tmp_path / "out/file").touch()
    assert (tmp_path / "out/file").exists()
