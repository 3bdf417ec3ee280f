import codecs
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest
from rich.console import Console
from rich.text import Text

from data_tools.schema import PREFERENCE, conform
from data_tools.view import keys
from data_tools.view.pager import Pager, run_by_lines
from data_tools.view.rows import Choice, Pairs, opened

ROOT = Path(__file__).parents[3]


@pytest.fixture
def file(tmp_path):
    rows = [
        {
            "pair_id": f"p{i}",
            "source": "s",
            "prompt": [{"role": "user", "content": f"question {i}"}],
            "chosen": f"chosen{i} " * 5,
            "rejected": "no",
        }
        for i in range(30)
    ]
    conform(pl.DataFrame(rows), PREFERENCE).write_parquet(tmp_path / "pairs.parquet")
    return tmp_path / "pairs.parquet"


def lines_of(row, heading, width):
    """Pair i as 10 lines: i.0 to i.9."""
    return Text("\n".join(f"{row['pair_id']}.{i}" for i in range(10)))


@pytest.fixture
def pager(file):
    console = Console(width=60, height=7, force_terminal=True)  # six lines of text and the status
    return Pager(Pairs(opened(file), Choice()), lines_of, console)


def top(pager):
    return "".join(segment.text for segment in pager.lines()[0]).strip()


def press(pager, *pressed):
    assert all(pager.press(key) for key in pressed)
    return top(pager)


def test_moving(pager):
    assert top(pager) == "p0.0" and len(pager.lines()) == 6
    assert press(pager, "n", "n") == "p2.0"
    assert press(pager, "p") == "p1.0"
    assert press(pager, "left", "left") == "p0.0" and pager.message == "this is the first pair"
    assert press(pager, "end") == "p29.0" and pager.message == ""
    assert press(pager, "n") == "p29.0" and pager.message == "this is the last pair"
    assert press(pager, "home") == "p0.0"
    assert not pager.press("q")


def test_scrolling_in_a_pair(pager):
    assert press(pager, "down", "down", "up") == "p0.1"
    assert "3 lines below" in pager.status()
    assert press(pager, "down", "down", "down", "down", "down") == "p0.4"  # the end stands at the bottom
    assert press(pager, "space") == "p1.0"  # nothing below: the next one
    assert press(pager, "space") == "p1.4"
    assert press(pager, "page up") == "p1.0"
    assert press(pager, "page up") == "p0.0"


def test_numbers(pager):
    assert press(pager, "1", "2") == "p0.0" and pager.status() == "12"
    assert press(pager, "enter") == "p11.0"
    assert press(pager, "7", "x", "backspace", "9", "enter") == "p8.0"
    assert press(pager, "7", "escape", "n") == "p9.0"
    assert press(pager, *"31", "enter") == "p9.0" and pager.message == "no pair 31"
    assert press(pager, "0", "enter") == "p9.0" and pager.message == "this is the first pair"


def test_searching(pager):
    assert press(pager, "/", *"CHOSEN2", "enter") == "p2.0"
    assert press(pager, "/", "enter") == "p20.0"  # the same again
    assert press(pager, "/", *"question", "space", "3", "enter") == "p3.0"
    assert pager.message == "found before this one, from the first on"
    assert press(pager, "/", *"nowhere", "enter") == "p3.0" and pager.message == "not found: nowhere"
    assert press(pager, "/", "q", "escape", "n") == "p4.0"


def test_another_size_is_another_drawing(pager):
    press(pager, "down", "down")
    pager._console.size = (60, 12)
    assert top(pager) == "p0.0" and len(pager.lines()) == 11


def test_lines_instead_of_keys(file, capsys):
    entries = iter(["", "12", "/chosen2", "p", "31", "q"])
    pairs = Pairs(opened(file), Choice())
    run_by_lines(
        pairs, lambda row, heading, width: Text(f"<{row['pair_id']}>"), Console(width=80), lambda _: next(entries)
    )
    out = capsys.readouterr().out
    assert [line for line in out.split() if line.startswith("<")] == ["<p0>", "<p1>", "<p11>", "<p20>", "<p19>"]
    assert "no pair 31" in out and next(entries, None) is None


def test_sequences_of_terminals():
    assert list(keys._split("n\x1b[A\x1bOB\x1b[6~ \r\x7f\x1b[1;5C\x1b")) == [
        "n", "up", "down", "page down", "space", "enter", "backspace", "escape",
    ]  # fmt: skip


@pytest.mark.skipif(os.name != "posix", reason="needs a pseudo-terminal")
def test_in_a_terminal(file):
    """The command itself, in a terminal that is resized."""
    import fcntl
    import pty
    import struct
    import termios

    def resize(rows, columns):
        fcntl.ioctl(ours, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    ours, theirs = pty.openpty()
    resize(24, 100)
    before = termios.tcgetattr(theirs)
    command = [sys.executable, "-m", "data_tools", "view", str(file)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm"}
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment, cwd=ROOT)
    seen, decoder = "", codecs.getincrementaldecoder("utf-8")()

    def until(text):
        nonlocal seen
        end = time.monotonic() + 60
        while text not in seen:
            assert time.monotonic() < end, f"waiting for {text!r}, saw {seen[-2000:]!r}"
            if select.select([ours], [], [], 0.1)[0]:
                seen += decoder.decode(os.read(ours, 65536))  # a piece may end within a character
        found, seen = seen, ""
        return found

    try:
        assert "\x1b[?1049h" in until("1 of 30")  # the terminal's other screen
        for keys_, text in (("n", "2 of 30"), ("\x1b[D", "1 of 30"), ("12\r", "12 of 30"), ("/chosen25\r", "26 of 30")):
            os.write(ours, keys_.encode())
            until(text)
        resize(24, 50)
        assert len(until("26 of 30").split("\r\n")[0].rpartition("m")[2]) <= 50
        os.write(ours, b"q")
        until("\x1b[?1049l")
        assert process.wait(30) == 0
        assert termios.tcgetattr(theirs) == before
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            process.wait()
        os.close(ours)
        os.close(theirs)
