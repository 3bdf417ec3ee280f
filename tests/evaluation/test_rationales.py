import doctest

import pytest

from data_tools.order import chosen_is_a
from genrm_lightning.evaluation import report
from genrm_lightning.evaluation.rationales import rationale_scores


def test_doctest():
    found = doctest.testmod(report)
    assert found.attempted and not found.failed


def test_numbers(judgments, preferences):
    ids = [f"p{i}" for i in range(4)]
    table, pairs = (
        judgments({p: ([(0.9, "right")],) * 2 for p in ids}, rationale="Response A is better."),
        preferences(ids),
    )
    scores = rationale_scores(table, pairs, "brief")
    assert scores["position_bias"] == 0.0 and scores["finished_share"] == scores["names_share"] == 1.0
    assert scores["self_overlap"] == scores["top_share"] == 1.0 and scores["mean_n_words"] == 4
    # The vote is right: against a text that always says A in every second presentation.
    assert scores["contradiction_share"] == 0.5
    copied = rationale_scores(
        judgments({p: ([(0.9, "right")],) * 2 for p in ids}, rationale="request of p0 good"), pairs, "brief"
    )
    assert copied["copied_share"] == pytest.approx(0.25 * 0.5)  # one of two 3-grams, for one pair of four
    always_a = {p: tuple([(0.9 if chosen_is_a(p, s) else 0.1, "right")] for s in (False, True)) for p in ids}
    assert rationale_scores(judgments(always_a), pairs, "brief")["position_bias"] == 0.5


def test_quotations(judgments, preferences):
    table = judgments({"p0": ([(0.9, "right")],) * 2}, rationale='It asks for "request of p0" and "a wombat".')
    assert rationale_scores(table, preferences(["p0"]), "brief")["misquoted_share"] == 0.5
    table = judgments({"p0": ([(0.9, "right")],) * 2}, rationale="It says so.")
    assert rationale_scores(table, preferences(["p0"]), "brief")["misquoted_share"] is None
