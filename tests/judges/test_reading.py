"""What a judge says without a rationale, against what its objective says of the same pairs."""

import shutil

import polars as pl
import pytest
import torch
from safetensors.torch import load_file, save_file

from data_tools.artifact import read_table, write_table
from data_tools.errors import UserError
from data_tools.order import chosen_is_a
from data_tools.schema import JUDGMENT, PREFERENCE
from genrm_lightning import objectives
from genrm_lightning.__main__ import main
from genrm_lightning.backbone import BackboneSettings
from genrm_lightning.evaluation.scores import pair_scores, presentations
from genrm_lightning.judges import reading
from genrm_lightning.judges.reading import ReadingJudge
from genrm_lightning.prefix import collate
from tests.tiny import preferences

PAIRS = 5


def trained(kind, backbone, folder, **options):
    """An untrained judge of that objective, saved, and the objective itself."""
    torch.manual_seed(1)
    objective = kind(backbone=BackboneSettings(str(backbone), lora=None), **options)
    objective.configure_model()
    objective.save(folder)
    return objective


def read(kind, judge, pairs, folder, batch_tokens=4096, dtype=torch.float32):
    made = ReadingJudge(str(judge), kind, "brief", dtype=dtype, batch_tokens=batch_tokens, name="x", seed=3)
    return made.judge(pairs, folder, "test")


@pytest.mark.parametrize("kind", [objectives.BradleyTerry, objectives.PairRM, objectives.GenRM])
def test_p_a_is_what_the_objective_says(tmp_path, tiny_llama, kind):
    options = {"judge_prompt": "brief"} if kind is objectives.GenRM else {}
    objective = trained(kind, tiny_llama, tmp_path / "judge", **options)
    pairs = preferences(PAIRS)
    judged = read(kind, tmp_path / "judge", pairs, tmp_path)
    found = judged.judgments
    trees = list(objective.trees(pairs, objective.renderer))
    batch = collate(trees, objective.renderer.pad_id, tuple(objective.renderer.letter_ids.values()))
    with torch.no_grad():
        margins = objective.loss(batch, objective(batch))[1]["accuracy"].tolist()
    of_pair = {}
    for tree, margin in zip(trees, margins, strict=True):
        of_pair.setdefault(tree.pair_id, []).append(margin)
    for row in found.iter_rows(named=True):
        margin = of_pair[row["pair_id"]][row["swapped"] if len(of_pair[row["pair_id"]]) == 2 else 0]
        p_right = row["p_a"] if chosen_is_a(row["pair_id"], row["swapped"]) else 1 - row["p_a"]
        assert p_right == pytest.approx(1 / (1 + 2.718281828459045**-margin), abs=1e-5)
        assert row["verdict"] == row["vote"] == ("A" if row["p_a"] > 0.5 else "B")
    assert found.schema == JUDGMENT and found.height == 2 * PAIRS and set(found["seed"]) == {3}
    pairs_right = pair_scores(presentations(found))
    if kind is not objectives.GenRM:
        assert pairs_right["consistent"].all(), "scores know no order"
        differences = judged.rewards["chosen_reward"] - judged.rewards["rejected_reward"]
        right = dict(zip(judged.rewards["pair_id"], differences, strict=True))
        assert right == pytest.approx({pair_id: margins[0] for pair_id, margins in of_pair.items()}, abs=1e-5)
    else:
        assert judged.rewards is None


def test_batches_and_stored_tables_change_nothing(tmp_path, tiny_llama):
    trained(objectives.PairRM, tiny_llama, tmp_path / "judge")
    one, all_at_once = (
        read(objectives.PairRM, tmp_path / "judge", preferences(PAIRS), tmp_path / str(n), n).judgments
        for n in (1, 1 << 20)
    )
    assert (one["p_a"] - all_at_once["p_a"]).abs().max() < 1e-5
    one.write_parquet(tmp_path / "x.parquet")
    assert read_table(tmp_path / "x.parquet", JUDGMENT).equals(one)


def test_weights_in_bfloat16_say_about_the_same(tmp_path, tiny_llama):
    for kind in (objectives.BradleyTerry, objectives.GenRM):
        trained(kind, tiny_llama, tmp_path / kind.__name__)
        judge, pairs = tmp_path / kind.__name__, preferences(PAIRS)
        exact, rounded = (
            read(kind, judge, pairs, tmp_path / f"{kind.__name__}-{dtype}", dtype=dtype).judgments["p_a"]
            for dtype in (torch.float32, torch.bfloat16)
        )
        assert (exact - rounded).abs().max() < 0.1 and not exact.equals(rounded)


def test_what_does_not_fit_is_left_out(tmp_path, tiny_llama, capsys):
    trained(objectives.BradleyTerry, tiny_llama, tmp_path / "judge")
    pairs = preferences(3).with_columns(
        chosen=pl.when(pl.col("pair_id") == "pair-1").then(pl.lit("many words " * 900)).otherwise("chosen")
    )
    found = read(objectives.BradleyTerry, tmp_path / "judge", pairs, tmp_path)
    assert sorted(set(found.judgments["pair_id"])) == ["pair-0", "pair-2"] and found.dropped == {"pair-1"}
    assert "1 dropped" in capsys.readouterr().err


def test_chunks_that_were_read_are_not_read_again(tmp_path, tiny_llama, monkeypatch, capsys):
    trained(objectives.BradleyTerry, tiny_llama, tmp_path / "judge")
    monkeypatch.setattr(reading, "CHUNK", 2)
    pairs, folder = preferences(PAIRS), tmp_path / "out"
    whole = read(objectives.BradleyTerry, tmp_path / "judge", pairs, folder)
    shards = sorted(folder.glob("shard-*.parquet"))
    assert len(shards) == 3
    shards[1].write_bytes(shards[1].read_bytes()[:-20])  # as a crash of the machine may leave it
    times = [path.stat().st_mtime_ns for path in shards]
    again = read(objectives.BradleyTerry, tmp_path / "judge", pairs, folder)
    assert again.judgments.equals(whole.judgments) and again.rewards.equals(whole.rewards)
    changed = [path.stat().st_mtime_ns != before for path, before in zip(shards, times, strict=True)]
    assert changed == [False, True, False] and "damaged" in capsys.readouterr().err
    with pytest.raises(UserError, match="shard-00000.parquet: of other pairs"):
        read(objectives.BradleyTerry, tmp_path / "judge", preferences(PAIRS + 1).tail(PAIRS), folder)


@pytest.mark.parametrize("kind", ["BradleyTerry", "GenRM", "STaRSFT"])
def test_a_judge_that_says_no_number(tmp_path, capsys, judges, kind):
    """A weight that is none: one line, and no verdict is kept that a sound judge would have to be told from."""
    broken = tmp_path / "broken"
    shutil.copytree(judges / kind, broken)
    weights = load_file(broken / "model.safetensors")
    next(value for name, value in weights.items() if "norm" in name)[:] = torch.nan
    save_file(weights, broken / "model.safetensors", {"format": "pt"})
    write_table(preferences(3), tmp_path / "pairs.parquet", PREFERENCE)
    argv = ["evaluate", "--judge", broken, "--data", tmp_path / "pairs.parquet", "--out", tmp_path / "out"]
    assert main([*map(str, argv), "--dtype", "float32"]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ") and "NaN or infinite" in error and "take another checkpoint" in error
    assert not (tmp_path / "out").exists()
