"""The table's arithmetic on judgments written by hand."""

from statistics import stdev

import polars as pl
import pytest

from data_tools.order import chosen_is_a
from data_tools.schema import JUDGMENT, PREFERENCE, conform
from genrm_lightning.compare import show, table
from genrm_lightning.evaluation.intervals import clustered_interval, paired_difference

COSTS = dict.fromkeys(table.COSTS, 0) | {"dropped": {"id": [], "ood": []}}


def preferences(categories):
    """PREFERENCE rows p0, p1, ...: one of each prompt."""
    rows = [
        {
            "pair_id": f"p{i}",
            "category": category,
            "prompt": [{"role": "user", "content": f"Question {i}?"}],
            "chosen": "yes",
            "rejected": "no",
        }
        for i, category in enumerate(categories)
    ]
    return conform(pl.DataFrame(rows), PREFERENCE)


def judgments(scores, n_tokens=0):
    """JUDGMENT rows: scores[i] is how many of pair i's two orders (or which: a tuple of booleans) are right."""
    rows = []
    for i, score in enumerate(scores):
        right = score if isinstance(score, tuple) else (score >= 1, score == 2)
        for swapped, is_right in zip((False, True), right, strict=True):
            p_a = 0.9 if chosen_is_a(f"p{i}", swapped) == is_right else 0.1
            rows.append(
                {
                    "pair_id": f"p{i}", "swapped": swapped, "sample_index": 0, "p_a": p_a, "n_tokens": n_tokens,
                    "verdict": "A" if p_a > 0.5 else "B",
                }
            )  # fmt: skip
    return conform(pl.DataFrame(rows), JUDGMENT)


def judged(name, *seeds, writes=False, **costs):
    """A method that did ``seeds`` (scores a pair) on both sets."""
    tables = [judgments(scores, 5 if writes else 0) for scores in seeds]
    return table.Judged(name, name.upper(), {"id": tables, "ood": tables}, [COSTS | costs] * len(seeds), writes)


PAIRS = preferences(["chat", "chat", "math", None])
BOTH = {"id": PAIRS, "ood": PAIRS}


def test_one_seed():
    row = table.row(judged("a", [2, 1, 0, 2], writes=True, pairs=7, steps=3), BOTH)
    assert row["accuracy_id"] == 5 / 8 and row["position_consistent_accuracy_id"] == 2 / 4
    mean, low, high = clustered_interval([1, 0.5, 0, 1], ["a", "b", "c", "d"])
    assert (row["accuracy_ood"], row["accuracy_ood_low"], row["accuracy_ood_high"]) == (mean, low, high)
    assert row["accuracy_id_sd"] is row["accuracy_id_min"] is row["accuracy_id_max"] is None
    kinds = {kind: (found["n_pairs"], found["accuracy"]) for kind, found in row["categories_ood"].items()}
    assert kinds == {"(none)": (1, 1.0), "chat": (2, 0.75), "math": (1, 0.0)}
    assert row["free_accuracy_id"] == 5 / 8 and row["invalid_rate_id"] == 0 and row["tokens_a_verdict"] == 5
    assert (row["pairs"], row["steps"], row["samples"]) == (7, 3, 0)


def test_seeds_are_means_and_their_spread_stands_apart():
    # Accuracies of the seeds: 1, 1/2, 3/4.
    row = table.row(judged("a", [2, 2, 2, 2], [2, 2, 0, 0], [2, 1, 1, 2]), BOTH)
    assert row["accuracy_id"] == pytest.approx(0.75) and row["accuracy_id_sd"] == pytest.approx(0.25)
    assert (row["accuracy_id_min"], row["accuracy_id_max"]) == (0.5, 1.0)
    # The interval is over pairs: each counts with its mean over the seeds.
    _, low, high = clustered_interval([1, 5 / 6, 1 / 2, 2 / 3])
    assert (row["accuracy_id_low"], row["accuracy_id_high"]) == pytest.approx((low, high))
    assert row["categories_id"]["chat"]["accuracy_sd"] == pytest.approx(stdev([1, 1, 0.75]))


