"""What holds for every selection: rows in any order, files as frames, counts that add up."""

from __future__ import annotations

import random

import polars as pl
import pytest

from data_tools import star
from data_tools.selection import filters, frames, ranking, rendering
from data_tools.selection.pairings import ranked
from data_tools.selection.wordlists import repetition, word_codes
from data_tools.words import distinct_share, words
from tests.data_tools.selection.tables import many, preferences, table

IDS = [f"p-{i}" for i in range(30)]
SELECTIONS = [
    {"objective": "sft", "filters": ["distinct_rationales", "near_duplicates", "both_orders", "balance"]},
    {"objective": "sft", "filters": ["consistency_band", "no_repetition:min_distinct=0.9"], "ranking": "random"},
    {
        "objective": "sft",
        "filters": ["hardest:pairs=20", "balance_lengths:width=1"],
        "ranking": "r_star",
        "per_prompt": 3,
    },
    {"objective": "labelled", "filters": ["min_words:words=9"], "ranking": "shortest", "per_prompt": 2},
    {"objective": "own", "per_prompt": 3},
    {"objective": "rationalizer", "filters": ["balance_categories"]},
    {"objective": "dpo", "uncoupled": "keep", "per_prompt": 2},
    *(
        {"objective": "dpo", "pairing": name, "filters": ["max_length_ratio:ratio=3", "balance_sides"], "per_prompt": 2}
        for name in star.PAIRINGS
    ),
]
EVERY = pytest.mark.parametrize("options", SELECTIONS, ids=lambda o: f"{o['objective']}-{o.get('pairing', '')}")


@EVERY
@pytest.mark.parametrize("unknown", [False, True])
def test_the_order_of_the_rows_plays_no_part(options, unknown):
    rows = many(5, unknown=unknown)
    mixed = random.Random(1).sample(rows, len(rows))
    there, back = (star.examples(table(order), preferences(IDS), **options) for order in (rows, mixed))
    assert there[0].equals(back[0]) and there[1] == back[1]


@EVERY
def test_files_give_what_frames_give(options, tmp_path, monkeypatch):
    judgments = table(many(6))
    expected, counts = star.examples(judgments, preferences(IDS), **options)
    for number, start in enumerate(range(0, judgments.height, 100)):
        judgments.slice(start, 100).write_parquet(tmp_path / f"{number}.parquet", row_group_size=17)
    preferences(IDS).write_parquet(tmp_path / "preferences.parquet")
    scans = pl.scan_parquet(tmp_path / "[0-9]*.parquet"), pl.scan_parquet(tmp_path / "preferences.parquet")
    for part in (10**6, 20):  # in one piece, and by way of files
        monkeypatch.setattr(rendering, "PART", part)
        out = tmp_path / "out" / "examples.parquet"
        assert star.write_examples(*scans, out, **options) == counts
        assert pl.read_parquet(out).equals(expected)
        assert [path.name for path in out.parent.iterdir()] == ["examples.parquet"], "nothing else is left"


def test_a_failure_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(rendering, "PART", 20)
    broken = preferences(IDS).with_columns(chosen=pl.lit(None, pl.String))  # as no reader lets through
    with pytest.raises(TypeError):
        star.write_examples(table(many(6)), broken, tmp_path / "examples.parquet", objective="sft")
    assert list(tmp_path.iterdir()) == []


@EVERY
def test_counts_add_up(options):
    judgments = table(many(7))
    frame, counts = star.examples(judgments, preferences(IDS), **options)
    assert counts["sampled"] == counts["right"] + counts["wrong"] == judgments.height
    start = judgments.height if options["objective"] in ("labelled", "own") else counts["right"]
    for step in counts["steps"]:
        if step["step"] == "pairing":
            start = step["kept"] if step["kept"] > step["given"] else start
            continue
        if step["of"] != "couples" or options.get("uncoupled") != "keep":
            assert step["given"] == start, step
        start = start - step["given"] + step["kept"]
    assert start == counts["kept"] == frame.height == sum(counts["letters"].values())
    assert counts["pairs"] == frame["pair_id"].n_unique()


@pytest.mark.parametrize("spec", [*filters.FILTERS, "distinct_rationales:scope=prompt", "hardest:pairs=5"])
def test_a_filter_applied_twice_keeps_what_it_kept_once(spec):
    judged, samples = frames.read(table(many(8)), preferences(IDS).lazy(), "vote")
    name, function = filters.parse_filter(spec)
    samples = ranking.best_first(judged, samples, "r_star").join(
        judged.pairs.select("pair", "draw", "category"), on="pair"
    )
    texts = judged.scan.select("row", "rationale").collect()
    right = ranked(samples.filter("right").sort("order").lazy()).collect().join(texts, on="row", maintain_order="left")
    right = judged.with_pairs(right.lazy()).collect()
    right = right.with_columns(rejected_length=pl.col("length").reverse())
    once = function(right.lazy()).select("row").collect().sort("row")
    again = function(right.join(once, on="row", how="semi").lazy()).select("row").collect().sort("row")
    assert once.equals(again) and 0 < once.height <= right.height, name


def test_words_are_those_of_the_scores():
    said = [row["rationale"] for row in many(9)] + [
        "", " ", "...", "Don't: and/or (x_1) 2-3", "It is very, very, VERY good", "Σίσυφος ΣΊΣΥΦΟΣ σίσυφοσ", "İi ıI",
        "one\ttwo\nthree\u2003four", "a  b   c", "日本語 テキスト", "word " * 300,
    ]  # fmt: skip
    codes, vocabulary = word_codes(pl.Series(said))
    found = [vocabulary.gather(codes.filter(pl.col("text") == i)["word"]).to_list() for i in range(len(said))]
    assert found == [words(text) for text in said]

    def longest_run(text):
        found, run, longest = words(text), 0, 0
        for i, word in enumerate(found):
            run = run + 1 if i and word == found[i - 1] else 1
            longest = max(longest, run)
        return longest

    assert repetition(pl.Series(said)).rows() == [(distinct_share(text), longest_run(text)) for text in said]
    # More words than 64 bits hold in fours.
    said = [" ".join(f"w{i * 4 + j}" for j in range(4)) for i in range(17_000)] + ["a b c d a b c d"]
    assert repetition(pl.Series(said), n=4)["distinct_share"].value_counts(sort=True).rows() == [
        (1.0, 17_000),
        (0.8, 1),
    ]
