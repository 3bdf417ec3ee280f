"""A comparison in one process, its fits too: all methods, resumed, with seeds, and what it says when one fails."""

import contextlib
import os
import signal
import subprocess
import sys

import polars as pl
import pytest

from data_tools.artifact import read_json, read_table, write_json
from data_tools.schema import JUDGMENT, PREFERENCE
from genrm_lightning import cli
from genrm_lightning.__main__ import main
from genrm_lightning.evaluation.scores import set_scores
from genrm_lightning.locking import only_one
from genrm_lightning.star import fitting
from tests.tiny_compare import METHODS, compare_config, write_config
from tests.tiny_star import ROOT, leftovers, scalars, star_fit, tables


def fit_here(config, folder):
    """``run_fit`` without the seconds of a new process."""
    with contextlib.redirect_stdout(sys.stderr):
        assert cli.main(["fit", "--config", str(config)]) == 0
    fitting.shutil.rmtree(folder / "checkpoints", ignore_errors=True)


@pytest.fixture(autouse=True)
def fits(monkeypatch):
    """The folders of the fits that a test has run, in this process."""
    done = []

    def run_fit(config, folder):
        done.append(folder)
        fit_here(config, folder)

    monkeypatch.setattr(fitting, "run_fit", run_fit)
    return done


def compare(capsys, file, *flags, status=0):
    """Run it; (stdout, stderr)."""
    found = main(["compare", "--config", str(file), *map(str, flags)])
    said = capsys.readouterr()
    assert found == status, said.err
    return said


def stamps(run):
    return {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def whole(tmp_path_factory, tiny_llama):
    """The folder of a comparison of all methods, and its config."""
    folder = tmp_path_factory.mktemp("compare")
    config = compare_config(folder / "out", tiny_llama, baselines=["bradley-terry", "zero-shot-cot"])
    file = write_config(folder / "compare.yaml", config)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fitting, "run_fit", fit_here)
        assert main(["compare", "--config", str(file)]) == 0
    return folder / "out", file


def test_every_method_of_the_paper_has_a_row(whole, capsys, fits):
    out, file = whole
    summary = read_json(out / "summary.json")
    rows = {row["method"]: row for row in summary["rows"]}
    assert list(rows) == list(METHODS) and summary["failed"] == summary["unequal"] == {}
    assert len(summary["differences"]) == 2 * 2 * (len(METHODS) - 1)
    for name, row in rows.items():
        assert 0 <= row["accuracy_id_low"] <= row["accuracy_id"] <= row["accuracy_id_high"] <= 1
        trained = METHODS[name]["kind"] != "zero-shot"
        assert (row["pairs"] > 0) == (row["steps"] > 0) == (row["trained_tokens"] > 0) == trained, name
        sampled = METHODS[name]["kind"] == "star"
        assert (row["samples"] > 0) == (row["sampled_tokens"] > 0) == sampled, name
        assert (row["free_accuracy_id"] is not None) == (name == "zero-shot-cot" or sampled)
    # The labels: the warm start's four pairs, and the first of two parts of the other twelve.
    assert {row["pairs"] for row in rows.values() if row["pairs"]} == {10}
    assert rows["bradley-terry"]["steps"] == 5 and rows["genrm"]["steps"] == 10, "batches of two trees, one epoch"
    assert rows["star-dpo"]["samples"] == 4 * 2 + 6 * 2 * 4
    shown = scalars(out / "tensorboard/star-dpo")
    assert shown["compare/accuracy_id"] == [(0, pytest.approx(rows["star-dpo"]["accuracy_id"]))]
    before = stamps(out)
    said = compare(capsys, file).out
    assert "nothing to do: 8 methods are complete" in said and stamps(out) == before and fits == []
    assert "Bradley-Terry" in said and (out / "results.md").read_text().count("| Bradley-Terry |") == 3
    assert leftovers(out) == []


def test_a_manifest_of_before_there_were_digests(whole, capsys, fits):
    """The method's stages know their files: they are looked at again, and nothing is done anew."""
    out, file = whole
    manifests = [out / f"seed-0/{name}/manifest.json" for name in ("zero-shot", "genrm", "star-dpo")]
    before = [read_json(manifest) for manifest in manifests]
    for manifest, said in zip(manifests, before, strict=True):
        key = {name: value for name, value in said["key"].items() if name != "backbone_digest"}
        assert key != said["key"]
        write_json(manifest, {**said, "key": key})
    compare(capsys, file)
    assert [read_json(manifest) for manifest in manifests] == before and fits == []
    assert "nothing to do" in compare(capsys, file).out