def test_pairs_of_one_prompt_count_together():
    same = [PAIRS["prompt"][0].to_list()] * len(PAIRS)
    twice = PAIRS.with_columns(prompt=pl.Series(same, dtype=PREFERENCE["prompt"]))
    alone, together = (table.row(judged("a", [2, 2, 0, 2]), {"id": one, "ood": one}) for one in (PAIRS, twice))
    widths = [row["accuracy_id_high"] - row["accuracy_id_low"] for row in (alone, together)]
    assert widths[0] < widths[1]


def test_differences():
    methods = [judged("a", [2, 1, 0, 2]), judged("b", [2, 2, 2, 0]), judged("c", [1, 1, 1, 1], [2, 2, 2, 2])]
    found = table.differences(methods, ["a", "missing"], BOTH)
    assert [(one["method"], one["set"]) for one in found] == [("b", "id"), ("b", "ood"), ("c", "id"), ("c", "ood")]
    assert {key: found[0][key] for key in ("diff", "low", "high")} == pytest.approx(
        paired_difference([1, 0.5, 0, 1], [1, 1, 1, 0])._asdict()
    )
    assert found[0]["diff"] == 0.125 and found[0]["sd"] is None and found[0]["n_pairs"] == 4
    # Against the one seed of the baseline: -1/8 and 3/8.
    assert found[2]["diff"] == 0.125 and found[2]["sd"] == pytest.approx(0.5 / 2**0.5)
    # The other way round the seeds are the baseline's.
    found = table.differences(methods, ["c"], BOTH)
    assert found[0]["diff"] == -0.125 and found[0]["sd"] == pytest.approx(0.5 / 2**0.5)


def test_what_one_method_could_not_read_counts_for_none():
    first, second = judged("a", [2, 2, 2, 2]), judged("b", [0, 2, 2, 2])
    short = {"id": second.tables["id"], "ood": [second.tables["ood"][0].filter(pl.col("pair_id") != "p3")]}
    facts = [COSTS | {"dropped": {"id": [], "ood": ["p3"]}}]
    kept, dropped = table.in_common([first, table.Judged("b", "B", short, facts, False)], BOTH)
    assert dropped == {"id": 0, "ood": 1}
    assert all("p3" not in set(one.tables["ood"][0]["pair_id"]) for one in kept)
    assert all("p3" in set(one.tables["id"][0]["pair_id"]) for one in kept)
    assert [table.row(one, BOTH)["accuracy_ood"] for one in kept] == [1.0, pytest.approx(2 / 3)]


def test_seeds_of_other_pairs_are_refused():
    tables = [judgments([2, 2, 2, 2]), judgments([2, 2, 2, 2]).filter(pl.col("pair_id") != "p1")]
    with pytest.raises(ValueError, match="the same pairs from every seed"):
        table.row(table.Judged("a", "A", {"id": tables, "ood": tables}, [COSTS] * 2, False), BOTH)


def test_unequal():
    rows = [
        {"method": "a", "samples": 1000, "steps": 100, "pairs": 5},
        {"method": "b", "samples": 1009, "steps": 102, "pairs": 5},
        {"method": "c", "samples": 0, "steps": 100, "pairs": 5},
    ]
    assert table.unequal(rows, ["samples", "pairs"]) == {}
    assert table.unequal(rows, ["samples", "steps"]) == {"steps": {"a": 100, "b": 102, "c": 100}}


def test_markdown_keeps_labels_in_their_cells():
    methods = [judged("a|[b](c)<i>", [2, 2, 2, 2]), judged("b", [2, 2, 0, 0], [2, 2, 2, 0])]
    summary = {
        "rows": [table.row(one, BOTH) for one in methods],
        "differences": table.differences(methods, ["b"], BOTH),
        "unequal": {"steps": {"a": 1.0, "b": 2.0}},
        "failed": {"x": "why"},
        "missing": ["y"],
        "n_pairs": {"id": 4, "ood": 4},
        "n_dropped": {"id": 0, "ood": 2},
    }
    text = show.markdown(summary)
    lines = [line for line in text.splitlines() if line.startswith("|")]
    cells = {line.replace("\\|", "").count("|") for line in lines if line.startswith("| ")}
    assert len(lines) == 2 * 4 + 3 and len(cells) == 3 and "<i>" not in text and "[b](c)" not in text
    assert "62.5 (" in lines[3] and "±17.7 [50.0–75.0]" in lines[3]
    for said in ("FAILED: x: why", "Not run yet: y.", "NOT EQUAL: steps: a 1, b 2.", "2 of OOD"):
        assert said in text
