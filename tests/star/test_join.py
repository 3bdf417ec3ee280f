"""Processes that help a run: the tables are those of a run that nobody helped."""

import signal

from data_tools.artifact import write_json
from genrm_lightning.__main__ import main
from genrm_lightning.claims import Claims
from genrm_lightning.star import joining
from genrm_lightning.star.sharing import ASKED, OWNER, SHARED, under_way
from tests.tiny_star import leftovers, side_by_side, star_config, tables, write_yaml


def config(folder, name, backbone):
    # Many shards, so that there is something to share.
    settings = star_config(folder / name, backbone, shard_size=2)
    return write_yaml(folder / f"{name}.yaml", settings)


def drawn(trace):
    return [line.split()[-1] for line in trace.read_text().splitlines() if " draws " in line]


def test_helpers_come_and_die_and_the_tables_stay(tmp_path, tiny_llama):
    run, alone = tmp_path / "run", tmp_path / "alone"
    star = ["star", "--config", config(tmp_path, "run", tiny_llama)]
    join = ["join", "--run", run]
    trace = [tmp_path / f"trace-{i}" for i in range(3)]
    began = f"{run}/{SHARED}/run"
    dies = tmp_path / "dies"
    told = side_by_side(
        tmp_path,
        {"argv": star, "trace": str(trace[0]), "fit": "here"},
        {"argv": join, "trace": str(trace[1])},
        # Stops with a shard that is drawn and not named, and dies when the run waits for nothing else.
        {"argv": join, "trace": str(trace[2]), "start": began, "mark": f"{run}/*/shard-*",
         "kill": [signal.SIGKILL, f"{run}/zero-shot/id/shard-0000[45].parquet", 1.0]},
        {"argv": star, "start": began},
        {"argv": ["star", "--config", config(tmp_path, "alone", tiny_llama)], "fit": "here"},
        # A run that dies, when a helper has drawn for it, is waited for no longer than was said.
        {"argv": ["star", "--config", config(tmp_path, "dies", tiny_llama)], "mark": f"{dies}/*/shard-00002.parquet",
         "kill": [signal.SIGKILL, f"{dies}/zero-shot/id/shard-00004.parquet", 0]},
        {"argv": ["join", "--run", dies, "--wait", "5"], "start": f"{dies}/{SHARED}/run"},
    )  # fmt: skip
    assert [job["status"] for job in told] == [0, 0, -signal.SIGKILL, 2, 0, -signal.SIGKILL, 2], told
    assert told[6]["said"].splitlines()[-1] == (
        f"error: {dies}: the process of the run has died; start it again, then join again"
    )
    assert told[3]["said"].startswith(f"error: {run}: another command is at work in this folder")
    ours, theirs = tables(run), tables(alone)
    assert ours.keys() == theirs.keys() and all(ours[name].equals(theirs[name]) for name in ours)
    assert leftovers(run) == [] and not (run / SHARED).exists()
    n = len(drawn(trace[1]))
    assert n and told[1]["said"].splitlines()[-1] == f"{run}: the run has ended; {n} shards were drawn here"
    folders = {path.rpartition("/")[0].removeprefix(f"{run}/") for path in drawn(trace[1])}
    assert folders <= {"zero-shot/id", "zero-shot/ood", "iteration-1/sample", "iteration-1/evaluate/id",
                       "iteration-1/evaluate/ood"}  # fmt: skip
    assert len(drawn(trace[2])) == 1, "it stopped at its first"
    twice = [path for path in set(drawn(trace[0]) + drawn(trace[1])) if path in drawn(trace[2])]
    assert len(drawn(trace[0]) + drawn(trace[1])) == len({*drawn(trace[0]), *drawn(trace[1])}) and len(twice) == 1


def test_no_run_to_join(tmp_path, capfd):
    assert main(["join", "--run", str(tmp_path / "none"), "--wait", "0"]) == 2
    assert capfd.readouterr().err == (
        f"error: {tmp_path / 'none'}: no run is under way there; begin it with: star --run {tmp_path / 'none'}\n"
    )
    assert not (tmp_path / "none").exists()


def test_what_is_asked_again_is_drawn_again(tmp_path, monkeypatch):
    """By a run that was killed and started anew while this helper drew a shard."""
    asked = tmp_path / SHARED / ASKED
    steps = []

    def helps(run, ask, claims):
        steps.append("drawn")
        if len(steps) == 1:
            asked.unlink()
        return 1

    with under_way(tmp_path):
        write_json(asked, {"label": "a"})

        def wait(self):
            steps.append("waited")
            if asked.exists():  # all of it is drawn
                (tmp_path / SHARED / OWNER).unlink()
            else:
                write_json(asked, {"label": "a"})

        monkeypatch.setattr(joining, "_help", helps)
        monkeypatch.setattr(Claims, "wait", wait)
        assert joining.join(tmp_path, 0) == 2
    assert steps == ["drawn", "waited", "drawn", "waited"]


def test_nothing_is_asked_for_before_the_run_asks(tmp_path):
    write_json(tmp_path / SHARED / ASKED, {"label": "of a killed one"})
    with under_way(tmp_path):
        assert not (tmp_path / SHARED / ASKED).exists()
