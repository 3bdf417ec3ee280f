"""The command evaluate: every kind of judge, several sets, from tables and raw files."""

import gzip
import json

import polars as pl
import pytest

from data_tools.__main__ import main as data_tools
from data_tools.artifact import read_json, read_table
from data_tools.schema import JUDGMENT, PREFERENCE
from genrm_lightning.__main__ import main
from genrm_lightning.evaluation.folder import load_sets, read_evaluation, read_set


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pairs")
    data_tools(["verifiable", "--rows", "12", "--test-rows", "8", "--out", str(folder)])
    return folder


def evaluate(*argv):
    return main(["evaluate", *map(str, argv)])


@pytest.mark.parametrize(("objective", "kind"), [("BradleyTerry", "reward"), ("PairRM", "reward"), ("GenRM", "direct")])
def test_judges_without_rationales(tmp_path, capsys, judges, pairs, objective, kind):
    files = [pairs / "test.parquet", pairs / "ood.parquet"]
    argv = ["--judge", judges / objective, "--data", *files, "--out", tmp_path, "--dtype", "float32"]
    assert evaluate(*argv) == 0
    assert "test" in (said := capsys.readouterr()).out and "ood" in said.out and "verdicts" in said.err
    evaluation, scores = read_evaluation(tmp_path), read_json(tmp_path / "scores.json")
    assert (evaluation["kind"], evaluation["objective"]) == (kind, objective) == (scores["kind"], objective)
    assert [one["name"] for one in evaluation["sets"]] == ["test", "ood"] == sorted(scores["sets"], reverse=True)
    for one in evaluation["sets"]:
        rows, judged = read_set(tmp_path, one["name"])
        assert rows.equals(read_table(one["data"], PREFERENCE)) and one["n_pairs"] == len(rows)
        assert len(judged.judgments) == 2 * len(rows) and (judged.rewards is None) == (kind == "direct")
        assert not list((tmp_path / one["folder"]).glob("shard-*"))
    assert evaluate(*argv) == 0  # a second call reads nothing again
    assert "verdicts" not in capsys.readouterr().err
    assert evaluate(*argv, "--dtype", "bfloat16") == 2
    assert "made with another 'dtype'" in capsys.readouterr().err


def test_a_file_of_scores_and_raw_rows(tmp_path, capsys):
    rows = [
        {"id": f"x{i}", "prompt": f"Question {i}?", "chosen": "yes", "rejected": "no", "subset": "s"} for i in range(5)
    ]
    raw = tmp_path / "raw.jsonl.gz"
    raw.write_bytes(gzip.compress("\n".join(map(json.dumps, rows)).encode()))
    (only,) = load_sets([str(raw)])
    scores = only.pairs.select("pair_id", chosen_reward=pl.int_range(pl.len()) - 1.5, rejected_reward=pl.lit(0.0))
    scores.write_csv(tmp_path / "scores.csv")
    assert evaluate("--judge", tmp_path / "scores.csv", "--data", raw, "--out", tmp_path / "out") == 0
    found = read_json(tmp_path / "out/scores.json")["sets"]["raw"]
    assert (found["n_pairs"], found["accuracy"]) == (5, 0.6)
    assert "60.0 (" in capsys.readouterr().out


def test_sets_have_names_of_their_own(tmp_path, pairs):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        read_table(pairs / "test.parquet", PREFERENCE).write_parquet(tmp_path / name / "test.parquet")
    given = [str(tmp_path / name / "test.parquet") for name in ("a", "b")]
    assert [one.name for one in load_sets(given)] == ["test", "b-test"]


