"""``--hub`` without the network: folders of data in the place of the hub's, and what is said where there is none."""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from data_tools import ancestry, hub, lineage, sources
from data_tools.commands import _hub
from data_tools.errors import UserError

datasets = pytest.importorskip("datasets")


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GENRM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hf")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.chdir(tmp_path)


def rows(n, name):
    return [{"prompt": f"{name} {i}", "chosen": f"good {i}", "rejected": "bad", "id": f"{name}{i}"} for i in range(n)]


@pytest.fixture
def dataset(tmp_path):
    folder = tmp_path / "sets" / "mine"
    folder.mkdir(parents=True)
    for split, n in (("train", 40), ("test", 5)):
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows(n, split)))
    return folder


def fails(*given, **more):
    with pytest.raises(UserError) as caught:
        hub.fetch(*map(str, given), **more)
    said = str(caught.value)
    assert "\n" not in said and "Traceback" not in said
    return said


def flags(*argv):
    parser = argparse.ArgumentParser()
    _hub.add_flags(parser)
    return parser.parse_args([str(argument) for argument in argv])


def test_all_splits_are_files_that_the_readers_take(dataset):
    fetched = hub.fetch(str(dataset))
    assert [file.name for file in fetched.files] == ["test-00000-of-00001.parquet", "train-00000-of-00001.parquet"]
    read = pl.concat(sources.read(file) for file in fetched.files)
    assert read.height == 45 and set(read["pair_id"]) == {row["id"] for s, n in (("train", 40), ("test", 5))
                                                          for row in rows(n, s)}  # fmt: skip
    assert fetched.facts == {"repo": str(dataset), "revision": None, "config": "default",
                             "splits": {"train": 40, "test": 5}}  # fmt: skip
    assert fetched.files[0].parent.parent.parent == Path(hub.cache_root())


def test_one_split_in_shards_is_fetched_once_and_anew_where_the_data_changed(dataset, monkeypatch):
    monkeypatch.setattr(hub, "SHARD_BYTES", 300)
    first = hub.fetch(str(dataset), split="train")
    assert len(first.files) > 2 and first.facts["splits"] == {"train": 40}
    assert pl.concat(map(pl.read_parquet, first.files)).to_dicts() == rows(40, "train")  # all of them, in order
    stamps = [file.stat().st_mtime_ns for file in first.files]
    assert hub.fetch(str(dataset), split="train") == first
    assert [file.stat().st_mtime_ns for file in first.files] == stamps
    with open(dataset / "train.jsonl", "a") as file:
        file.write(json.dumps(rows(1, "more")[0]) + "\n")
    assert hub.fetch(str(dataset), split="train").facts["splits"] == {"train": 41}
    assert all(file.exists() for file in first.files)  # what was made of them can still be traced


def test_the_lineage_goes_back_to_the_dataset(dataset, tmp_path):
    fetched = hub.fetch(str(dataset), split="test")
    (tmp_path / "out.txt").write_text("made of it")
    lineage.write(tmp_path / "out.txt", "ingest", fetched.files, {}, {})
    found = ancestry.trace(tmp_path / "out.txt", check=True).inputs[0]
    assert (found.command, found.settings["repo"], found.settings["split"]) == ("hub", str(dataset), "test")
    assert found.counts == {"written": {"test": 5}} and found.versions["datasets"] == datasets.__version__
    assert not found.state


def test_a_commit_is_recorded_whatever_the_branch_is_called():
    class Builder:
        hash, base_path = "0" * 64, f"hf://datasets/o/n@{'c' * 40}/"

    assert hub._commit(Builder, "main") == "c" * 40
    assert hub._commit(Builder, "d" * 40) == "d" * 40
    Builder.base_path = "/somewhere"
    assert hub._commit(Builder, "main") is None


def test_the_flags(dataset):
    assert _hub.resolve(flags()) == ([], {})
    files, facts = _hub.resolve(flags("--hub", dataset, "--hub-split", "test"))
    assert len(files) == 1 and facts["hub"]["splits"] == {"test": 5}
    for argv, said in (
        (["--hub-split", "train"], "--hub-split: says which part of --hub"),
        (["--hub", "owner/name@"], "should stand behind the @"),
        (["--hub", "name"], "is neither OWNER/NAME[@REVISION] nor a folder"),
        (["--hub", "json"], "is neither"),
        (["--hub", "../a/b"], "is neither"),
        (["--hub", "owner/name@v1"], "owner/name: the hub cannot be reached"),
    ):
        with pytest.raises(UserError, match=said.replace("[", r"\[")):
            _hub.resolve(flags(*argv))


def test_what_cannot_be_given_is_one_line(dataset, tmp_path, monkeypatch):
    assert fails("owner/name") == (
        "owner/name: the hub cannot be reached, and the dataset is in no cache of this machine; try again online"
    )
    assert "train" in (said := fails(dataset, split="dev")) and said.endswith("name one with --hub-split")
    assert fails(dataset, revision="v1").endswith("a folder has no revisions; leave out @v1")
    assert fails(dataset, config="other").endswith("name one with --hub-config")
    (tmp_path / "empty").mkdir()
    assert "holds no files of data" in fails(tmp_path / "empty")
    (tmp_path / "owner" / "name").mkdir(parents=True)
    assert "is a folder here, too" in fails("owner/name")
    (dataset / "train.jsonl").write_text("{broken\n")
    assert "cannot be fetched (" in fails(dataset, split="train")
    assert not list(tmp_path.glob("cache/**/*.parquet"))


def test_a_script_is_not_run(tmp_path):
    folder = tmp_path / "scripted"
    folder.mkdir()
    (folder / "scripted.py").write_text("open('ran', 'w')\nraise SystemExit\n")
    assert "script of its own, which is never run" in fails(folder)
    assert not Path("ran").exists()


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (datasets.exceptions.DatasetNotFoundError("Dataset 'o/n' is a gated dataset on the Hub."), "is gated: ask for"),
        (datasets.exceptions.DatasetNotFoundError("Dataset 'o/n' doesn't exist on the Hub or"), "does not know it"),
        (datasets.exceptions.DatasetNotFoundError("Revision 'v9' doesn't exist for dataset"), "another one"),
        (ConnectionError("Couldn't reach 'o/n' on the Hub (ConnectTimeout)"), "cannot be reached"),
        (OSError(28, "No space left on device"), "no room left in the cache"),
        (RuntimeError("new\nsort\x1bof"), "cannot be fetched (RuntimeError: new sort"),
    ],
)
def test_what_the_library_says_is_told_in_one_line(error, said, monkeypatch):
    """Errors that need a hub to arise, as the library words them."""

    def load_dataset_builder(*_, **__):
        raise error

    monkeypatch.setattr(datasets, "load_dataset_builder", load_dataset_builder)
    assert said in fails("o/n")


def test_without_the_library():
    script = "import sys; sys.modules['datasets'] = None\nfrom data_tools import hub\n"
    script += "try: hub.fetch('o/n')\nexcept hub.UserError as error: print(error)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "--hub needs datasets; install it with: pip install 'genrm-lightning[data]'\n"


def test_a_fetch_that_is_killed_leaves_nothing_half_written(dataset, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(hub, "_write", killed)
    with pytest.raises(KeyboardInterrupt):
        hub.fetch(str(dataset))
    assert not any((hub.cache_root() / "hub").iterdir())
