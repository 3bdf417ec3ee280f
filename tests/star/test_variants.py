"""Every variant from either start: fresh parts, the newest judge samples, and each fit begins where it should."""

import polars as pl
import pytest

from data_tools.errors import UserError
from data_tools.judging import PROMPTS, Verdict, hint
from genrm_lightning.backbone import judge_info
from genrm_lightning.star.settings import StarSettings
from genrm_lightning.star.variants import VARIANTS
from tests.star.common import fit_here, star  # noqa: F401
from tests.tiny_star import scalars, star_fit, tables

TOLD = [hint("brief", letter) for letter in (Verdict.A, Verdict.B)]


# All of them in `make test-all`.
STARTS = [
    pytest.param(variant, start, marks=() if start == "previous" or variant == "star-dpo" else pytest.mark.slow)
    for variant in VARIANTS
    for start in ("previous", "base")
]


@pytest.mark.parametrize(("variant", "start"), STARTS)
def test_variant_and_start(tmp_path, capsys, tiny_llama, variant, start):
    chosen = VARIANTS[variant]
    fit = star_fit()
    if variant == "star-rationalizer-kl":
        fit["model"]["init_args"]["teacher"] = "current"
    _, summary = star(
        capsys, tmp_path, tiny_llama, "--iterations", 2, variant=variant, start=start, fit=fit, parts=3,
        data={"embedded": {"rows": 18, "test_rows": 2}}, evaluation={"n_samples": 1, "rationale_tokens": 2},
    )  # fmt: skip
    run = tmp_path / "run"
    found = tables(run)
    judges = [str(tiny_llama), "iteration-1/fit/judge"]
    asked = []
    for iteration, sampler in zip((1, 2), judges, strict=True):
        folder = f"iteration-{iteration}"
        judge = judge_info(run / folder / "fit/judge")
        assert f"genrm_lightning.objectives.{judge['objective']}" == chosen.fit
        begun = judge["backbone"]["name"]
        assert begun == (str(run / sampler) if start == "previous" and iteration == 2 else str(tiny_llama))
        drawn = [table for name, table in found.items() if f"{folder}/sample" in name]
        assert len(drawn) == max(1, len(chosen.told))
        assert {name for table in drawn for name in table["judge"]} == {sampler}, "the newest judge samples"
        asked.append({pair for table in drawn for pair in table["pair_id"]})
        examples = found[f"{folder}/select/examples.parquet"]
        assert examples["rejected_completion"].is_null().all() == (chosen.objective != "dpo")
        shown = [turn["content"] for prompt in examples["prompt"] for turn in prompt]
        assert not any(told in text for told in TOLD for text in shown)
        assert all(PROMPTS["brief"].question in prompt[-1]["content"] for prompt in examples["prompt"])
        assert (run / folder / "score").exists() == (chosen.objective == "dpo")
        assert summary["rows"][iteration]["kept"] == examples.height > 0
    assert not asked[0] & asked[1] and len(asked[0]) == len(asked[1]) == 6, "a fresh third each"


def test_without_fresh_parts_there_may_be_more_iterations_than_parts():
    assert StarSettings(fresh=False, iterations=4, parts=3).iterations == 4
    with pytest.raises(UserError, match="each iteration needs a fresh part"):
        StarSettings(iterations=4, parts=3)


def test_what_the_ipo_rationalizer_is_trained_on(tmp_path, capsys, tiny_llama):
    """Chosen: drawn with the right answer told; rejected: with the wrong one. The loss starts at (1/(2β))²."""
    _, summary = star(capsys, tmp_path, tiny_llama, variant="star-ipo-rationalizer")
    found = tables(tmp_path / "run")
    right = found["iteration-1/sample/judgments.parquet"]
    wrong = found["iteration-1/sample-told-wrong/judgments.parquet"]
    assert right.select("pair_id", "swapped").equals(wrong.select("pair_id", "swapped"))
    assert not right["rationale"].equals(wrong["rationale"])
    examples = found["iteration-1/select/examples.parquet"]
    assert 0 < examples.height == summary["rows"][1]["couples"]
    for side, drawn in (("completion_ids", right), ("rejected_ids", wrong)):
        kept = examples.select("pair_id", "swapped", token_ids=side)
        assert kept.join(drawn, on=["pair_id", "swapped", "token_ids"], how="semi").height == kept.height
    letters = examples.select(
        pl.col("completion").str.slice(-3, 1).alias("chosen"), pl.col("rejected_completion").str.slice(-3, 1)
    )
    assert (letters["chosen"] != letters["rejected_completion"]).all()
    assert summary["rows"][1]["sampled"] == right.height + wrong.height
    losses = scalars(tmp_path / "run/tensorboard/iteration-1")["train/loss"]
    assert losses[0][1] == pytest.approx((1 / 0.8) ** 2, abs=1e-2)
