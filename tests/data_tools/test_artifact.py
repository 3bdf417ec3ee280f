import errno
import os
import shutil
import signal

import polars as pl
import pytest

from data_tools import artifact
from data_tools.errors import UserError
from data_tools.schema import EXAMPLE, PREFERENCE, conform


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path):
    file = tmp_path / "a.txt"
    artifact.write_text(file, "old")
    with pytest.raises(RuntimeError), artifact.atomic_path(file) as temporary:
        temporary.write_text("half of the n")
        raise RuntimeError
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]


def test_an_interrupt_is_a_failure_too(tmp_path):
    with pytest.raises(KeyboardInterrupt), artifact.atomic_folder(tmp_path / "d") as temporary:
        (temporary / "x").write_text("x")
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_the_name_appears_only_at_the_end(tmp_path):
    file = tmp_path / "new" / "a.txt"
    with artifact.atomic_path(file) as temporary:
        temporary.write_text("whole")
        assert not file.exists()
        assert temporary.suffix == ".txt"
    assert file.read_text() == "whole"


def test_file_systems_that_sync_no_folders_are_written_to(tmp_path, monkeypatch):
    def fails(number):
        def fsync(descriptor):
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(os, "fsync", fsync)

    fails(errno.EINVAL)
    artifact.write_text(tmp_path / "a", "x")
    fails(errno.EIO)
    with pytest.raises(OSError, match="Input/output error"):
        artifact.write_text(tmp_path / "b", "x")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_atomic_folder_replaces_whole(tmp_path):
    folder = tmp_path / "d"
    folder.mkdir()
    (folder / "old").write_text("x")
    with artifact.atomic_folder(folder) as temporary:
        (temporary / "new").write_text("y")
        assert (folder / "old").exists()
    assert [p.name for p in folder.iterdir()] == ["new"]
    assert list(tmp_path.iterdir()) == [folder]


@pytest.mark.parametrize("fails", [1, 2])
def test_a_folder_that_cannot_be_moved_leaves_the_old_one(tmp_path, monkeypatch, fails):
    """Whichever of the two moves is interrupted, the old folder stands under its name, whole."""
    folder = tmp_path / "d"
    folder.mkdir()
    (folder / "old").write_text("x")
    moves = []

    def replace(source, target, real=os.replace):
        moves.append(source)
        if len(moves) == fails:
            raise KeyboardInterrupt
        real(source, target)

    monkeypatch.setattr(artifact.os, "replace", replace)
    with pytest.raises(KeyboardInterrupt), artifact.atomic_folder(folder) as temporary:
        (temporary / "new").write_text("y")
    assert [p.name for p in tmp_path.rglob("*")] == ["d", "old"]


def test_a_folder_has_reached_the_disk_before_its_name_does(tmp_path, monkeypatch):
    done = []
    monkeypatch.setattr(artifact, "_sync", lambda path: done.append(("sync", path.name)))
    monkeypatch.setattr(artifact.os, "replace", lambda source, _: (done.append("name"), os.rename(source, _)))
    with artifact.atomic_folder(tmp_path / "d") as temporary:
        (temporary / "inner").mkdir()
        (temporary / "inner" / "x").write_text("y")
    before = done[: done.index("name")]
    assert {("sync", "inner"), ("sync", "x"), ("sync", temporary.name)} == set(before)
    assert done[-1] == ("sync", tmp_path.name)


