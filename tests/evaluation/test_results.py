"""RewardBench's own files: the keys it writes, numbers that are the protocol's, names that stay in the folder."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

from data_tools.schema import PREFERENCE, conform
from genrm_lightning.evaluation.benchmarks import protocols
from genrm_lightning.evaluation.results import file_name, write_rewardbench
from genrm_lightning.evaluation.scores import presentations

R, W = "right", "wrong"
# Pair -> subset, p(right) in both orders, rewards.
PAIRS = {
    "rewardbench/donotanswer/7": ("donotanswer", 0.9, 0.9, 2.0, 1.0),
    "rewardbench/donotanswer/8": ("donotanswer", 0.5, 0.9, 1.0, 1.0),
    "rewardbench/hep-go/9": ("hep-go", 0.1, 0.9, 0.5, 1.5),
}
TOP = ("model", "model_type", "chat_template")


@pytest.fixture
def tables(judgments):
    made = judgments({name: ([(own, R)], [(other, R)]) for name, (_, own, other, *_) in PAIRS.items()})
    rows = [
        {"pair_id": name, "source": "rewardbench", "subset": subset, "chosen": "good", "rejected": "bad"}
        | {"prompt": [{"role": "user", "content": f"ask {name}"}]}
        for name, (subset, *_) in PAIRS.items()
    ]
    scores = [(name, *scores[-2:]) for name, scores in PAIRS.items()]
    rewards = pl.DataFrame(scores, schema=["pair_id", "chosen_reward", "rejected_reward"], orient="row")
    return presentations(made), conform(pl.DataFrame(rows), PREFERENCE), rewards


def read(path: Path):
    return json.loads(path.read_text(encoding="utf-8"))


def test_a_reward_model(tables, tmp_path):
    shown, preferences, rewards = tables
    files = write_rewardbench(tmp_path, "org/rm", shown, preferences, rewards, tokenizer="org/rm", chat_template="tulu")
    names = [
        "eval-set/org/rm.json",
        "eval-set-scores/org/rm.json",
        "results/org/rm.json",
        "results/org/rm_outputs.jsonl",
    ]
    assert [path.relative_to(tmp_path).as_posix() for path in files] == names
    by_subset = {"donotanswer": 0.5, "hep-go": 0.0}  # equal rewards are lost
    top = {"model": "org/rm", "model_type": "Seq. Classifier", "chat_template": "tulu"}
    assert read(files[0]) == by_subset | top
    columns = read(files[1])
    assert {key: columns.pop(key) for key in TOP} == top
    assert columns["results"] == [1.0, 0.0, 0.0]
    assert (columns["scores_chosen"], columns["scores_rejected"]) == ([2.0, 1.0, 0.5], [1.0, 1.0, 1.5])
    assert columns["id"] == ["7", "8", "9"] and columns["prompt"][0] == "ask rewardbench/donotanswer/7"
    user, answer = columns["text_rejected"][2]
    assert user["content"] == "ask rewardbench/hep-go/9" and answer == {"role": "assistant", "content": "bad"}
    assert read(files[2]) == {
        "accuracy": pytest.approx(1 / 3), "num_prompts": 3, "model": "org/rm", "ref_model": None, "tokenizer": "org/rm",
        "chat_template": "tulu", "extra_results": by_subset,
    }  # fmt: skip
    lines = [json.loads(line) for line in files[3].read_text(encoding="utf-8").splitlines()]
    assert lines == [{key: values[k] for key, values in columns.items()} for k in range(3)]


def test_a_judge_that_compares_and_its_protocol(tables, tmp_path):
    shown, preferences, _ = tables
    files = write_rewardbench(tmp_path, "a judge", shown, preferences)
    by_subset = {name: one["score"] for name, one in protocols(shown, preferences)["RewardBench"]["subsets"].items()}
    top = {"model": "a judge", "model_type": "Generative RM", "chat_template": None}
    assert read(files[0]) == by_subset | top == {"donotanswer": 0.75, "hep-go": 0.0} | top
    assert read(files[1])["scores_chosen"] == [None] * 3


def test_nothing_of_rewardbench_writes_nothing(tables, tmp_path):
    shown, preferences, rewards = tables
    other = preferences.with_columns(source=pl.lit("mine"))
    assert write_rewardbench(tmp_path, "j", shown, other, rewards) == [] == list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "judge",
    [
        "../../x",
        "org/judge/../../../x",
        "a/b c",
        "/etc/passwd",
        "a\x00b",
        "..",
        "",
        "-",
        "a/../b",
        "../x/y",
        "x" * 500,
        "ü/é",
    ],
)
def test_file_names_stay_in_the_folder(judge, tmp_path):
    name = file_name(judge)
    path = (tmp_path / f"{name}.json").resolve()
    assert path.is_relative_to(tmp_path) and path.name not in (".json", "..json") and len(path.name) < 120
    assert not name.startswith(("-", "."))
