"""Rationales from elsewhere: failed prompts with the answer told, a file of them, another judge."""

import json
import shutil
from pathlib import Path

import polars as pl
import pytest
from transformers import AutoTokenizer

from data_tools import told, verifiable
from data_tools.artifact import write_table
from data_tools.order import chosen_is_a
from data_tools.schema import JUDGMENT, conform
from genrm_lightning.__main__ import main
from genrm_lightning.samplers.base import SamplingSettings
from genrm_lightning.star import stages
from genrm_lightning.star.rationales import Rationales
from genrm_lightning.star.settings import StarSettings
from genrm_lightning.star.stage import Artifact
from tests.star.common import fit_here, refused, star  # noqa: F401
from tests.tiny_star import leftovers, scalars, star_fit, tables

LONG = {"n_samples": 1, "rationale_tokens": 150}  # letters are tokens to the tiny Llama
BRIEF = {"n_samples": 2, "rationale_tokens": 6}
PAIRS = verifiable.build(16, 0, 6)["train"]["pair_id"].to_list()  # those of star_config
PLACE = ["pair_id", "swapped"]


def test_failed_prompts_are_rationalized(tmp_path, capfd, tiny_llama):
    _, summary = star(capfd, tmp_path, tiny_llama, rationalize_failed=True, sampling=BRIEF)
    found = tables(tmp_path / "run")
    own, hinted = (found[f"iteration-1/{name}/judgments.parquet"] for name in ("sample", "rationalize"))
    lost = told.failed(own)
    assert 0 < lost.height < own.select(PLACE).n_unique()
    assert hinted.select(PLACE).unique().sort(PLACE).equals(lost), "the failed prompts, and no other"
    examples = found["iteration-1/select/examples.parquet"]
    theirs = examples.join(lost, on=PLACE, how="semi")
    row = summary["rows"][1]
    assert (row["failed"], row["rationalized"]) == (lost.height, theirs.height) and theirs.height > 0
    assert theirs.join(hinted, left_on=[*PLACE, "completion_ids"], right_on=[*PLACE, "token_ids"]).height == len(theirs)
    # Against the judge's own mistake.
    assert theirs.join(own, left_on=[*PLACE, "rejected_ids"], right_on=[*PLACE, "token_ids"]).height == len(theirs)
    assert row["sampled"] == own.height + hinted.height
    shown = scalars(tmp_path / "run/tensorboard/star")
    assert shown["star/rationalized"] == [(1, theirs.height)]
    assert leftovers(tmp_path / "run") == []
    assert main(["star", "--config", str(tmp_path / "star.yaml")]) == 0
    assert "nothing to do" in capfd.readouterr().out


def test_where_no_prompt_failed_no_model_is_loaded(tmp_path):
    nothing = verifiable.build(4, 0, 2)["train"].clear(), []
    drawn = stages.draw(
        StarSettings(),
        tmp_path / "s",
        {},
        lambda: nothing,
        "nowhere",
        "",
        SamplingSettings(),
        1,
        "rationalize",
        "right",
    )
    assert drawn.facts["sampled"] == 0 and pl.read_parquet(tmp_path / "s/judgments.parquet").schema == JUDGMENT


def lines(pairs, swapped=(False, True)):
    """A right and a wrong rationale a prompt."""
    for pair in pairs:
        for side in swapped:
            right = "A" if chosen_is_a(pair, side) else "B"
            for letter in "AB":
                kind = "right" if letter == right else "wrong"
                yield {"pair_id": pair, "swapped": side, "rationale": f"{kind}: <|im_end|>", "verdict": letter}


def write_lines(file, rows):
    file.write_text("\n".join(map(json.dumps, rows)))
    return {"file": str(file)}


