"""`python -m benchmarks`: both sides train, in turns, and the table's numbers follow from the raw ones."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from statistics import median

import pytest
import torch

from benchmarks import __main__ as command
from benchmarks import machine, sampling
from benchmarks.cases import Case, rows_of
from benchmarks.report import summary
from benchmarks.turns import SIDES, Job, Worker
from benchmarks.worker import JUDGE_PROMPT, Watch
from data_tools.errors import UserError
from data_tools.judging import Verdict, parse, render_prompt
from data_tools.order import responses
from data_tools.schema import EXAMPLE, PREFERENCE, check
from genrm_lightning.backbone import load_renderer

ROOT = Path(__file__).parents[1]


@pytest.fixture
def embedded(monkeypatch):
    monkeypatch.delenv("GENRM_PAIRS", raising=False)


def test_smoke(tmp_path):
    """A DPO case from end to end: three rounds of two processes on the tiny Llama."""
    out = tmp_path / "result.json"
    flags = ["--smoke", "--cases", "dpo", "--rounds", "2", "--steps", "2", "--threads", "1"]
    environment = {k: v for k, v in os.environ.items() if k != "GENRM_PAIRS"}
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", *flags, "--out", str(out)],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(out.read_text())
    assert found["machine"]["threads"] == 1 and found["machine"]["torch"] == torch.__version__
    (case,) = found["cases"]
    assert (case["name"], case["rows"], case["data"]) == ("dpo", 4, "embedded data")
    for side in SIDES:
        raw = case[side]
        assert len(raw["seconds"]) == 2 and min(raw["seconds"]) > 0
        assert len(raw["losses"]) == 6  # the warm-up's too
        assert raw["losses"][0] == pytest.approx(0.6931, abs=0.02)  # DPO starts at ln 2, with the reference it stored
        assert raw["losses"][-1] < raw["losses"][0]
        assert raw["moved"] == 1  # every trained tensor
        assert raw["weights"] == raw["gradients"] and raw["optimizer"] > 2 * raw["weights"]
        assert raw["peak"] > raw["baseline"]
    # The prompt once here, once a completion there.
    assert 1.5 < case["trl"]["tokens_per_row"] / case["ours"]["tokens_per_row"] < 2
    assert case["summary"] == summary(case)
    ratios = [b / a for a, b in zip(case["ours"]["seconds"], case["trl"]["seconds"], strict=True)]
    assert case["summary"]["speed"] == {"median": median(ratios), "least": min(ratios), "most": max(ratios)}
    assert f"{median(ratios):.2f}x" in done.stdout


def test_summary():
    side = {"peak": 100, "baseline": 20, "weights": 10, "gradients": 10, "optimizer": 20}
    case = {
        "batch_size": 4, "steps": 2, "matmul_flops": 50.0,
        "ours": {**side, "seconds": [1.0, 4.0, 2.0], "flops_per_row": 10.0},
        "trl": {**side, "peak": 140, "seconds": [3.0, 4.0, 8.0]},
    }  # fmt: skip
    assert summary(case) == {
        "rows_per_s": {"ours": 4.0, "trl": 2.0},
        "speed": {"median": 3.0, "least": 1.0, "most": 4.0},
        "above": {"ours": 40, "trl": 80},
        "memory": 0.5,
        "peak": 100 / 140,
        "floor_s": 0.2,
        "of_floor": 0.8,
    }


def test_a_worker_that_dies_says_why(tmp_path):
    job = Job("trl", "dpo", "nowhere.parquet", "nowhere", "full", 2, 1, 1, 1, str(tmp_path))
    with pytest.raises(UserError, match="trl: the process ended with 1 .*nowhere"), Worker(job) as worker:
        worker.process.wait()
        worker.go()


# Rows


@pytest.mark.parametrize("kind", ["genrm", "sft", "dpo"])
def test_judge_prompts_have_the_length(embedded, tiny_llama, kind):
    renderer = load_renderer(str(tiny_llama))
    rows, origin = rows_of(Case(kind, kind, 2, 3, length=1200), 6, renderer)
    assert origin == "embedded data"
    if kind == "genrm":  # both orders of each
        assert len(check(rows, PREFERENCE, kind)) == 3
        prompts = []
        for row in rows.iter_rows(named=True):
            a, b, _ = responses(row["pair_id"], False, row["chosen"], row["rejected"])
            prompts.append(render_prompt(row["prompt"], a, b, JUDGE_PROMPT))
    else:
        assert len(check(rows, EXAMPLE, kind)) == 6
        prompts = rows["prompt"].to_list()
        for right, wrong in rows.select("completion", "rejected_completion").iter_rows():
            assert {parse(right), parse(wrong)} == {Verdict.A, Verdict.B}
            assert all(80 <= len(renderer.judgment(text).ids) <= 160 for text in (right, wrong))
        assert rows["completion"].n_unique() == 6
    assert all(1080 <= len(renderer.prompt(messages)) <= 1320 for messages in prompts)
    assert rows["pair_id"].is_unique().all()


def test_rows_of_real_pairs(pairs_folder, tiny_llama, monkeypatch):
    monkeypatch.setenv("GENRM_PAIRS", str(pairs_folder))
    case = next(case for case in command.all_cases() if case.name == "bt-hh")
    rows, origin = rows_of(case, 20, load_renderer(str(tiny_llama)))
    assert origin == "hh_helpful, hh_harmless"
    assert {row.split("-")[1] for row in rows["source"]} == {"helpful", "harmless"}
    assert set(rows["split"]) == {"train"}


def test_too_many_rows(embedded, tiny_llama):
    with pytest.raises(UserError, match="--rows: 3000 are more than the 1000 pairs"):
        rows_of(Case("sft", "sft", 1, 1, length=250), 3000, load_renderer(str(tiny_llama)))


# Flags


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--smoke --cases dqo", "--cases: 'dqo' is none of: bt, genrm, sft, dpo"),
        ("--smoke --cases dpo --rows 1", "--rows: 1 are fewer than the 2 of a step of dpo"),
        ("--smoke --cases genrm --batch-size 3 --steps 1", "genrm: a pair gives two rows"),
    ],
)
def test_flags_are_checked_before_anything_is_loaded(embedded, flags, message):
    with pytest.raises(UserError, match=message):
        command.main(flags.split())


def test_cases_are_chosen_by_pattern(embedded):
    given = command._flags(
        ["--cases", "star-dpo-*", "--batch-size", "3", "--trl", "padding_free=true", "--trl", "optim=sgd"]
    )
    chosen = command._chosen(given)
    assert [case.name for case in chosen] == ["star-dpo-250", "star-dpo-1000", "star-dpo-2000"]
    assert {case.batch_size for case in chosen} == {3}
    assert given.trl == {"padding_free": True, "optim": "sgd"}


# The machine


def test_the_machine_is_described_without_names():
    found = machine.describe(2)
    assert found["threads"] == 2 and found["cores"] >= 1 and found["memory_gib"] > 0.1
    assert found.keys() == {
        "cpu", "flags", "cores", "threads", "memory_gib", "system", "python", *machine._PACKAGES,
    }  # fmt: skip
    assert found["system"] == f"{os.uname().sysname} {os.uname().machine}"  # not its nodename
    assert machine.feed_forward_rate(64, 128, tokens=64, seconds=0.01) > 1e6


@pytest.mark.skipif(sys.platform != "linux", reason="the peak can be forgotten on Linux alone")
def test_the_peak_is_forgotten():
    block = torch.ones(2**26)  # 256 MiB
    assert machine.peak() >= machine.resident() >= block.nbytes
    del block
    assert machine.reset_peak()
    lower = machine.peak()
    block = torch.ones(2**26)
    assert machine.peak() - lower > 0.9 * block.nbytes


def test_a_model_that_does_not_move_is_seen():
    model = torch.nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(model.parameters())
    watch = Watch(model)
    assert watch.facts(optimizer, 7) == {"baseline": 7, "weights": 24, "gradients": 24, "optimizer": 0, "moved": 0}
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    found = watch.facts(optimizer, 7)
    assert found["moved"] == 1 and found["optimizer"] == 2 * 24 + 2 * 4  # two moments, and two steps


# Sampling


def test_sampling_smoke(embedded, tmp_path, capsys):
    """Both samplers on the tiny Llama, two rounds each; the table follows from the raw numbers."""
    out = tmp_path / "result.json"
    flags = "--smoke --prompts 2 --samples 2 --tokens 3 --rounds 2 --threads 1 --batches 1,2 --caches dynamic"
    sampling.main([*flags.split(), "--out", str(out)])
    found = json.loads(out.read_text())
    (case,) = found["cases"]
    assert (case["name"], case["data"], case["generate_tried"].keys()) == (
        "sampling-400", "embedded data", {"1 dynamic", "2 dynamic"},
    )  # fmt: skip
    for side in sampling.SIDES:
        assert case[side]["samples"] == [4, 4] and len(case[side]["seconds"]) == 2
        assert all(0 < n <= 4 * 3 for n in case[side]["tokens"])  # no more than the budget of each
    assert case["summary"] == sampling.summary(case)
    assert f"{case['summary']['speed']['median']:.2f}x" in capsys.readouterr().out


def test_sampling_summary():
    case = {
        "ours": {"seconds": [1.0, 2.0], "cpu_seconds": [2.0, 2.0], "tokens": [40, 60], "samples": [2, 2]},
        "generate": {"seconds": [4.0, 2.0], "cpu_seconds": [4.0, 4.0], "tokens": [40, 20], "samples": [2, 2]},
    }
    assert sampling.summary(case) == {
        "tokens_per_s": {"ours": 35.0, "generate": 10.0},
        "speed": {"median": 3.5, "least": 3.0, "most": 4.0},
        "of_cpu": {"median": 4.0, "least": 2.0, "most": 6.0},
        "mean_tokens": {"ours": 25.0, "generate": 15.0},
    }
