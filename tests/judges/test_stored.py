"""Files of scores and of judgments as judges."""

import math

import polars as pl
import pytest

from data_tools.errors import UserError
from data_tools.order import chosen_is_a
from data_tools.schema import JUDGMENT
from genrm_lightning.evaluation.scores import set_scores
from genrm_lightning.judges.stored import StoredScores
from tests.tiny import preferences

PAIRS = preferences(4)
SCORES = [(1.0, -1.0), (0.5, 0.75), (2.0, 2.0), (-800.0, 900.0)]


def table(names=("pair_id", "chosen_reward", "rejected_reward"), scores=SCORES):
    rows = [(pair_id, *score) for pair_id, score in zip(PAIRS["pair_id"], scores, strict=True)]
    return pl.DataFrame(rows, schema=list(names), orient="row")


@pytest.mark.parametrize("ending", ["parquet", "jsonl", "csv"])
def test_scores_of_a_file(tmp_path, ending):
    file = tmp_path / f"scores.{ending}"
    names = (
        ("id", "score_chosen", "score_rejected")
        if ending == "jsonl"
        else ("pair_id", "chosen_reward", "rejected_reward")
    )
    write = {"parquet": "write_parquet", "jsonl": "write_ndjson", "csv": "write_csv"}[ending]
    getattr(table(names), write)(file)
    assert not StoredScores(file).probabilities  # of any scale
    judged = StoredScores(file).judge(PAIRS, tmp_path, "pairs")
    assert judged.judgments.schema == JUDGMENT and judged.dropped == frozenset() and judged.tokens == 0
    assert judged.rewards.rows() == [(p, *s) for p, s in zip(PAIRS["pair_id"], SCORES, strict=True)]
    for row in judged.judgments.iter_rows(named=True):
        chosen, rejected = SCORES[PAIRS["pair_id"].to_list().index(row["pair_id"])]
        right = chosen_is_a(row["pair_id"], row["swapped"])
        margin = (chosen - rejected) * (1 if right else -1)
        assert row["p_a"] == pytest.approx(1 / (1 + math.exp(-margin)) if abs(margin) < 700 else float(margin > 0))
        assert row["verdict"] == ("INVALID" if margin == 0 else "A" if margin > 0 else "B")
    scores = set_scores(judged.judgments, PAIRS)
    assert (scores.accuracy, scores.tie_rate, scores.position_consistency) == (0.25, 0.25, 0.75)


def test_judgments_of_a_file(tmp_path):
    table().write_parquet(tmp_path / "scores.parquet")
    first = StoredScores(tmp_path / "scores.parquet").judge(PAIRS, tmp_path, "pairs").judgments
    first.write_parquet(tmp_path / "judgments.parquet")
    assert StoredScores(tmp_path / "judgments.parquet").probabilities
    judged = StoredScores(tmp_path / "judgments.parquet").judge(PAIRS.head(3), tmp_path, "pairs")
    assert judged.rewards is None and judged.judgments.equals(first.join(PAIRS.head(3), on="pair_id", how="semi"))


@pytest.mark.parametrize(
    ("frame", "said"),
    [
        (table(("pair_id", "good", "bad")), "column 'chosen_reward' is missing"),
        (table().with_columns(pair_id=pl.lit("x")), "id 'x' stands for several rows"),
        (table().head(2), "no scores of 2 of 4 pairs of pairs, such as 'pair-2'"),
        (table().with_columns(chosen_reward=pl.lit(None)), "row 1: column 'chosen_reward' holds no number"),
        (table().with_columns(rejected_reward=pl.lit(float("nan"))), "row 1: column 'rejected_reward' holds no number"),
    ],
)
def test_bad_files(tmp_path, frame, said):
    frame.write_parquet(tmp_path / "scores.parquet")
    with pytest.raises(UserError, match=said):
        StoredScores(tmp_path / "scores.parquet").judge(PAIRS, tmp_path, "pairs")


def test_no_table_at_all(tmp_path):
    (tmp_path / "scores.jsonl").write_text("{broken")
    with pytest.raises(UserError, match="scores.jsonl: cannot be read as jsonl"):
        StoredScores(tmp_path / "scores.jsonl")


def test_ids_of_a_csv_are_texts(tmp_path):
    (tmp_path / "s.csv").write_text("pair_id,chosen_reward,rejected_reward\n000,1.0,0.5\n")
    pairs = PAIRS.head(1).with_columns(pair_id=pl.lit("000"))
    assert StoredScores(tmp_path / "s.csv").judge(pairs, tmp_path, "pairs").rewards.rows() == [("000", 1.0, 0.5)]
