"""Damaged tables: told in one line wherever the damage shows."""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import polars as pl
import pytest

from data_tools import artifact, panics
from data_tools.errors import UserError
from data_tools.schema import JUDGMENT
from tests.data_tools import fuzzing
from tests.data_tools.test_cli import fails
from tests.data_tools.test_fuzz import judgments, preferences

PANIC = b"\nthread 'polars-3' (17) panicked at crates/x.rs:1:2:\ncalled `unwrap()`\nnote: run with `RUST_BACK`\n"


@pytest.mark.parametrize("piece", [1, 7, 1000])
def test_a_panic_is_an_error_of_polars_and_its_words_are_not_shown(capfd, piece):
    with pytest.raises(pl.exceptions.ComputeError, match="damaged"), panics.contained():
        os.write(2, b"before\n")
        for at in range(0, len(PANIC), piece):
            os.write(2, PANIC[at : at + piece])
            time.sleep(0.3 if b":2:" in PANIC[at : at + piece] else 0)  # a backtrace is being worked out
        os.write(2, b"after\n")
        raise pl.exceptions.PanicException("called `Result::unwrap()`")
    assert capfd.readouterr().err == "before\nafter\n"
    with pytest.raises(KeyboardInterrupt), panics.contained(), panics.contained():
        os.write(2, b"\n\na warning\nthread")
        raise KeyboardInterrupt
    os.write(2, b", and more")
    assert capfd.readouterr().err == "\n\na warning\nthread, and more"


def shown(*writes):
    """What is shown of (seconds, bytes)."""
    stream = panics._Stream()
    return [stream.shown(text, seconds) for seconds, text in writes]


@pytest.mark.parametrize("end", [b"\n", b"\r"])  # lines, or a bar that is drawn again and again
def test_a_panic_without_a_note_is_over_though_others_go_on_writing(end):
    others = [(101 + i / 2, b"%d of 9%s" % (i, end)) for i in range(9)]
    said = shown((100, PANIC[: PANIC.index(b"note")]), *others)
    assert said == [b""] * 4 + [text for seconds, text in others if seconds > 102]


def test_a_backtrace_is_kept_back_however_long_it_takes():
    frames = [(101 + i, b"  %d: 0x55d - polars::x\n             at crates/x.rs:1:5\n" % i) for i in range(9)]
    begin = (100, b"before\n" + PANIC[: PANIC.index(b"note")] + b"stack backtrace:\n")
    end = (111, b"note: Some details are omitted\nafter\n")
    assert shown(begin, *frames, end) == [b"before\n", *[b""] * 9, b"after\n"]
    assert shown(begin, *frames, (111.5, b"after\n")) == [b"before\n", *[b""] * 9, b"after\n"]


def test_a_panic_that_others_do_not_follow_is_over_by_itself(capfd, monkeypatch):
    monkeypatch.setattr(panics, "_WHOLE", 0.2)
    with panics.contained():
        os.write(2, PANIC[: PANIC.index(b"note")])
        time.sleep(0.6)
        os.write(2, b"after\n")
    assert capfd.readouterr().err == "after\n"


def test_what_is_no_panic_is_shown_at_once():
    """A process that is killed has said what it had to say."""
    work = (
        "import os, sys, time\nfrom data_tools import panics\n"
        "with panics.contained():\n"
        "    print('half way', file=sys.stderr, flush=True)\n"
        "    sys.stdin.readline()\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    pipes = dict.fromkeys(("stdin", "stderr"), subprocess.PIPE)
    with subprocess.Popen([sys.executable, "-c", work], cwd=Path(__file__).parents[2], text=True, **pipes) as process:
        assert process.stderr.readline() == "half way\n"  # while it is at work
        process.stdin.write("\n")
        process.stdin.flush()
    assert process.returncode == -9


def test_blocks_in_several_threads_leave_the_stream_as_it_was(capfd):
    def work(i):
        for _ in range(20):
            with panics.contained():
                os.write(2, b"%d\n" % i)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    os.write(2, b"end\n")
    said = capfd.readouterr().err.splitlines()
    assert sorted(said) == sorted([*"0123" * 20, "end"]) and said[-1] == "end"


def test_damage_that_no_check_has_read_is_found_when_the_query_fails(tmp_path, capsys):
    file, pairs = tmp_path / "judgments.parquet", tmp_path / "pairs.parquet"
    pairs.write_bytes(fuzzing.framed(preferences(), "parquet"))
    whole = fuzzing.framed(judgments(), "parquet")
    for at in range(4, len(whole) // 2, 40):
        file.write_bytes(whole[:at] + b"\xff" * 12 + whole[at + 12 :])
        try:
            artifact.scan_tables([file], JUDGMENT)
            with panics.contained():
                pl.scan_parquet(file).select("rationale").collect()
        except UserError:  # the checks have seen it
            continue
        except pl.exceptions.PolarsError:
            break
    else:
        raise AssertionError("no damage that only the query meets")
    given = (
        "star",
        "--judgments",
        file,
        "--preferences",
        pairs,
        "--objective",
        "sft",
        "--out",
        tmp_path / "out.parquet",
    )
    assert fails(capsys, *given).startswith(f"{file}: not a readable parquet file (")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["judgments.parquet", "pairs.parquet"]


def test_a_query_that_fails_over_whole_tables_keeps_its_error(tmp_path):
    judgments().write_parquet(tmp_path / "t.parquet")
    with pytest.raises(pl.exceptions.ColumnNotFoundError), artifact.damage_told([tmp_path / "t.parquet"]):
        pl.scan_parquet(tmp_path / "t.parquet").select("none").collect()


def test_a_panic_over_a_table_that_can_be_read_is_one_line(tmp_path):
    """Damage that polars meets on one way of reading and not on another."""
    pl.DataFrame({"a": [1]}).write_parquet(tmp_path / "t.parquet")
    told = pytest.raises(UserError, match=r"t.parquet: .* may be damaged")
    with told, artifact.damage_told([tmp_path / "t.parquet"]):
        raise pl.exceptions.PanicException("assertion failed")