@pytest.mark.parametrize("variant", ["star-dpo", "star-ipo-rationalizer"])
def test_the_first_iteration_on_rationales_of_a_file(tmp_path, capfd, tiny_llama, variant):
    rows = [*lines(PAIRS[:12]), *lines(["another"])]
    long = {**rows[0], "rationale": "far too long " * 40}
    given = write_lines(tmp_path / "r.jsonl", [*rows, long, {**rows[0], "verdict": "tie"}])
    config = {"variant": variant, "bootstrap": given, "sampling": {"n_samples": 2, "rationale_tokens": 24}}
    file = tmp_path / "star.yaml"
    _, summary = star(capfd, tmp_path, tiny_llama, **config)
    found = tables(tmp_path / "run")
    drawn = pl.concat([table for name, table in found.items() if "iteration-1/sample" in name])
    assert set(drawn["judge"]) == {"r.jsonl"} and drawn["token_ids"].null_count() == len(drawn)
    assert (drawn["n_tokens"] > 5).all(), "control tokens of a file are text"
    examples = found["iteration-1/select/examples.parquet"]
    part = drawn["pair_id"].n_unique()
    assert examples.height == 2 * part and examples["completion"].str.starts_with("right: <|im_end|>\n").all()
    assert examples["rejected_completion"].str.starts_with("wrong: <|im_end|>\n").all()
    assert (summary["rows"][1]["sampled"], summary["rows"][1]["given"]) == (0, len(drawn))
    facts = json.loads((tmp_path / "run/iteration-1/sample/manifest.json").read_text())["facts"]
    assert facts["taken"] == 4 * part and facts["pairs"] == part and facts["pairs"] + facts["pairs_without"] == 8
    assert facts["other_pairs"] == facts["rows"] - facts["taken"] - facts["too_long"] - 1
    assert (facts["invalid"], facts["rows"]) == (1, 54)

    assert main(["star", "--config", str(file), "--iterations", "2"]) == 0
    judges = {name for key, table in tables(tmp_path / "run").items() if "iteration-2/sample" in key
              for name in table["judge"]}  # fmt: skip
    assert judges == {"iteration-1/fit/judge"}, "the newest judge writes the others"
    row = json.loads((tmp_path / "run/summary.json").read_text())["rows"][2]
    assert row["sampled"] > 0 and "given" not in row
    capfd.readouterr()
    write_lines(tmp_path / "r.jsonl", rows[:-1])
    assert main(["star", "--config", str(file), "--iterations", "2"]) == 2
    assert "made with another 'file'" in capfd.readouterr().err


def test_what_a_file_leaves_out_is_said_before_anything_is_sampled(tmp_path, capsys, tiny_llama):
    given = write_lines(tmp_path / "r.jsonl", lines(["another"]))
    said = refused(capsys, tmp_path, tiny_llama, bootstrap=given)
    assert "0 of 4 rationales are taken" in said and "4 of other pairs" in said
    assert not (tmp_path / "run/zero-shot").exists() and not (tmp_path / "run/iteration-1/sample").exists()
    write_lines(tmp_path / "r.jsonl", [{"pair_id": "p"}])
    assert "r.jsonl: line 1: 'swapped' is missing" in refused(capsys, tmp_path, tiny_llama, bootstrap=given)
    given = {"file": str(tmp_path / "none.jsonl")}
    assert "none.jsonl: no such file" in refused(capsys, tmp_path, tiny_llama, bootstrap=given)