def test_a_split(pairs):
    table = read_table(pairs / "test.parquet", PREFERENCE)
    split = table["split"][0]
    assert len(load_sets([str(pairs / "test.parquet")], split)[0].pairs) == table.filter(split=split).height


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--data", "nowhere.jsonl"], "nowhere.jsonl"),
        (["--data", "test", "test"], "is named twice"),
        (["--data", "test", "--split", "dev"], "has no rows of 'dev'"),
        (["--data", "test", "--rows", "0"], "--rows: 0 is not above 0"),
        (["--data", "hub:not a name"], "is neither OWNER/NAME"),
        (["--data", "test", "--share", "true"], "draws no samples that could be divided"),
        (["--data", "test", "--votes", "0"], "--votes: 0 is not above 0"),
        (["--data", "test", "--votes", "2"], "read as reward, the same verdict each time"),
        (["--data", "test", "--orders", "one"], "key 'orders'"),
    ],
)
def test_mistakes(tmp_path, capsys, judges, pairs, flags, said):
    flags = [str(pairs / "test.parquet") if flag == "test" else flag for flag in flags]
    assert evaluate("--judge", judges / "BradleyTerry", "--out", tmp_path / "out", *flags) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and said in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_what_is_no_evaluation(tmp_path):
    from data_tools.errors import UserError

    with pytest.raises(UserError, match="no evaluation"):
        read_evaluation(tmp_path)
    (tmp_path / "sets").mkdir()
    with pytest.raises(UserError, match="not done"):
        read_evaluation(tmp_path)


def test_judgments_are_a_table(tmp_path, judges, pairs):
    argv = ["--judge", judges / "GenRM", "--data", pairs / "test.parquet", "--out", tmp_path, "--rows", "3"]
    assert evaluate(*argv, "--dtype", "float32") == 0
    assert read_table(tmp_path / "sets/test/judgments.parquet", JUDGMENT)["pair_id"].n_unique() == 3


def test_votes(tmp_path, judges, pairs):
    """--votes K is sampling.n_samples: the same command under either name finds its own work again."""
    flags = ["--judge", judges / "STaRSFT", "--data", pairs / "test.parquet", "--rows", "2", "--dtype", "float32"]
    flags += ["--sampling.rationale_tokens", "4", "--orders", "both", "--out", tmp_path]
    assert evaluate(*flags, "--votes", "3") == 0
    judgments = read_table(tmp_path / "sets/test/judgments.parquet", JUDGMENT)
    assert judgments.group_by("pair_id", "swapped").len()["len"].to_list() == [3] * 4
    assert evaluate(*flags, "--sampling.n_samples", "3") == 0
    assert evaluate(*flags, "--votes", "2") == 2


def test_numbers_against_another_judge_and_the_training_data(tmp_path, capsys, judges, pairs):
    flags = ["--data", pairs / "test.parquet", "--dtype", "float32"]
    assert evaluate("--judge", judges / "PairRM", *flags, "--out", tmp_path / "a") == 0
    argv = ["--judge", judges / "GenRM", *flags, "--against", tmp_path / "a", "--train", pairs / "train.parquet"]
    assert evaluate(*argv, "--out", tmp_path / "b") == 0
    said = capsys.readouterr().out
    one, other = (read_json(tmp_path / name / "scores.json") for name in "ab")
    difference = other["against"][str(tmp_path / "a")]["test"]["accuracy"]["diff"]
    assert difference == pytest.approx(other["sets"]["test"]["accuracy"] - one["sets"]["test"]["accuracy"])
    assert "points of accuracy against" in said
    assert sum(found["n_pairs"] for found in other["shift"]["test"]["bins"]) == 8
    assert (
        other["sets"]["test"]["seconds_per_verdict"] > 0
        and sum(found["n"] for found in other["sets"]["test"]["reliability"]) == 16
    )
    card = (tmp_path / "b/README.md").read_text()
    assert f"{100 * other['sets']['test']['accuracy']:.1f}" in card and str(tmp_path) not in card
    read_table(pairs / "test.parquet", PREFERENCE).head(4).write_parquet(tmp_path / "test.parquet")
    argv = ["--judge", judges / "GenRM", "--data", tmp_path / "test.parquet", "--against", tmp_path / "a"]
    capsys.readouterr()
    assert evaluate(*argv, "--out", tmp_path / "c") == 2
    assert "its set 'test' holds other pairs" in capsys.readouterr().err and not (tmp_path / "c").exists()


