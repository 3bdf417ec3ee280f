"""Claims: one holder at a time, no waiting for the dead, and no clock but one's own."""

import os
import signal
import subprocess
import sys
import time

import pytest

from genrm_lightning.claims import Claims, _sign

_HOLD = """
import sys
from pathlib import Path
from genrm_lightning.claims import Claims
with Claims(Path(sys.argv[1]), beat=0.05) as claims:
    print(claims.take("a"), flush=True)
    sys.stdin.read()
"""
# What a process of another machine wrote.
ELSEWHERE = b"000000000007 123456 4321 11111111-2222-3333-4444-555555555555/4026531836\n"


@pytest.fixture
def other(tmp_path):
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", _HOLD, str(tmp_path)], **pipes) as process:
        assert process.stdout.readline() == "True\n"
        yield process
        process.kill()


def test_what_one_holds_another_does_not_get(tmp_path):
    with Claims(tmp_path) as one, Claims(tmp_path) as two:
        assert one.take("a") and one.held("a") and two.held("a") and not two.take("a")
        assert two.take("b") and not one.take("b")
        one.release("a")
        assert not two.held("a") and two.take("a")
    assert list(tmp_path.iterdir()) == []


def test_a_process_that_died_is_not_waited_for(tmp_path, other):
    with Claims(tmp_path, stale=1000) as claims:
        assert not claims.take("a")
        other.kill()
        other.wait()
        assert claims.left("a") and claims.take("a")


def test_signs_of_life_keep_a_claim_and_silence_loses_it(tmp_path, other):
    with Claims(tmp_path, stale=0.5) as claims:
        until = time.monotonic() + 1.2
        while time.monotonic() < until:
            assert claims.held("a")
            time.sleep(0.02)
        os.kill(other.pid, signal.SIGSTOP)  # alive, but not at work
        until = time.monotonic() + 10
        while not claims.take("a"):
            assert time.monotonic() < until
            time.sleep(0.02)
        os.kill(other.pid, signal.SIGCONT)
        other.stdin.close()  # it ends, and lets go of what it believes to be its own
        other.wait()
        assert (tmp_path / "a").exists() and claims.held("a")


@pytest.mark.parametrize("date", [0, 4e9])
def test_a_holder_elsewhere_is_timed_by_the_clock_of_who_looks(tmp_path, date):
    """Whatever date its file has: the clocks of machines differ, and jump."""
    (tmp_path / "a").write_bytes(ELSEWHERE)
    os.utime(tmp_path / "a", (date, date))
    with Claims(tmp_path, stale=0.3) as claims:
        assert not claims.take("a")
        time.sleep(0.2)
        (tmp_path / "a").write_bytes(ELSEWHERE.replace(b"7", b"8", 1))
        assert not claims.take("a")
        time.sleep(0.2)
        assert not claims.take("a"), "it gave a sign 0.2 s ago"
        time.sleep(0.2)
        assert claims.take("a")


@pytest.mark.parametrize("content", [b"", b"\0" * 60, b"words of somebody else's", b"1 2 3 4"])
def test_a_file_that_says_nothing_is_waited_for(tmp_path, content):
    """It may be about to be written."""
    (tmp_path / "a").write_bytes(content)
    with Claims(tmp_path, stale=0.2) as claims:
        assert not claims.take("a")
        time.sleep(0.25)
        assert claims.take("a")


def test_no_folder_no_claims(tmp_path):
    with Claims(tmp_path / "gone") as claims:
        assert not claims.take("a") and not claims.held("a") and not claims.left("a")
    assert not (tmp_path / "gone").exists()


def test_once(tmp_path):
    with Claims(tmp_path) as one, Claims(tmp_path) as two:
        with one.once("a", lambda: False) as ours:
            assert ours and not two.take("a")
            with two.once("a", lambda: True) as theirs:
                assert not theirs
        assert two.take("a")


def test_a_sign_covers_the_one_before():
    assert len(_sign(0)) == len(_sign(99999999))