@pytest.mark.parametrize("tokens", ["the same", "others"])
def test_the_first_iteration_on_rationales_of_another_judge(tmp_path, capsys, tiny_llama, tokens):
    other = tmp_path / "other"
    shutil.copytree(tiny_llama, other)
    if tokens == "others":
        tokenizer = AutoTokenizer.from_pretrained(other)
        tokenizer.add_tokens(["zzz"])
        tokenizer.save_pretrained(other)
    star(
        capsys, tmp_path, tiny_llama, variant="star-sft", bootstrap={"judge": str(other)}, rationalize_failed=True,
        sampling=BRIEF | {"n_samples": 1}, data={"embedded": {"rows": 16, "test_rows": 2}},
    )  # fmt: skip
    found = tables(tmp_path / "run")
    for name in ("sample", "rationalize"):
        drawn = found[f"iteration-1/{name}/judgments.parquet"]
        # Random bytes take more tokens read again than drawn: of the few hinted ones all may go over the budget.
        assert set(drawn["judge"]) == {str(other)} or (name == "rationalize" and tokens == "others")
        assert drawn["token_ids"].null_count() == (0 if tokens == "the same" else len(drawn))
        assert drawn["n_tokens"].fill_null(0).max() in (None, *range(BRIEF["rationale_tokens"] + 1))
    facts = json.loads((tmp_path / "run/iteration-1/sample/manifest.json").read_text())["facts"]
    assert facts["sampled"] == 16 and facts.get("taken", 16) == len(found["iteration-1/sample/judgments.parquet"])
    assert ("taken" in facts) == (tokens == "others")


def test_what_was_sampled_and_what_was_given():
    given, hinted = Artifact(Path(), ""), Artifact(Path(), "", {"sampled": 5, "taken": 3})
    assert Rationales(given, None, hinted, from_file=True).counts(10) == {"sampled": 3, "given": 7}
    assert Rationales(given, given, from_file=True).counts(10) == {"sampled": 0, "given": 10}
    assert Rationales(given, None, hinted).counts(10) == {"sampled": 10}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"bootstrap": {}}, "bootstrap: name a file of rationales, a judge"),
        ({"bootstrap": {"file": "a", "judge": "b"}}, "one of the three"),
        ({"bootstrap": {"sampler": {"kind": "local"}}}, "bootstrap.sampler.kind: local samples a judge; name it in"),
        ({"bootstrap": {"judge": "nowhere"}}, "nowhere"),
        ({"bootstrap": {"judge": "x"}, "variant": "star-rationalizer-kl"}, "reads the judge's own rationales"),
        ({"rationalize_failed": True, "variant": "star-rationalizer"}, "is for star-sft and star-dpo, not for"),
        ({"variant": "star-sft", "pairing": "hardest"}, "pairing: hardest is for star-dpo and star-ipo-rationalizer"),
        ({"variant": "star-rationalizer-kl", "ranking": "random"}, "ranking: random changes nothing for star-rational"),
        ({"variant": "star-rationalizer-kl", "right": "verdict"}, "right: verdict changes nothing for star-rationaliz"),
        ({"variant": "star-sft", "filters": ["max_length_ratio"]}, "filters: 'max_length_ratio' compares the two"),
        ({"uncoupled": "keep", "fit": {"model": "x"}}, "'fit' section: 'model' is 'x'; it must be a mapping"),
        ({"objective": {"beta": 1.0}, "fit": {"model": {"init_args": 3}}}, "'model.init_args' is 3; it must be"),
    ],
)
def test_what_is_refused(tmp_path, capsys, tiny_llama, changes, said):
    assert said in refused(capsys, tmp_path, tiny_llama, **changes)
    assert not (tmp_path / "run").exists()


def test_a_judge_of_another_kind_writes_no_rationales(tmp_path, capsys, tiny_llama):
    other = tmp_path / "other"
    shutil.copytree(tiny_llama, other)
    for facts, said in (
        ({"objective": "BradleyTerry"}, "is a reward model (BradleyTerry)"),
        ({"objective": "STaRSFT", "judge_prompt": "mt_bench"}, "was trained with judge prompt 'mt_bench'"),
    ):
        (other / "genrm.json").write_text(json.dumps(facts))
        assert said in refused(capsys, tmp_path, tiny_llama, bootstrap={"judge": str(other)})