def test_sweep_removes_what_a_killed_process_left_and_nothing_else(tmp_path):
    (tmp_path / ".a.0123abcd.tmp.parquet").write_text("half")
    (tmp_path / ".d.0123abcd.tmp").mkdir()
    (tmp_path / ".d.0123abcd.tmp" / "x").write_text("half")
    (tmp_path / "a.parquet").write_text("whole")
    mine = [
        ".hidden",
        ".config.tmpl",
        ".x.tmp",
        ".x.tmp.d",
        ".x.0123abc.tmp",
        ".x.0123abcd.tmp.tar.gz",
        "x.0123abcd.tmp",
    ]
    for name in mine:
        (tmp_path / name).write_text("mine")
    artifact.sweep(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(["a.parquet", *mine])


@pytest.mark.parametrize("name", ["a.parquet", "a", ".hidden", "v1.2 odd\nname.json", "a.tmp"])
@pytest.mark.parametrize("write", [artifact.atomic_path, artifact.atomic_folder])
def test_sweep_knows_every_name_that_is_written_to(tmp_path, name, write):
    with write(tmp_path / name) as temporary:
        if write is artifact.atomic_path:
            temporary.write_text("half")
        assert temporary.exists()
        left = temporary.name
        # A process that is killed here leaves this and nothing else.
        assert [p.name for p in tmp_path.iterdir()] == [left]
    (tmp_path / left).mkdir()
    artifact.sweep(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == [name]


def test_tables_make_the_round_trip(tmp_path):
    frame = pl.DataFrame(
        {
            "pair_id": ["p"],
            "prompt": [[{"role": "user", "content": "q"}]],
            "completion_ids": [[1, 2]],
            "swapped": [True],
        }
    )
    frame = conform(frame, EXAMPLE)
    artifact.write_table(frame, tmp_path / "e.parquet", EXAMPLE)
    assert artifact.read_table(tmp_path / "e.parquet", EXAMPLE).equals(frame)


def test_a_table_of_the_wrong_kind_is_not_written(tmp_path):
    with pytest.raises(UserError, match="e.parquet: column 'swapped' is missing"):
        artifact.write_table(pl.DataFrame(schema=PREFERENCE), tmp_path / "e.parquet", EXAMPLE)
    assert list(tmp_path.iterdir()) == []


def test_read_table_errors(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        artifact.read_table(tmp_path / "e.parquet", EXAMPLE)
    (tmp_path / "e.parquet").write_text('{"a": 1}')
    with pytest.raises(UserError, match="e.parquet: not a readable parquet file .*data_tools ingest"):
        artifact.read_table(tmp_path / "e.parquet", EXAMPLE)
    conform(pl.DataFrame({"pair_id": ["p"]}), PREFERENCE).write_parquet(tmp_path / "p.parquet")
    with pytest.raises(UserError, match="p.parquet: row 1: column 'prompt' is null"):
        artifact.read_table(tmp_path / "p.parquet", PREFERENCE)


def test_read_json_errors(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        artifact.read_json(tmp_path / "x.json")
    (tmp_path / "x.json").write_text("{")
    with pytest.raises(UserError, match="x.json: not valid JSON"):
        artifact.read_json(tmp_path / "x.json")


def test_manifest(tmp_path):
    key = {"stage": "s", "rows": 3}
    assert not artifact.is_complete(tmp_path, key)
    artifact.write_manifest(tmp_path, key, seconds=1.5)
    assert artifact.is_complete(tmp_path, key)
    assert artifact.read_json(tmp_path / artifact.MANIFEST) == {"key": key, "seconds": 1.5}


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ({"stage": "s", "rows": 4}, r"another 'rows' \(3, now 4\)"),
        ({"stage": "s"}, r"another 'rows' \(3, now null\)"),
        ({"stage": "s", "rows": 3, "seed": 1}, r"another 'seed' \(null, now 1\)"),
    ],
)
def test_a_manifest_of_other_settings_is_refused(tmp_path, key, said):
    artifact.write_manifest(tmp_path, {"stage": "s", "rows": 3})
    with pytest.raises(UserError, match=said):
        artifact.is_complete(tmp_path, key)


@pytest.mark.parametrize("content", ["[]", "{}", '{"key": 3}'])
def test_a_foreign_manifest_is_refused(tmp_path, content):
    (tmp_path / artifact.MANIFEST).write_text(content)
    with pytest.raises(UserError, match="no manifest of a stage"):
        artifact.is_complete(tmp_path, {})


def test_digest(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    for folder in (one, two):
        folder.mkdir()
        (folder / "x").write_text("same")
    assert artifact.digest(one / "x") == artifact.digest(two / "x")  # a file's name does not matter
    assert artifact.digest(one) == artifact.digest(two)
    (two / "x").rename(two / "y")
    assert artifact.digest(one) != artifact.digest(two)  # in a folder it does
    assert artifact.digest_of({"a": 1, "b": 2}) == artifact.digest_of({"b": 2, "a": 1}) != artifact.digest_of({"a": 1})
    with pytest.raises(UserError, match="no such file"):
        artifact.digest(tmp_path / "nope")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the test dies in a fork")
@pytest.mark.parametrize("deaths", [1, 2, 3])
def test_a_folder_that_is_replaced_outlives_a_kill_between_any_two_steps(tmp_path, deaths):
    """Killed right before its first rename, its second, and the removal of the old one."""
    folder, new = tmp_path / "last", tmp_path / "new"
    for made, text in ((folder, "old"), (new, "new")):
        made.mkdir()
        (made / "x").write_text(text)
    child = os.fork()
    if not child:
        steps = iter(range(1, 4))

        def dies(*arguments, **more):
            if next(steps) == deaths:
                os.kill(os.getpid(), signal.SIGKILL)
            return renames(*arguments)

        renames, os.replace = os.replace, dies
        shutil.rmtree = dies
        artifact.replace_folder(new, folder)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert folder.exists() == (deaths != 2)
    for _ in range(2):
        artifact.put_back(folder)
        assert (folder / "x").read_text() == ("new" if deaths == 3 else "old")
    newer = tmp_path / "newer"
    newer.mkdir()
    artifact.replace_folder(newer, folder)
    assert list(folder.iterdir()) == [] and {p.name for p in tmp_path.iterdir()} <= {"last", "new"}