def test_the_tables_are_those_of_the_judgments(whole):
    """The numbers of each row are what evaluate would say of the judge."""
    out, _ = whole
    pairs = read_table(out / "data/ood.parquet", PREFERENCE)
    for row in read_json(out / "summary.json")["rows"]:
        folder = out / "seed-0" / row["method"]
        judged = read_json(folder / "manifest.json")["facts"]["judged"]
        judgments = read_table(folder / judged / "ood.parquet", JUDGMENT)
        scores = set_scores(judgments, pairs)
        assert row["accuracy_ood"] == scores.accuracy and row["accuracy_ood_low"] == scores.accuracy_low
        assert row["position_consistent_accuracy_ood"] == scores.position_consistent_accuracy
        for kind, found in scores.categories.items():
            assert row["categories_ood"][kind].items() >= found.items()


def test_what_star_runs_share_is_done_once(whole):
    out, _ = whole
    zero_shot, sft, dpo = (out / "seed-0" / name for name in ("zero-shot-cot", "star-sft", "star-dpo"))
    for name in ("zero-shot/id.parquet", "zero-shot/manifest.json"):
        assert os.path.samefile(zero_shot / name, dpo / name)
    for name in ("sample/judgments.parquet", "fit/judge/model.safetensors", "fit/spent.json", "evaluate/manifest.json"):
        assert os.path.samefile(sft / "warm-start" / name, dpo / "warm-start" / name)
    # And what comes after is each method's own.
    first, second = (pl.read_parquet(run / "iteration-1/select/examples.parquet") for run in (sft, dpo))
    assert first["rejected_completion"].is_null().all() and not second["rejected_completion"].is_null().all()


def test_an_interrupted_comparison_goes_on(tmp_path, capsys, tiny_llama, fits, monkeypatch):
    config = compare_config(tmp_path / "out", tiny_llama, ["zero-shot", "star-sft"])
    config["star"]["warm_start"] = None
    file = write_config(tmp_path / "compare.yaml", config)
    replace = os.replace

    def stop(source, target):
        if str(target).endswith("star-sft/iteration-1/select/examples.parquet"):
            raise KeyboardInterrupt
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", stop)
        assert "the same command goes on from here" in compare(capsys, file, status=130).err
    out = tmp_path / "out"
    told = read_json(out / "summary.json")
    assert [row["method"] for row in told["rows"]] == ["zero-shot"] and told["missing"] == ["star-sft"]
    before = stamps(out)
    compare(capsys, file)
    assert [str(folder.relative_to(out)) for folder in fits] == ["seed-0/star-sft/iteration-1/fit"]
    changed = {path.relative_to(out) for path, stamp in before.items() if stamps(out).get(path) != stamp}
    assert {path.name for path in changed if "tensorboard" not in path.parts} <= {"summary.json", "results.md"}
    assert leftovers(out) == [] and read_json(out / "summary.json")["missing"] == []


@pytest.mark.slow
def test_killed_and_resumed_it_ends_like_one_that_was_not(tmp_path, tiny_llama):
    """SIGKILL in the middle of a star method, fits in processes of their own."""
    die = (
        "import os, signal, sys; replace = os.replace\n"
        "def at(source, target):\n"
        "    if str(target).endswith(sys.argv[1]): os.kill(os.getpid(), signal.SIGKILL)\n"
        "    replace(source, target)\n"
        "os.replace = at\n"
        "from genrm_lightning.__main__ import main; sys.exit(main(sys.argv[2:]))"
    )
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}", "OMP_NUM_THREADS": "1"}
    points = ("genrm/fit/manifest.json", "star-sft/iteration-1/sample/shard-00001.parquet", "star-sft/manifest.json")
    for name, stops in (("whole", ["never"]), ("killed", [*points, "never"])):
        config = compare_config(tmp_path / name, tiny_llama, ["genrm", "star-sft"])
        file = write_config(tmp_path / f"{name}.yaml", config)
        for stop in stops:
            command = [sys.executable, "-c", die, stop, "compare", "--config", str(file)]
            done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
            assert done.returncode == (0 if stop == "never" else -signal.SIGKILL), done.stderr
    whole, killed = (tables(tmp_path / name) for name in ("whole", "killed"))
    assert whole.keys() == killed.keys() and all(whole[name].equals(killed[name]) for name in whole)
    rows = [
        [
            {k: v for k, v in row.items() if "seconds" not in k}
            for row in read_json(tmp_path / name / "summary.json")["rows"]
        ]
        for name in ("whole", "killed")
    ]
    assert rows[0] == rows[1] and leftovers(tmp_path / "killed") == []