def test_a_parquet_of_ones_own_run_feeds_another(tmp_path, capsys, tiny_llama):
    """Judgments as they come out of ``sample``: their verdicts count, not their forced votes."""
    rows = pl.DataFrame(list(lines(PAIRS))).with_columns(vote=pl.lit("A"), token_ids=[1, 2], judge=pl.lit("large"))
    table = pl.DataFrame(rows.to_dicts(), schema_overrides={"token_ids": JUDGMENT["token_ids"]})
    write_table(conform(table, JUDGMENT), tmp_path / "r.parquet", JUDGMENT)
    star(
        capsys, tmp_path, tiny_llama, variant="star-sft", bootstrap={"file": str(tmp_path / "r.parquet")},
        sampling={"rationale_tokens": 24},
    )  # fmt: skip
    found = tables(tmp_path / "run")
    assert set(found["iteration-1/sample/judgments.parquet"]["judge"]) == {"large"}
    assert found["iteration-1/select/examples.parquet"]["completion"].str.starts_with("right").all()


def test_a_warm_start_on_reference_rationales(tmp_path, capfd, tiny_llama):
    config = {
        "variant": "star-sft",
        "warm_start": {"pairs": 4, "rationales": "reference", "fit": star_fit()},
        "sampling": LONG,
    }
    star(capfd, tmp_path, tiny_llama, **config, data={"embedded": {"rows": 20, "test_rows": 2}})
    found = tables(tmp_path / "run")
    warm, examples = (found[f"warm-start/{name}"] for name in ("sample/judgments.parquet", "select/examples.parquet"))
    assert set(warm["pair_id"]) == set(found["data/warm.parquet"]["pair_id"]) and set(warm["judge"]) == {"reference"}
    reference = verifiable.rationales(20, 0)
    assert warm.join(reference, on=[*PLACE, "rationale"], how="semi").height == len(warm) == 8
    for row in examples.join(reference, on=PLACE).iter_rows(named=True):
        assert row["completion"].startswith(row["rationale"]) and f"[[{row['verdict']}]]" in row["completion"]
    assert len(examples) == 8


def test_a_warm_start_on_the_rationales_of_a_file(tmp_path, capfd, tiny_llama):
    given = write_lines(tmp_path / "r.jsonl", lines(PAIRS[:15]))["file"]
    config = {
        "variant": "star-sft",
        "warm_start": {"pairs": 6, "rationales": given, "fit": star_fit()},
        "sampling": LONG,
    }
    star(capfd, tmp_path, tiny_llama, **config)
    found = tables(tmp_path / "run")
    warm = found["warm-start/sample/judgments.parquet"]
    ids = set(found["data/warm.parquet"]["pair_id"])
    taken = len(ids & set(PAIRS[:15]))
    assert set(warm["pair_id"]) == ids & set(PAIRS[:15]) and len(warm) == 2 * taken
    assert warm["rationale"].str.starts_with("right: ").all(), "the label's verdict would stand behind a wrong one"
    facts = json.loads((tmp_path / "run/warm-start/sample/manifest.json").read_text())["facts"]
    assert (facts["taken"], facts["wrong"]) == (2 * taken, 2 * taken)
    write_lines(tmp_path / "r.jsonl", lines(PAIRS[:14]))
    assert main(["star", "--config", str(tmp_path / "star.yaml")]) == 2
    assert "made with another 'file'" in capfd.readouterr().err


def test_reference_rationales_come_with_the_embedded_data_alone(tmp_path, capsys, tiny_llama):
    warm = {"pairs": 4, "rationales": "reference", "fit": star_fit()}
    files = {name: str(tmp_path / "x.parquet") for name in ("train", "test", "ood")}
    said = refused(capsys, tmp_path, tiny_llama, warm_start=warm, data=files)
    assert "warm_start.rationales: reference ones come with the embedded data alone" in said
    said = refused(capsys, tmp_path, tiny_llama, warm_start=warm | {"rationales": str(tmp_path / "none.jsonl")})
    assert "none.jsonl: no such file" in said
