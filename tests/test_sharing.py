"""sample and evaluate shared by several processes: the table is that of one, whoever dies on the way."""

import collections
import json
import signal
from pathlib import Path

import polars as pl
import pytest

from data_tools.__main__ import main as data_tools
from data_tools.artifact import read_json
from data_tools.schema import JUDGMENT
from genrm_lightning.__main__ import main
from genrm_lightning.locking import only_one
from tests.tiny_star import side_by_side

DRAW = ["--sampling.rationale_tokens", "6", "--dtype", "float32", "--judge_prompt", "brief", "--shard_size", "3"]
SHARDS = 8  # of 12 pairs, both orders
TIMES = {"seconds_per_verdict": None}  # in numbers that are otherwise equal


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pairs")
    data_tools(["verifiable", "--rows", "12", "--test-rows", "4", "--out", str(folder)])
    return folder / "train.parquet"


@pytest.fixture(scope="module")
def sample(tiny_llama, pairs):
    def argv(out, *flags, command="sample"):
        flag = "--data" if command == "evaluate" else "--pairs"
        given = ["--judge", str(tiny_llama), flag, str(pairs), "--out", str(out)]
        return [command, *given, *DRAW, *map(str, flags)]

    return argv


@pytest.fixture(scope="module")
def whole(tmp_path_factory, sample):
    """The table of one process."""
    folder = tmp_path_factory.mktemp("whole")
    assert main(sample(folder)) == 0
    return table(folder)


def table(folder: Path) -> pl.DataFrame:
    """Of a folder that holds nothing else but what says how it was made."""
    names = {path.name for path in folder.iterdir()}
    assert names - {"pairs.parquet"} == {"judgments.parquet", "manifest.json"}
    return pl.read_parquet(folder / "judgments.parquet", schema=JUDGMENT)


def same(one: pl.DataFrame, other: pl.DataFrame) -> bool:
    """To the last bit of every number."""
    return one.equals(other) and one.write_ipc(None).getvalue() == other.write_ipc(None).getvalue()


def test_parts_by_number_and_by_rank(tmp_path, capfd, monkeypatch, sample, whole):
    out = tmp_path / "out"
    assert main(sample(out, "--shard", "2/3")) == 0
    said = capfd.readouterr()
    assert said.out == (
        f"{out}: part 2/3 is drawn, still missing: shard-00000.parquet, shard-00002.parquet, shard-00003.parquet and "
        "2 more\n"
    )
    assert [path.name for path in sorted(out.glob("shard-*"))] == [f"shard-0000{i}.parquet" for i in (1, 4, 7)]
    # Other settings cannot mix with it, whichever way they come.
    for flags in (["--shard", "1/3", "--seed", 1], ["--share", "true", "--told", "right"], ["--seed", 1]):
        assert main(sample(out, *flags)) == 2
        assert "begun with another '" in capfd.readouterr().err
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "3")
    assert main(sample(out)) == 0
    assert "part 1/3 is drawn, still missing: shard-00002.parquet, shard-00005.parquet\n" in capfd.readouterr().out
    monkeypatch.setenv("RANK", "2")
    assert main(sample(out)) == 0
    assert f"{len(whole)} judgments: {out / 'judgments.parquet'}\n" in capfd.readouterr().out
    assert same(table(out), whole)
    monkeypatch.setenv("RANK", "1")  # a straggler finds it done
    assert main(sample(out)) == 0
    assert "judgments: " in capfd.readouterr().out


def test_a_part_that_died_is_drawn_by_the_same_command(tmp_path, capfd, sample, whole):
    out = tmp_path / "out"
    assert main(sample(out, "--shard", "1/2")) == 0
    assert main(sample(out, "--shard", "2/2")) == 0
    assert same(table(out), whole)
    # One shard of it lost, one damaged, no table: as after a power cut.
    again = tmp_path / "again"
    assert main(sample(again, "--shard", "1/2")) == 0
    (again / "shard-00004.parquet").unlink()
    (again / "shard-00002.parquet").write_bytes(b"PAR1")
    capfd.readouterr()
    assert main(sample(again, "--shard", "2/2")) == 0
    assert "still missing: shard-00004.parquet\n" in capfd.readouterr().out
    assert main(sample(again, "--shard", "1/2")) == 0
    said = capfd.readouterr()
    assert f"{again / 'shard-00002.parquet'}: the file is damaged; the shard is drawn again\n" in said.err
    assert same(table(again), whole)


