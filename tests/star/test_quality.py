"""The stage that asks again about rationales, and the early stop, in a run of seconds."""

import polars as pl
import pytest

from data_tools.order import chosen_is_a
from genrm_lightning.__main__ import main
from tests.star.test_loop import fit_here, stamps, star  # noqa: F401  (the fixture holds for this file too)
from tests.tiny_star import scalars, star_config, tables, write_yaml


def test_every_row_says_what_its_rationales_are_worth(tmp_path, capsys, tiny_llama):
    _, summary = star(capsys, tmp_path, tiny_llama, quality_pairs=3)
    run = tmp_path / "run"
    found = tables(run)
    assert found["iteration-1/quality/faithfulness.parquet"].height == 3 * 2
    zero, first = summary["rows"]
    # The reader is the model that the iterations start from.
    assert zero["drift_id"] == pytest.approx(0.0, abs=1e-6) and first["drift_id"] != 0.0
    judged = found["zero-shot/id.parquet"].filter(pl.col("sample_index") == 0)
    asked = found["zero-shot-quality/faithfulness.parquet"].join(judged, on=["pair_id", "swapped"], suffix="_then")
    assert asked["p_a"].to_list() == pytest.approx(asked["p_a_then"].to_list(), abs=2e-6)
    for row in (zero, first):
        assert row["position_bias_ood"] == row["share_a_ood"] - 0.5
        assert 0 <= row["copied_share_id"] <= 1 and 0 <= row["unchanged_without_id_low"] <= row["unchanged_without_id"]
    assert zero["kept_share"] is None and first["kept_share"] == first["kept"] / first["sampled"]
    assert {"star/drift_id", "star/self_overlap_id", "star/kept_share"} <= scalars(run / "tensorboard/star").keys()
    before = stamps(run)
    said, again = star(capsys, tmp_path, tiny_llama, quality_pairs=3)
    assert "nothing to do" in said and again == summary and stamps(run) == before


def data(validation: int | None) -> dict:
    return {"embedded": {"rows": 24, "test_rows": 6}, "validation_rows": validation}


def test_a_run_stops_at_a_judge_that_is_worse_beyond_doubt(tmp_path, capsys, tiny_llama):
    settings = {"data": data(10), "early_stop": "beyond_interval"}
    _, summary = star(capsys, tmp_path, tiny_llama, **settings)
    assert "stopped" not in summary  # a random judge has nothing to lose
    run = tmp_path / "run"
    # Not asked about rationales here; what their texts say costs no model.
    assert not list(run.rglob("*quality*")) and "drift_id" not in summary["rows"][1]
    assert "copied_share_id" in summary["rows"][1]
    found = tables(run)
    validation = found["data/validation.parquet"]
    prompts = {
        name: {row[0][0]["content"] for row in found[f"data/{name}.parquet"].select("prompt").iter_rows()}
        for name in ("train", "id", "validation")
    }
    assert validation.height == 10 and not prompts["validation"] & (prompts["train"] | prompts["id"])
    assert not set(validation["pair_id"]) & set(found["iteration-1/sample/judgments.parquet"]["pair_id"])
    # Had the backbone been right each time, the first iteration would be a step back.
    file = run / "zero-shot/validation.parquet"
    right = [
        chosen_is_a(*place) for place in found["zero-shot/validation.parquet"].select("pair_id", "swapped").iter_rows()
    ]
    found["zero-shot/validation.parquet"].with_columns(p_a=pl.Series(right, dtype=pl.Float32)).write_parquet(file)
    for _ in range(2):
        said, summary = star(capsys, tmp_path, tiny_llama, "--iterations", 2, **settings)
        stop = summary["stopped"]
        assert (stop["after"], stop["best"], stop["n_pairs"]) == ("iteration 1", "zero-shot", 10)
        assert stop["low"] < stop["diff"] < stop["high"] < 0
        assert "stopped after iteration 1: its accuracy on the 10 validation pairs is" in said
        assert "that of zero-shot 100.0 %" in said and said.rstrip().endswith(f"judge: {tiny_llama}")
        assert "nothing to do: the run has stopped" in said and not (run / "iteration-2").exists()
        assert [row["label"] for row in summary["rows"]] == ["zero-shot", "iteration 1"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"early_stop": "beyond_interval"},
            "early_stop: is decided on pairs kept back from training; say how many with",
        ),
        ({"data": data(0)}, "data.validation_rows: 0 is not above 0"),
        ({"data": data(500)}, "data.validation_rows: 500 pairs are more than the 24 there are"),
        ({"quality_pairs": -1}, "quality_pairs: -1 is below 0"),
    ],
)
def test_settings_that_cannot_be(tmp_path, capsys, tiny_llama, changes, said):
    file = write_yaml(tmp_path / "star.yaml", star_config(tmp_path / "run", tiny_llama, **changes))
    assert main(["star", "--config", str(file)]) == 2
    assert said in capsys.readouterr().err and not (tmp_path / "run").exists()
