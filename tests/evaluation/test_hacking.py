"""The hacking suite's numbers: hand values, an independent count, controls, sets that lack pairs; the table."""

from __future__ import annotations

import io
import json
import random

import pytest
from rich.console import Console

from data_tools.attacks import ATTACKS
from data_tools.order import chosen_is_a
from genrm_lightning.evaluation.hacking import hacking
from genrm_lightning.evaluation.hacking_table import render
from genrm_lightning.evaluation.intervals import clustered_interval, paired_difference
from genrm_lightning.evaluation.scores import set_scores

R, W, N = "right", "wrong", "INVALID"
RIGHT, WRONG, TIE = [(0.9, R)], [(0.2, W)], [(0.5, N)]
CLEAN = {"a": (RIGHT, RIGHT), "b": (RIGHT, WRONG), "c": (WRONG, WRONG), "d": (TIE, TIE)}
UNDER = {"a": (WRONG, RIGHT), "b": (WRONG, WRONG), "c": (WRONG, WRONG), "d": (RIGHT, RIGHT)}


def only(found):
    (row,) = found["attacks"]
    return row


def test_by_hand(judgments, preferences):
    found = hacking(judgments(CLEAN), {"flattery": judgments(UNDER)}, preferences("abcd"))
    row, clean = only(found), found["clean"]
    assert (found["n_pairs"], found["n_given"], row["n_pairs"], row["n_dropped"]) == (4, 4, 4, 0)
    before, after = [0, 0.5, 1, 0.5], [0.5, 1, 1, 0]
    assert (clean["win_rate"], row["clean_win_rate"], row["win_rate"]) == (0.5, 0.5, 0.625)
    assert (row["win_rate"], row["win_low"], row["win_high"]) == clustered_interval(after)
    assert (row["diff"], row["diff_low"], row["diff_high"]) == paired_difference(before, after)
    assert (row["n_right"], row["flipped"], row["flipped_both"], row["flipped_rate"]) == (1, 1, 0, 1.0)
    assert (row["invalid_rate"], row["clean_invalid_rate"], row["invalid_diff"]) == (0, 0.25, -0.25)
    assert (row["free_win_rate"], row["clean_free_win_rate"]) == (5 / 8, 3 / 8) and row["free_diff"] == 0.25
    assert (clean["tie_rate"], row["tie_rate"]) == (0.25, 0)
    assert row["mean_p"] == pytest.approx((5 * 0.8 + 3 * 0.1) / 8)
    assert row["p_diff"] == pytest.approx(row["mean_p"] - row["clean_mean_p"])
    assert (clean["position_consistency"], row["position_consistency"]) == (0.5, 0.75)
    assert (row["name"], row["kind"], row["family"], row["nothing"]) == ("flattery", "append", "persuasion", False)
    assert row["description"] and row["source"] and row["lost_to_nothing"] is None
    assert row["control"] == "neutral_end" and row["control_diff"] is row["control_win_rate"] is None
    json.dumps(found, allow_nan=False)


def test_free_wins_and_invalid_texts_over_samples(judgments, preferences):
    under = {"a": ([(0.9, W), (0.9, N), (0.9, R), (0.9, W)], [(0.9, N)] * 4)}
    row = only(hacking(judgments({"a": (RIGHT, RIGHT)}), {"empty": judgments(under)}, preferences("a")))
    assert (row["free_win_rate"], row["invalid_rate"], row["win_rate"]) == (0.25, 5 / 8, 0)
    assert row["lost_to_nothing"] == 0.0 and row["nothing"]


def test_what_loses_to_nothing_in_one_order_has_lost(judgments, preferences):
    under = {"a": (WRONG, RIGHT), "b": (RIGHT, RIGHT), "c": (WRONG, WRONG), "d": (TIE, RIGHT)}
    row = only(hacking(judgments(CLEAN), {"empty": judgments(under)}, preferences("abcd")))
    assert row["lost_to_nothing"] == 0.5 and row["win_rate"] == 3.5 / 8


def test_a_judge_that_follows_the_letter_shows_in_the_places(judgments, preferences):
    ids = [f"p{i}" for i in range(20)]

    def always_a(pair):
        return tuple([(0.9, R)] if chosen_is_a(pair, swapped) else [(0.1, W)] for swapped in (False, True))

    clean = judgments({pair: (RIGHT, RIGHT) for pair in ids})
    row = only(hacking(clean, {"verdict_a": judgments({p: always_a(p) for p in ids})}, preferences(ids)))
    assert (row["win_as_a"], row["win_as_b"], row["win_rate"]) == (1.0, 0.0, 0.5)
    assert (row["share_a"], row["clean_share_a"], row["position_consistency"]) == (1.0, 0.5, 0.0)
    assert (row["flipped"], row["flipped_both"]) == (20, 0)


def test_an_independent_count(judgments, preferences):
    draw, ids = random.Random(5), [f"p{i:02d}" for i in range(40)]

    def table(skill):
        return {
            pair: tuple([(p := draw.random() ** (1 / skill), R if p > 0.5 else W)] for _ in range(2)) for pair in ids
        }

    clean, under, control = table(2.0), table(0.5), table(1.0)
    tables = {name: judgments(one) for name, one in (("padding", under), ("neutral_end_long", control))}
    pairs = preferences(ids)
    found = hacking(judgments(clean), tables, pairs)
    row, plain = found["attacks"]
    assert (row["name"], plain["name"], plain["kind"]) == ("padding", "neutral_end_long", "control")

    def wins(table):
        return [sum(samples[0][0] < 0.5 for samples in table[pair]) / 2 for pair in ids]

    assert row["win_rate"] == pytest.approx(sum(wins(under)) / 40) and row["n_right"] == wins(clean).count(0)
    flipped = [pair for pair, a, b in zip(ids, wins(clean), wins(under), strict=True) if a == 0 < b]
    assert 0 < row["flipped"] == len(flipped) and row["flipped_rate"] == len(flipped) / row["n_right"]
    assert row["win_rate"] == pytest.approx(1 - set_scores(tables["padding"], pairs).accuracy)
    change = paired_difference(wins(control), wins(under))
    assert (row["control_diff"], row["control_low"], row["control_high"]) == pytest.approx(change)
    assert row["control_win_rate"] == plain["win_rate"] and plain["control"] is plain["control_diff"] is None
    assert (row["diff"], row["diff_low"], row["diff_high"]) == pytest.approx(
        paired_difference(wins(clean), wins(under))
    )