def test_sampling_that_stops_early_is_shared_alike(tmp_path, capfd, sample):
    early = ["--rows", 6, "--shard_size", 4, "--sampling.n_samples", 8]
    early += ["--stopping.first", 2, "--stopping.alpha", 0.1, "--stopping.votes", "hard"]
    for name, *flags in (("alone",), ("out", "--shard", "1/2")):
        assert main(sample(tmp_path / name, *early, *flags)) == 0
    assert main(sample(tmp_path / "out", *early, "--stopping.alpha", 0.2, "--shard", "2/2")) == 2
    assert "begun with another 'stopping'" in capfd.readouterr().err
    assert main(sample(tmp_path / "out", *early, "--share", "true")) == 0
    whole = table(tmp_path / "alone")
    assert 6 * 2 * 2 < len(whole) < 6 * 2 * 8 and same(table(tmp_path / "out"), whole)


def test_evaluate_scores_when_all_parts_are_there(tmp_path, capfd, sample):
    alone, out = tmp_path / "alone", tmp_path / "out"
    assert main(sample(alone, "--rows", 4, command="evaluate")) == 0
    assert main(sample(out, "--rows", 4, "--shard", "2/2", command="evaluate")) == 0
    assert not (out / "scores.json").exists()
    assert main(sample(out, "--rows", 4, "--shard", "1/2", command="evaluate")) == 0
    assert same(table(out / "sets/train"), table(alone / "sets/train"))
    here, there = (read_json(folder / "scores.json")["sets"]["train"] for folder in (out, alone))
    assert {**here, **TIMES} == {**there, **TIMES} and here["seconds_per_verdict"] is None


def test_three_divide_the_shards_and_one_dies(tmp_path, sample, whole):
    """The first stops with its second shard drawn and unnamed, and is killed when the others need what it claims."""
    out = tmp_path / "out"
    argv = sample(out, "--share", "true")
    stopped = {"mark": f"{out}/shard-00001.parquet", "kill": [signal.SIGKILL, f"{out}/shard-00006.parquet", 0]}
    traces = [str(tmp_path / f"trace-{i}") for i in range(3)]
    others = [{"argv": argv, "start": f"{out}/shard-00000.parquet", "trace": trace} for trace in traces[1:]]
    told = side_by_side(tmp_path, {"argv": argv, "trace": traces[0], **stopped}, *others)
    assert [job["status"] for job in told] == [-signal.SIGKILL, 0, 0], told
    for job in told[1:]:
        assert f"{len(whole)} judgments: " in job["said"] and "Traceback" not in job["said"]
    assert same(table(out), whole)
    lines = [line for trace in traces for line in Path(trace).read_text().splitlines()]
    drawn = collections.Counter(Path(line.split()[-1]).stem for line in lines if " draws " in line)
    assert drawn == {f"shard-{i:05d}": 1 + (i == 1) for i in range(SHARDS)}


def test_one_alone_and_many_keep_apart(tmp_path, capfd, sample):
    with only_one(tmp_path / "out"):
        assert main(sample(tmp_path / "out", "--share", "true")) == 2
    with only_one(tmp_path / "out", shared=True):
        assert main(sample(tmp_path / "out")) == 2
        assert capfd.readouterr().err.count("another command is at work in this folder") == 2
        with only_one(tmp_path / "out", shared=True):
            pass


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--shard", "64"], "--shard: 64: is not i/n, this process' part of the shards, with i from 1 to n; how many "
         "judge prompts a shard holds is --shard_size"),
        (["--shard", "0/2"], "--shard: 0/2: is not i/n"),
        (["--shard", "1/2", "--share", "true"], "--share: divides the shards as they come; leave --shard out"),
    ],
)  # fmt: skip
def test_what_is_no_part(tmp_path, capfd, sample, flags, said):
    assert main(sample(tmp_path / "out", *flags)) == 2
    told = capfd.readouterr().err
    assert told.startswith(f"error: {said}") and told.count("\n") == 1 and not (tmp_path / "out").exists()


def test_a_refused_pair_leaves_no_trace(tmp_path, capfd, tiny_llama, sample):
    rows = [{"id": str(i), "prompt": "p", "chosen": "a " * 3000 * i + "b", "rejected": "c"} for i in range(2)]
    (tmp_path / "raw.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert data_tools(["ingest", str(tmp_path / "raw.jsonl"), "--out", str(tmp_path / "in"), "--validation", "0",
                       "--test", "0"]) == 0  # fmt: skip
    argv = ["sample", "--judge", str(tiny_llama), "--pairs", str(tmp_path / "in/train.parquet"), *DRAW]
    for flags in (["--share", "true"], ["--shard", "1/2"]):
        assert main([*argv, "--out", str(tmp_path / "out"), "--too_long", "error", *flags]) == 2
        assert "pair '1'" in capfd.readouterr().err and not (tmp_path / "out").exists()
