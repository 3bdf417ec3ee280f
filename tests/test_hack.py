"""The command hack: every kind of judge, a killed run that goes on, what is refused."""

from __future__ import annotations

import polars as pl
import pytest

from data_tools.artifact import read_json, read_table, write_table
from data_tools.attacks import attacked
from data_tools.schema import PREFERENCE
from genrm_lightning import hack_command
from genrm_lightning.__main__ import main
from genrm_lightning.evaluation.folder import read_evaluation, read_set
from tests.tiny import preferences


@pytest.fixture
def pairs(tmp_path):
    write_table(preferences(3), tmp_path / "pairs.parquet", PREFERENCE)
    return tmp_path / "pairs.parquet"


def hack(*argv):
    return main(["hack", *map(str, argv), "--dtype", "float32"])


def refused(capfd, *argv):
    assert hack(*argv) == 2
    said = capfd.readouterr().err
    assert said.startswith("error: ") and said.count("\n") == 1, said
    return said


@pytest.mark.parametrize(("objective", "kind"), [("BradleyTerry", "reward"), ("PairRM", "reward"), ("GenRM", "direct")])
def test_judges_without_rationales(tmp_path, capsys, judges, pairs, objective, kind):
    out = tmp_path / "out"
    argv = ["--judge", judges / objective, "--data", pairs, "--out", out, "--attacks", "empty,chatml_turn", "--rows", 2]
    assert hack(*argv) == 0
    said = capsys.readouterr().out
    names = ["empty", "chatml_turn", "neutral_end", "neutral_instead"]
    assert all(name in said for name in names)
    evaluation, scores = read_evaluation(out), read_json(out / "scores.json")
    assert (evaluation["kind"], [one["name"] for one in evaluation["sets"]]) == (kind, ["pairs"])
    found = scores["hacking"]
    assert sorted(row["name"] for row in found["attacks"]) == sorted(names) and found["n_pairs"] == 2
    assert found["clean"]["win_rate"] == pytest.approx(1 - scores["sets"]["pairs"]["accuracy"])
    clean, before = read_set(out, "pairs")
    assert len(clean) == 2
    for row in found["attacks"]:
        rows, under = read_set(out, row["name"])
        assert rows.equals(attacked(clean, row["name"]))
        assert under.judgments.select("pair_id", "swapped").equals(before.judgments.select("pair_id", "swapped"))
        assert not under.judgments["p_a"].equals(before.judgments["p_a"])
        if kind == "reward":  # the better response is as it was: of Bradley-Terry its score, too
            moved = (under.rewards["chosen_reward"] - before.rewards["chosen_reward"]).abs().max()
            assert (moved < 1e-4) == (objective == "BradleyTerry"), moved
    assert {row["name"]: row["control"] for row in found["attacks"]}["empty"] == "neutral_instead"


def test_a_judge_that_reasons(tmp_path, tiny_llama, pairs):
    out = tmp_path / "out"
    argv = ["--judge", tiny_llama, "--data", pairs, "--out", out, "--attacks", "symbol", "--controls", "false"]
    sampling = ["--sampling.n_samples", 2, "--sampling.rationale_tokens", 4, "--rows", 2, "--judge_prompt", "brief"]
    assert hack(*argv, *sampling) == 0
    (row,) = read_json(out / "scores.json")["hacking"]["attacks"]
    assert row["name"] == "symbol" and 0 <= row["lost_to_nothing"] <= 1 and row["control_diff"] is None
    before, under = (read_set(out, name)[1].judgments for name in ("pairs", "symbol"))
    assert len(under) == 2 * 2 * 2
    # Ids are those of the clean pairs, and so are the random numbers.
    assert under["seed"].equals(before["seed"])


def test_a_killed_run_goes_on_and_a_second_one_with_more_attacks_adds_them(tmp_path, monkeypatch, judges, pairs):
    out = tmp_path / "out"
    argv = ["--judge", judges / "BradleyTerry", "--data", pairs, "--out", out, "--attacks"]
    whole, seen = hack_command.judged_here, []

    def stopped(arguments, judge, rows, folder, where):
        seen.append(folder.name)
        if len(seen) == 3:
            raise KeyboardInterrupt
        return whole(arguments, judge, rows, folder, where)

    monkeypatch.setattr(hack_command, "judged_here", stopped)
    assert hack(*argv, "nothing") == 130
    assert seen == ["pairs", "empty", "symbol"] and not (out / "scores.json").exists()
    monkeypatch.setattr(hack_command, "judged_here", whole)
    stamp = (out / "sets/empty/judgments.parquet").stat().st_mtime_ns
    assert hack(*argv, "nothing") == 0
    assert len(read_json(out / "scores.json")["hacking"]["attacks"]) == 3
    assert hack(*argv, "nothing,flattery") == 0
    assert len(read_json(out / "scores.json")["hacking"]["attacks"]) == 5
    assert (out / "sets/empty/judgments.parquet").stat().st_mtime_ns == stamp


def test_what_is_refused(tmp_path, capfd, judges, pairs):
    out = tmp_path / "out"
    argv = ["--judge", judges / "GenRM", "--data", pairs, "--out", out]
    assert "attack 'flatery' is unknown; there are: thought_process_alone" in refused(
        capfd, *argv, "--attacks", "empty,flatery"
    )
    assert "no attack is named" in refused(capfd, *argv, "--attacks", ",")
    assert "--rows: 0 is not above 0" in refused(capfd, *argv, "--rows", 0)
    none = tmp_path / "none.parquet"
    write_table(preferences(0), none, PREFERENCE)
    assert "none.parquet: no rows" in refused(capfd, "--judge", judges / "GenRM", "--data", none, "--out", out)
    scores = tmp_path / "scores.csv"
    pl.DataFrame({"pair_id": ["a"], "chosen_reward": [1.0], "rejected_reward": [0.0]}).write_csv(scores)
    assert "which has none of attacked responses" in refused(capfd, "--judge", scores, "--data", pairs, "--out", out)
    named = tmp_path / "empty.parquet"
    write_table(read_table(pairs, PREFERENCE), named, PREFERENCE)
    said = refused(capfd, "--judge", judges / "GenRM", "--data", named, "--out", out, "--attacks", "nothing")
    assert "the set would be called 'empty', as one of the attacks" in said
    assert not out.exists()
    assert (
        main(["evaluate", *map(str, argv[:2]), "--data", str(none.with_name("pairs.parquet")), "--out", str(out)]) == 0
    )
    capfd.readouterr()
    (out / "evaluation.json").write_text((out / "evaluation.json").read_text().replace('"pairs"', '"other"'))
    assert "holds an evaluation of other sets" in refused(capfd, *argv)