def test_pairs_that_did_not_fit_are_in_no_comparison(judgments, preferences):
    under = {pair: UNDER[pair] for pair in "abc"}
    control = {pair: CLEAN[pair] for pair in "acd"}
    tables = {"flattery": judgments(under), "neutral_end": judgments(control)}
    found = hacking(judgments({p: CLEAN[p] for p in "abcd"}), tables, preferences("abcde"))
    rows = {row["name"]: row for row in found["attacks"]}
    assert (found["n_pairs"], found["n_given"]) == (4, 5)
    assert (rows["flattery"]["n_pairs"], rows["flattery"]["n_dropped"]) == (3, 2)
    assert rows["flattery"]["clean_win_rate"] == 0.5 and rows["flattery"]["win_rate"] == pytest.approx(2.5 / 3)
    tables["neutral_end"] = judgments({"d": CLEAN["d"]})
    apart = hacking(judgments(CLEAN), tables, preferences("abcde"))["attacks"]
    assert all(row["control_diff"] is row["control_win_rate"] is None for row in apart)
    # Of all three: a and c.
    assert (rows["flattery"]["control_win_rate"], rows["flattery"]["control_diff"]) == (0.5, 0.25)


def test_where_no_attack_wins_the_one_that_comes_nearer_stands_first(judgments, preferences):
    tables = {name: judgments({"a": ([(p, R)], [(p, R)])}) for name, p in (("empty", 0.9), ("symbol", 0.6))}
    found = hacking(judgments({"a": (RIGHT, RIGHT)}), tables, preferences("a"))
    assert [row["name"] for row in found["attacks"]] == ["symbol", "empty"]
    assert found["attacks"][0]["p_diff"] == pytest.approx(0.3) and found["attacks"][0]["win_rate"] == 0


def test_intervals_count_prompts(judgments, preferences):
    ids = [f"p{i:02d}" for i in range(12)]
    pairs = preferences(ids)
    tied = pairs.with_columns(prompt=pairs["prompt"].gather([i % 3 for i in range(12)]))
    clean = judgments({pair: (RIGHT, RIGHT) for pair in ids})
    under = judgments({pair: ((WRONG if i % 3 else RIGHT),) * 2 for i, pair in enumerate(ids)})
    alone, together = (only(hacking(clean, {"symbol": under}, one)) for one in (pairs, tied))
    assert alone["diff"] == together["diff"]
    assert together["diff_high"] - together["diff_low"] > 1.5 * (alone["diff_high"] - alone["diff_low"])


def test_tables_that_do_not_belong_together(judgments, preferences):
    clean = judgments(CLEAN)
    with pytest.raises(ValueError, match="expected names of attacks, got 'flatery'; there are: thought_process_alone"):
        hacking(clean, {"flatery": clean}, preferences("abcd"))
    with pytest.raises(ValueError, match="clean and under 'empty', got none in common"):
        hacking(clean, {"empty": judgments({"z": (RIGHT, RIGHT)})}, preferences("abcdz"))
    with pytest.raises(ValueError, match="1 judged pairs are not among the given pairs, such as 'd'"):
        hacking(clean, {"empty": clean}, preferences("abc"))
    with pytest.raises(ValueError, match="expected both orders"):
        hacking(clean, {"empty": clean.head(1)}, preferences("abcd"))


def test_the_table_has_the_worst_first_and_controls_last(judgments, preferences):
    tables = {"empty": judgments(CLEAN), "flattery": judgments(UNDER), "neutral_end": judgments(UNDER)}
    tables["symbol"] = judgments({pair: CLEAN[pair] for pair in "ab"})
    found = hacking(judgments(CLEAN), tables, preferences("abcd"))
    assert [row["name"] for row in found["attacks"]] == ["flattery", "neutral_end", "empty", "symbol"]
    narrow = Console(file=io.StringIO(), width=80)
    render(found, "a judge", narrow)
    lines = narrow.file.getvalue().splitlines()
    assert max(map(len, lines)) <= 80 and "…" not in narrow.file.getvalue()
    at = next(i for i, line in enumerate(lines) if line.split()[:1] == ["flattery"])
    assert lines[at].split() == ["flattery", "62.5", "50.0", "+12.5", "+0.0", "1/1"] and " to +" in lines[at + 1]
    console = Console(file=io.StringIO(), width=200)
    render(found, "a [red]judge\x1b[31m", console)
    said = console.file.getvalue()
    assert "a [red]judge" in said and "\x1b" not in said
    lines = [line.split() for line in said.splitlines()]
    rows = {line[0]: line for line in lines if line and line[0] in ATTACKS}
    assert list(rows) == ["flattery", "empty", "symbol", "neutral_end"]
    assert rows["empty"][1] == "*" and rows["flattery"][1] == "62.5"
    places = ["50.0", "/", "75.0"] if chosen_is_a("a", False) else ["75.0", "/", "50.0"]
    assert rows["flattery"][-5:] == ["1/1", *places, "0.0"]
    assert "2 the most" not in said and "symbol the most: 2" in said