def test_seeds(tmp_path, capsys, tiny_llama):
    config = compare_config(tmp_path / "out", tiny_llama, ["zero-shot", "zero-shot-cot"], baselines=["zero-shot"])
    file = write_config(tmp_path / "compare.yaml", config)
    compare(capsys, file)
    out = tmp_path / "out"
    before = stamps(out / "seed-0")
    said = compare(capsys, file, "--seeds", 3).out
    assert "±" in said and stamps(out / "seed-0") == before, "raising it goes on"
    summary = read_json(out / "summary.json")
    rows = {row["method"]: row for row in summary["rows"]}
    assert {name: row["seeds"] for name, row in rows.items()} == {"zero-shot": 1, "zero-shot-cot": 3}
    assert rows["zero-shot"]["accuracy_id_sd"] is None
    drawn = [pl.read_parquet(out / f"seed-{i}/zero-shot-cot/zero-shot/id.parquet")["rationale"] for i in range(3)]
    assert len({tuple(texts) for texts in drawn}) == 3
    row = rows["zero-shot-cot"]
    assert row["accuracy_id_min"] <= row["accuracy_id"] <= row["accuracy_id_max"]


def test_a_method_that_fails_does_not_lose_the_others(tmp_path, capsys, tiny_llama):
    methods = {
        "star-sft": {"kind": "star", "variant": "star-sft", "filters": ["min_words:words=1000"]},
        "zero-shot": METHODS["zero-shot"],
    }
    config = compare_config(tmp_path / "out", tiny_llama, methods=methods)
    config["star"]["warm_start"] = None
    said = compare(capsys, write_config(tmp_path / "compare.yaml", config), status=2)
    assert said.err.splitlines()[-1].startswith("error: 1 failed: star-sft (")
    summary = read_json(tmp_path / "out/summary.json")
    assert [row["method"] for row in summary["rows"]] == ["zero-shot"] and list(summary["failed"]) == ["star-sft"]
    assert "FAILED: star-sft" in said.out and "min_words" in said.out


def test_only_equal_and_changed_settings(tmp_path, capsys, tiny_llama, fits):
    names = ["zero-shot", "genrm", "bradley-terry"]
    config = compare_config(tmp_path / "out", tiny_llama, names, equal=["pairs", "steps"])
    file = write_config(tmp_path / "compare.yaml", config)
    said = compare(capsys, file, "--only", "bradley-terry, zero-shot").out
    assert "Not run yet: genrm." in said and len(fits) == 1
    said = compare(capsys, file, "--only", "genrm", status=2)
    assert "Not run yet" not in said.out and len(fits) == 2, "what was done stays in the table"
    assert "NOT EQUAL: steps: genrm 10, bradley-terry 5." in said.out and "pairs" not in said.err.splitlines()[-1]
    assert said.err.splitlines()[-1] == "error: equal: the methods differ in steps; see the lines above"
    config["methods"]["genrm"] = {**METHODS["genrm"], "fit": {"trainer": {"max_epochs": 2}}}
    said = compare(capsys, write_config(tmp_path / "other.yaml", config), status=2)
    assert "seed-0/genrm/manifest.json: made with another 'fit'" in said.err and said.err.count("\n") == 1


def test_two_in_one_folder(tmp_path, capsys, tiny_llama):
    file = write_config(tmp_path / "compare.yaml", compare_config(tmp_path / "out", tiny_llama, ["zero-shot"]))
    with only_one(tmp_path / "out"):
        assert "another command is at work" in compare(capsys, file, status=2).err


