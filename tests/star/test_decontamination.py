"""Training pairs whose prompts overlap held-out ones leave a run before it begins."""

import json

import polars as pl

from data_tools.schema import PREFERENCE, conform
from genrm_lightning.star.checks import decontaminated, no_shared_prompts

LONG = "please explain in a few words how the tides of the sea follow the moon"


def table(**prompts):
    rows = [
        {"pair_id": name, "prompt": [{"role": "user", "content": text}], "chosen": "c", "rejected": "r"}
        for name, text in prompts.items()
    ]
    return conform(pl.DataFrame(rows), PREFERENCE)


def test_overlapping_pairs_go_and_are_reported(tmp_path, capfd):
    tables = {
        "train": table(a="Hi there", b=f"{LONG} and the sun", c="something else", d="PLEASE  hi"),
        "id": table(x="hi  THERE"),
        "ood": table(y=LONG, z="please"),
    }
    where = {"train": "train.parquet", "id": "test.parquet", "ood": "ood.parquet"}
    assert decontaminated(tables, where, tmp_path) == {"ood.parquet": 1, "test.parquet": 1}
    assert tables["train"]["pair_id"].to_list() == ["c", "d"]
    assert tables["train"].schema == PREFERENCE
    no_shared_prompts(tables, where)
    report = [json.loads(line) for line in (tmp_path / "decontamination.jsonl").read_text().splitlines()]
    assert [(row["pair_id"], row["match"], row["score"]) for row in report] == [("a", "x", 1.0), ("b", "y", 1.0)]
    assert "data: 2 of 4 training pairs are left out" in capfd.readouterr().err


def test_nothing_to_leave_out_says_nothing(tmp_path, capfd):
    tables = {"train": table(a="one"), "id": table(x="two"), "ood": table(y="three")}
    assert decontaminated(tables, dict.fromkeys(tables), tmp_path) == {}
    assert tables["train"].height == 1 and not list(tmp_path.iterdir())
    assert capfd.readouterr().err == ""