def test_a_benchmark_in_several_files_has_one_score(tmp_path, capsys):
    """LLMBar's subsets lie in files of one name; scores of a file judge them."""
    rows = [{"input": f"Task {i}", "output_1": "good", "output_2": "bad", "label": 1 + i % 2} for i in range(6)]
    files = []
    for subset, part in (("Natural", rows[:4]), ("Neighbor", rows[4:])):
        (tmp_path / subset).mkdir()
        files.append(tmp_path / subset / "dataset.json")
        files[-1].write_text(json.dumps(part))
    sets = load_sets(map(str, files))
    assert [one.name for one in sets] == ["dataset", "Neighbor-dataset"]
    table = pl.concat([one.pairs for one in sets]).select(
        "pair_id", chosen_reward=(pl.col("chosen") == "good").cast(pl.Float64), rejected_reward=pl.lit(0.5)
    )
    table.write_parquet(tmp_path / "scores.parquet")
    argv = ["--judge", tmp_path / "scores.parquet", "--data", *files, "--out", tmp_path / "out"]
    assert evaluate(*argv) == 0
    (found,) = read_json(tmp_path / "out/scores.json")["benchmarks"].values()
    assert found["benchmark"] == "LLMBar" and found["sections"]["Natural"]["score"] == 0.5
    # Scores of any scale are no probabilities, neither by themselves nor against another judge.
    assert evaluate(*argv[:-1], tmp_path / "again", "--against", tmp_path / "out") == 0
    assert not read_json(tmp_path / "out/evaluation.json")["probabilities"]
    scores = read_json(tmp_path / "again/scores.json")
    assert scores["sets"]["dataset"]["ece"] is None and scores["sets"]["dataset"]["reliability"] == []
    assert scores["against"][str(tmp_path / "out")]["dataset"]["brier"]["diff"] is None
    assert "neither an ECE nor a Brier score" in (tmp_path / "again/README.md").read_text()
    assert main(["report", str(tmp_path / "again"), "--out", str(tmp_path / "page.html")]) == 0
    page = (tmp_path / "page.html").read_text()
    assert "id=methods" in page and "id=reliability" not in page and ">None" not in page
    assert found["sections"]["Neighbor"]["n"] == 2 and not found["complete"]
    assert "LLMBar" in capsys.readouterr().out


def test_rewardbench_is_written_in_its_own_format(tmp_path):
    rows = [
        {"id": i, "prompt": f"Q{i}", "chosen": "good", "rejected": "bad", "subset": "alpacaeval-easy"} for i in range(3)
    ]
    (tmp_path / "rb.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (one,) = load_sets([str(tmp_path / "rb.jsonl")])
    assert set(one.pairs["source"]) == {"rewardbench"}
    one.pairs.select("pair_id", chosen_reward=1.0, rejected_reward=0.0).write_parquet(tmp_path / "s.parquet")
    argv = ["--judge", tmp_path / "s.parquet", "--data", tmp_path / "rb.jsonl", "--out", tmp_path / "out"]
    assert evaluate(*argv) == 0
    (file,) = (tmp_path / "out/rewardbench/results").glob("*.json")
    found = read_json(file)
    assert (found["accuracy"], found["num_prompts"]) == (1.0, 3)


def test_the_distance_is_from_what_a_fit_reads(tmp_path, judges):
    """One table may hold all splits: its test rows are not what the judge was trained on."""
    texts = ["red wine from France", "a dog in the garden", "how to boil an egg", "the moon at night"]
    rows = [
        {"id": f"{split}{i}", "prompt": f"{split} {text}", "chosen": "a", "rejected": "b", "split": split}
        for split in ("train", "test")
        for i, text in enumerate(texts)
    ]
    (tmp_path / "all.jsonl").write_text("\n".join(map(json.dumps, rows)))
    argv = ["--judge", judges / "BradleyTerry", "--data", tmp_path / "all.jsonl", "--split", "test"]
    assert evaluate(*argv, "--train", tmp_path / "all.jsonl", "--out", tmp_path / "out") == 0
    bins = read_json(tmp_path / "out/scores.json")["shift"]["all"]["bins"]
    assert 0 < bins[0]["low"] < 1


def test_one_id_for_two_pairs(tmp_path, capsys):
    for name in ("a", "b"):
        row = {"id": "x", "prompt": name, "chosen": "yes", "rejected": "no"}
        (tmp_path / f"{name}.jsonl").write_text(json.dumps(row))
    (tmp_path / "s.csv").write_text("pair_id,chosen_reward,rejected_reward\nx,1,0\n")
    argv = ["--judge", tmp_path / "s.csv", "--data", tmp_path / "a.jsonl", tmp_path / "b.jsonl"]
    assert evaluate(*argv, "--out", tmp_path / "out") == 2
    assert "id 'x' stands for different pairs of two sets" in capsys.readouterr().err
