"""Judgments -> labels."""

import polars as pl
import pytest

from data_tools.errors import UserError
from data_tools.order import chosen_is_a
from data_tools.schema import JUDGMENT, PREFERENCE, check, conform
from genrm_lightning.labelling.labels import LABELS, labels_of
from tests.tiny import preferences


def judgments(p_first, rationales=None):
    """JUDGMENT rows: pair -> order -> probabilities of the pair's first response, a sample each."""
    rows = []
    for i, orders in enumerate(p_first):
        for swapped, samples in zip((False, True), orders, strict=True):
            is_a = chosen_is_a(f"pair-{i}", swapped)
            for k, p in enumerate(samples):
                p_a = p if is_a else 1 - p
                letter = "A" if p_a > 0.5 else "B"
                text = "" if rationales is None else f"{i} {swapped} {k} {p}"
                own = {"pair_id": f"pair-{i}", "swapped": swapped, "sample_index": k, "p_a": p_a, "vote": letter}
                rows.append({**own, "verdict": letter, "rationale": text, "n_tokens": 5, "finish_reason": "stop"})
    return conform(pl.DataFrame(rows), JUDGMENT)


SAID = [
    [[0.9, 0.7], [0.8, 0.8]],  # the first, 0.8
    [[0.2, 0.2], [0.1, 0.3]],  # the second, 0.8
    [[1.0, 1.0], [0.0, 0.0]],  # position alone: one half
    [[0.6, 0.6], [0.55, 0.55]],  # the first, 0.575
    [[0.9, 0.9], [0.3, 0.3]],  # the first, 0.6, but the orders differ
]


def test_the_better_response_is_chosen():
    pairs = preferences(5)
    found = labels_of(pairs, judgments(SAID), judge="j")
    assert found.labels.schema == LABELS and found.abstained.is_empty()
    rows = {row["pair_id"]: row for row in found.labels.to_dicts()}
    given = {row["pair_id"]: row for row in pairs.to_dicts()}
    assert sorted(rows) == ["pair-0", "pair-1", "pair-3", "pair-4"]
    assert rows["pair-0"]["chosen"] == given["pair-0"]["chosen"]
    assert (rows["pair-1"]["chosen"], rows["pair-1"]["rejected"]) == (
        given["pair-1"]["rejected"], given["pair-1"]["chosen"],
    )  # fmt: skip
    for name, p in (("pair-0", 0.8), ("pair-1", 0.8), ("pair-3", 0.575), ("pair-4", 0.6)):
        assert rows[name]["p"] == pytest.approx(p) and rows[name]["margin"] == pytest.approx(2 * p - 1)
    assert [rows[name]["consistent"] for name in sorted(rows)] == [True, True, True, False]
    assert rows["pair-0"]["votes"] == rows["pair-1"]["votes"] == 1 and rows["pair-4"]["votes"] == 0.5
    assert (rows["pair-0"]["n_samples"], rows["pair-0"]["n_tokens"], rows["pair-0"]["judge"]) == (4, 20, "j")
    (tie,) = found.ties.to_dicts()
    assert (tie["pair_id"], tie["p"], tie["margin"]) == ("pair-2", 0.5, None)
    check(found.labels, PREFERENCE, "labels")


def test_swapping_the_responses_changes_no_label():
    """Which response a row names first says nothing: the same verdicts label the turned pair the same way."""
    pairs, table = preferences(5), judgments(SAID)
    turned = pairs.with_columns(chosen="rejected", rejected="chosen")
    mirrored = table.with_columns(
        p_a=1 - pl.col("p_a"), vote=pl.when(vote="A").then(pl.lit("B")).otherwise(pl.lit("A"))
    )
    one, other = labels_of(pairs, table).labels, labels_of(turned, mirrored).labels
    same = ["pair_id", "chosen", "rejected"]
    assert one.select(same).equals(other.select(same))
    assert (one["p"] - other["p"]).abs().max() < 1e-6


def test_thresholds():
    found = labels_of(preferences(5), judgments(SAID), confidence=0.7, tie=0.08)
    names = [table["pair_id"].to_list() for table in (found.labels, found.ties, found.abstained)]
    assert names == [["pair-0", "pair-1"], ["pair-2", "pair-3"], ["pair-4"]]
    for flags, said in (({"confidence": 0.4}, "--confidence: 0.4"), ({"tie": 0.5}, "--ties: 0.5")):
        with pytest.raises(UserError, match=said):
            labels_of(preferences(5), judgments(SAID), **flags)


def test_the_surest_rationale_of_the_label_is_kept():
    rows = {r["pair_id"]: r for r in labels_of(preferences(5), judgments(SAID, rationales=True)).labels.to_dicts()}
    assert (rows["pair-0"]["rationale"], rows["pair-0"]["rationale_swapped"]) == ("0 False 0 0.9", False)
    assert (rows["pair-1"]["rationale"], rows["pair-1"]["rationale_swapped"]) == ("1 True 0 0.1", True)
    assert rows["pair-4"]["rationale"] == "4 False 0 0.9"  # not of the order that says the opposite
    assert labels_of(preferences(5), judgments(SAID)).labels["rationale"].null_count() == 4


def test_pairs_that_were_not_judged_get_no_label():
    found = labels_of(preferences(7), judgments(SAID))
    assert len(found.labels) + len(found.ties) == 5
