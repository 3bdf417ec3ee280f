"""Samples that were told an answer: what is of use, how they join the others, and what the counts say."""

import polars as pl
import pytest

from data_tools import star, told
from data_tools.__main__ import main
from data_tools.artifact import write_table
from data_tools.errors import UserError
from data_tools.judging import Verdict, parse
from data_tools.order import chosen_is_a
from data_tools.schema import EXAMPLE, JUDGMENT, PREFERENCE, conform

PAIRS = ["p0", "p1", "p2"]
PREFERENCES = conform(
    pl.DataFrame(
        [
            {"pair_id": i, "prompt": [{"role": "user", "content": f"ask {i}"}], "chosen": "good", "rejected": "bad"}
            for i in PAIRS
        ]
    ),
    PREFERENCE,
)


def rows(*wanted):
    """JUDGMENT of (pair, swapped, whether it votes right, rationale)."""
    made = []
    for pair, swapped, right, text in wanted:
        letter = "A" if chosen_is_a(pair, swapped) == right else "B"
        made.append({"pair_id": pair, "swapped": swapped, "sample_index": len(made), "rationale": text, "vote": letter})
    return conform(pl.DataFrame(made, schema={name: JUDGMENT[name] for name in made[0]}), JUDGMENT)


def selected(folder, judgments, objective, **tables):
    """(EXAMPLE, counts)"""
    path = folder / "selected.parquet"
    counts = told.write_examples(judgments, PREFERENCES, path, objective=objective, **tables)
    return pl.read_parquet(path, schema=EXAMPLE), counts


def letter(pair, swapped):
    return Verdict.A if chosen_is_a(pair, swapped) else Verdict.B


OWN = rows(
    ("p0", False, True, "own right"), ("p0", False, False, "own wrong"),
    ("p1", False, False, "own wrong"), ("p1", False, False, "own wrong again"), ("p2", True, False, "own wrong"),
)  # fmt: skip
HINTED = rows(
    ("p1", False, True, "hinted right"), ("p1", False, False, "hinted wrong"),
    ("p2", True, True, "As stated, Response A is better."), ("p0", False, True, "hinted where none failed"),
)  # fmt: skip


def test_a_prompt_fails_where_no_vote_is_right():
    assert told.failed(OWN).rows() == [("p1", False), ("p2", True)]
    assert told.failed(OWN.clear()).is_empty()


def test_failed_prompts_are_rationalized(tmp_path):
    table, counts = selected(tmp_path, OWN, "sft", rationalized=HINTED)
    assert [text.split("\n")[0] for text in table["completion"]] == ["own right", "hinted right"]
    assert (counts["failed"], counts["rationalized"], counts["kept"], counts["sampled"]) == (2, 1, 2, 9)
    assert {told.AGAINST: 1, star.TOLD: 1, told.ELSEWHERE: 1}.items() <= counts["dropped"].items()


def test_what_was_written_with_the_answer_told_stands_against_the_mistake(tmp_path):
    table, counts = selected(tmp_path, OWN, "dpo", rationalized=HINTED.lazy())
    second = table.row(1, named=True)
    assert second["completion"].startswith("hinted right") and second["rejected_completion"].startswith("own wrong")
    assert counts["couples"] == 2 and counts["rationalized"] == 1


def test_couples_of_what_was_told_right_and_what_was_told_wrong(tmp_path):
    """Each side follows what it was told; a mistake of the one side is no sample of the other."""
    right = rows(
        ("p0", False, True, "for the better"), ("p0", False, False, "stubborn"),
        ("p1", False, True, "I was told so."), ("p2", False, True, "for the better"),
    )  # fmt: skip
    wrong = rows(
        ("p0", False, False, "for the worse"), ("p0", False, True, "honest"),
        ("p1", False, False, "for the worse"), ("p2", False, False, "We are told that Response A is better."),
    )  # fmt: skip
    table, counts = selected(tmp_path, right, "dpo", told_wrong=wrong)
    (row,) = table.rows(named=True)
    assert row["completion"].startswith("for the better") and row["rejected_completion"].startswith("for the worse")
    assert parse(row["completion"]) is letter("p0", False) is not parse(row["rejected_completion"])
    assert counts["sampled"] == 8 and counts["before"] == {told.AGAINST: 2, star.TOLD: 2}
    assert counts["before"].items() <= counts["dropped"].items()


def chosen_by_text(table):
    """The same samples whose text says so, forced to vote for the other response."""
    other = pl.col("vote").replace({"A": "B", "B": "A"})
    return table.with_columns(verdict="vote", vote=other)


def test_where_the_text_says_what_is_right_it_says_what_was_followed(tmp_path):
    own, hinted = chosen_by_text(OWN), chosen_by_text(HINTED)
    assert told.failed(own, "verdict").rows() == [("p1", False), ("p2", True)] != told.failed(own).rows()
    table, counts = selected(tmp_path, own, "dpo", rationalized=hinted, right="verdict")
    assert [text.split("\n")[0] for text in table["completion"]] == ["own right", "hinted right"]
    assert table["rejected_completion"].str.starts_with("own wrong").all() and counts["failed"] == 2

    right = chosen_by_text(rows(("p0", False, True, "for"), ("p0", False, False, "stubborn")))
    wrong = chosen_by_text(rows(("p0", False, False, "against"), ("p0", False, True, "honest")))
    silent = wrong[:1].with_columns(verdict=pl.lit("INVALID"), rationale=pl.lit("silent"))
    both = {"told_wrong": pl.concat([silent, wrong]), "right": "verdict"}
    table, counts = selected(tmp_path, right, "dpo", **both)
    (row,) = table.rows(named=True)
    assert row["completion"].startswith("for\n") and row["rejected_completion"].startswith("against\n")
    assert counts["before"] == {told.AGAINST: 3}


def test_no_two_samples_of_a_prompt_share_an_index():
    joined = told._after(OWN, HINTED)
    assert not joined.select("pair_id", "swapped", "sample_index").is_duplicated().any()
    assert joined.schema == JUDGMENT and told._after(OWN.clear(), HINTED).equals(HINTED)


def test_without_told_samples_nothing_is_changed(tmp_path):
    plain, counts = star.examples(OWN, PREFERENCES, objective="dpo")
    again, same = selected(tmp_path, OWN, "dpo")
    assert again.equals(plain) and same == counts


@pytest.mark.parametrize(
    ("objective", "tables", "said"),
    [
        ("sft", {"told_wrong": HINTED}, "told the wrong answer are for objective dpo, not for sft"),
        ("own", {"rationalized": HINTED}, "rationalized prompts are for objectives sft and dpo, not for own"),
        ("dpo", {"told_wrong": OWN[:1]}, "is left"),
        ("dpo", {"told_wrong": OWN, "right": "text"}, "right 'text' is unknown"),
    ],
)
def test_what_cannot_be(tmp_path, objective, tables, said):
    with pytest.raises(UserError, match=said):
        selected(tmp_path, OWN[2:], objective, **tables)


def test_by_hand(tmp_path, capsys):
    files = {"judgments": OWN, "rationalized": HINTED, "preferences": PREFERENCES}
    argv = ["star", "--objective", "sft", "--out", str(tmp_path / "examples.parquet")]
    for name, table in files.items():
        write_table(table, tmp_path / f"{name}.parquet", table.schema)
        argv += [f"--{name}", str(tmp_path / f"{name}.parquet")]
    assert main(argv) == 0
    assert "rationalized" in capsys.readouterr().out
    assert pl.read_parquet(tmp_path / "examples.parquet", schema=EXAMPLE).height == 2
