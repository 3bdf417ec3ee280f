"""Rankings, pairings, and what says that a sample is right."""

from __future__ import annotations

import pytest

from data_tools import star
from data_tools.errors import UserError
from data_tools.judging import parse
from data_tools.order import chosen_is_a
from tests.data_tools.selection.tables import preferences, row, select, table


@pytest.mark.parametrize(
    ("ranking", "best"),
    [
        ("mean_token_prob", [0, 1, 2, 3]),
        ("r_star", [1, 2, 0, 3]),  # 0.9 * 0.5, 0.8 * 0.9, 0.6 * 0.99, unknown
        ("confidence", [2, 1, 0, 3]),
        ("shortest", [3, 0, 2, 1]),
        ("drawn", [3, 2, 1, 0]),
    ],
)
def test_rankings(ranking, best):
    numbers = [(0.9, 0.5, 7, 3), (0.8, 0.9, 9, 2), (0.6, 0.99, 8, 1), (None, 0.2, 5, 0)]
    rows = [
        row(i, mean_token_prob=prob, sure=sure, n_tokens=length, sample_index=drawn)
        for i, (prob, sure, length, drawn) in enumerate(numbers)
    ]
    assert select(rows, ranking=ranking)[0] == best


def test_random_is_even_and_the_same_each_time():
    rows = [row(4 * i + k, f"p-{i}", sample_index=k) for i in range(400) for k in range(4)]
    pairs = preferences(sorted({one["pair_id"] for one in rows}))
    first, again = (star.examples(table(r), pairs, objective="sft", ranking="random")[0] for r in (rows, rows[::-1]))
    assert first.equals(again)
    drawn = [ids[0] % 4 for ids in first["completion_ids"].to_list()]
    assert all(70 < drawn.count(k) < 130 for k in range(4))  # 100 each, 8.7 a standard deviation


def test_lengths_are_characters_where_a_row_does_not_know_its_tokens():
    rows = [row(0, n_tokens=None, rationale="brief"), row(1, n_tokens=2, rationale="rather longer")]
    assert select(rows, ranking="shortest")[0] == [0, 1]


def dpo_rows():
    right = [(0, 0.9, 0.6, 10), (1, 0.8, 0.9, 30), (2, 0.7, 0.7, 22)]  # number, mean_token_prob, p of the vote, tokens
    wrong = [(10, 0.9, 0.55, 29), (11, 0.5, 0.95, 21)]
    return [
        row(i, right=side, mean_token_prob=prob, sure=sure, n_tokens=n)
        for side, rows in ((True, right), (False, wrong))
        for i, prob, sure, n in rows
    ]


@pytest.mark.parametrize(
    ("pairing", "couples"),
    [
        ("rank", [(0, 10), (1, 11)]),
        ("best_worst", [(1, 11), (2, 10)]),
        ("hardest", [(0, 11), (2, 10)]),
        ("all", [(0, 10), (0, 11), (1, 10), (1, 11), (2, 10), (2, 11)]),
        ("all:most=1", [(0, 10)]),
        ("length_matched", [(1, 10), (2, 11)]),
        ("length_matched:most=1", [(1, 10), (2, 11)]),
    ],
)
def test_pairings(pairing, couples):
    assert select(dpo_rows(), "dpo", pairing=pairing)[0] == couples


def test_length_matched_looks_again_for_those_whose_closest_was_taken():
    rows = [row(i, n_tokens=n) for i, n in enumerate([10, 12])]
    rows += [row(10 + i, right=False, n_tokens=n) for i, n in enumerate([11, 90])]
    assert select(rows, "dpo", pairing="length_matched")[0] == [(0, 10), (1, 11)]
    assert select(rows, "dpo", pairing="length_matched:most=1")[0] == [(0, 10)]
    assert select(rows, "dpo", pairing="length_matched:most=1", uncoupled="keep")[0] == [(0, 10), (1, None)]


def test_all_is_counted_as_couples():
    counts = select(dpo_rows(), "dpo", pairing="all")[1]
    assert {"step": "pairing", "of": "couples", "given": 3, "kept": 6} in counts["steps"]
    assert counts["couples"] == counts["kept"] == 6 and counts["dropped"][star.UNCOUPLED] == 0


def test_right_by_the_verdict_in_the_text():
    letter, other = ("A", "B") if chosen_is_a("p", False) else ("B", "A")
    rows = [row(0), row(1, verdict=other), row(2, verdict="INVALID"), row(3, verdict=None), row(4, right=False)]
    assert select(rows)[0] == [0, 1, 2, 3]
    chosen, counts = select(rows, right="verdict")
    assert chosen == [0] and (counts["right"], counts["wrong"], counts["dropped"][star.UNREAD]) == (1, 2, 2)
    with pytest.raises(UserError, match=r"no text holds a verdict such as \[\[A\]\]: go by the vote"):
        select([row(0, verdict="INVALID")], right="verdict")
    # Its ids end in another letter than the text's verdict: the text is tokenised anew.
    rows = [row(0, right=False, verdict=letter)]
    frame, _ = star.examples(table(rows), preferences(["p"]), objective="sft", right="verdict")
    assert parse(frame["completion"][0]) == letter and frame["completion_ids"].to_list() == [None]


def test_what_says_what_is_right_where_right_and_wrong_are_taken_alike():
    """A filter may ask for it, and a ranking: then it is a choice."""
    other = "B" if chosen_is_a("p", False) else "A"
    rows = [row(0), row(1, verdict=other, sure=0.9)]
    assert select(rows, "own", filters=["both_letters"], right="verdict")[0] == [0, 1]
    with pytest.raises(UserError, match="no own example is left .*both_letters"):
        select(rows, "own", filters=["both_letters"])
    for right, best in (("vote", "reason 1"), ("verdict", "reason 0")):
        options = {"objective": "labelled", "ranking": "confidence", "right": right}
        assert star.examples(table(rows), preferences(["p"]), **options)[0]["completion"][0].startswith(best)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"ranking": "best"}, "ranking 'best' is unknown; there are: mean_token_prob, r_star, confidence, shortest"),
        ({"pairing": "some"}, "pairing 'some' is unknown; there are: rank, best_worst, hardest, all, length_matched"),
        ({"pairing": "all:n=3"}, "pairing 'all' has no parameter 'n'; there are: most"),
        ({"pairing": "all"}, "pairing 'all' changes nothing: objective sft has no couples; leave it out"),
        ({"objective": "own", "ranking": "random"}, "ranking 'random' changes nothing: objective own keeps the"),
        ({"objective": "own", "right": "verdict"}, "right 'verdict' changes nothing: objective own takes right and"),
        ({"objective": "labelled", "right": "verdict"}, "right 'verdict' changes nothing: objective labelled takes"),
        ({"right": "maybe"}, "right 'maybe' is unknown; there are: vote, verdict"),
    ],
)
def test_names_that_are_unknown_or_change_nothing(options, said):
    with pytest.raises(UserError, match=said):
        select([row(0)], **options)