@pytest.mark.parametrize(
    ("flags", "changes", "named"),
    [
        (["--only", "star-ppo"], {}, "only: 'star-ppo' is no method; there are: bradley-terry, "),
        (["--only", ","], {}, "only: no method named"),
        ([], {"baselines": ["bt"]}, "baselines: 'bt' is no method"),
        ([], {"methods": {"x": {"kind": "zero-shot", "label": 3}}}, "methods.x.label: 3 is no text"),
        ([], {"methods": {}}, "methods: none given"),
        ([], {"methods": {"../x": METHODS["genrm"]}}, "'../x' is no name"),
        ([], {"methods": {"x": {"kind": "vote"}}}, "methods.x.kind: 'vote' is unknown"),
        ([], {"methods": {"x": {"kind": "pairs", "objective": "STaRSFT"}}}, "methods.x.objective: 'STaRSFT'"),
        ([], {"methods": {"x": {"kind": "pairs", "objective": "GenRM", "variant": "y"}}}, "methods.x.variant"),
        ([], {"methods": {"x": {"kind": "star", "variant": "star-ppo"}}}, "methods.x: "),
        ([], {"methods": {"x": {"kind": "star", "iteratons": 2}}}, "iteratons"),
        ([], {"methods": {"x": {"kind": "star", "seed": 2}}}, "methods.x.seed: the comparison decides it"),
        ([], {"methods": {"x": {"kind": "star", "warm_start": None}}}, "methods.x.warm_start"),
        ([], {"methods": {"x": {"kind": "star", "fit": {"trainer": {"max_epoch": 2}}}}}, "max_epoch"),
        ([], {"methods": {"x": METHODS["genrm"] | {"fit": {"model": {"init_args": {"bta": 2}}}}}}, "methods.x: fit: "),
        ([], {"methods": {"x": METHODS["genrm"] | {"fit": {"data": {"class_path": "y"}}}}}, "fit.data.class_path"),
        ([], {"data": {"train": "no.parquet", "test": "no.parquet", "ood": "no.parquet"}}, "no.parquet: no such file"),
        ([], {"equal": ["luck"]}, "equal"),
        (["--seeds", "0"], {}, "seeds: 0 is not above 0"),
    ],
)
def test_mistakes_are_told_before_anything_is_done(tmp_path, capsys, tiny_llama, flags, changes, named):
    names = ["zero-shot"] if "data" in changes else None
    config = compare_config(tmp_path / "out", tiny_llama, names, **changes)
    said = compare(capsys, write_config(tmp_path / "compare.yaml", config), *flags, status=2)
    assert named in said.err and said.err.count("\n") == 1 and said.out == ""
    assert not (tmp_path / "out").exists()


def test_an_ablation_at_equal_samples_and_steps(tmp_path, capsys, tiny_llama):
    losses = {"model": {"init_args": {"choice_weight": 1.0, "nll_weight": 0.5}}}
    dpo = {"kind": "star", "variant": "star-dpo", "uncoupled": "keep", "fit": losses}
    methods = {
        "full": dpo,
        "no-rationale": METHODS["genrm"] | {"fit": {"trainer": {"max_steps": 8}}},
        "one-iteration": dpo | {"iterations": 1, "parts": 1, "fit": losses | {"trainer": {"max_steps": 8}}},
        "same-data": dpo | {"fresh": False},
    }
    config = compare_config(tmp_path / "out", tiny_llama, methods=methods, equal=["samples", "steps"])
    config["star"] |= {"warm_start": None, "iterations": 2, "fit": star_fit(max_epochs=-1, max_steps=4)}
    compare(capsys, write_config(tmp_path / "compare.yaml", config))
    rows = {row["method"]: row for row in read_json(tmp_path / "out/summary.json")["rows"]}
    assert {name: (row["pairs"], row["samples"], row["steps"]) for name, row in rows.items()} == {
        "full": (16, 16 * 2 * 4, 8),
        "no-rationale": (16, 0, 8),
        "one-iteration": (16, 16 * 2 * 4, 8),
        "same-data": (8, 16 * 2 * 4, 8),
    }

    def drawn(name):
        folder = tmp_path / "out/seed-0" / name
        return [pl.read_parquet(folder / f"iteration-{i}/sample/judgments.parquet") for i in (1, 2)]

    first, second = (set(table["pair_id"]) for table in drawn("full"))
    assert not first & second
    again, once_more = drawn("same-data")
    assert set(again["pair_id"]) == set(once_more["pair_id"]) == first
    assert again["rationale"].to_list() != once_more["rationale"].to_list(), "the same pairs, drawn anew"
