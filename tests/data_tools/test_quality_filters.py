"""What each filter keeps; the caps against every cap there could be."""

import random
from collections import Counter

import polars as pl
import pytest

from data_tools import quality_filters as filters


def rows(*rationales: str, **columns) -> pl.DataFrame:
    n = len(rationales)
    plain = {"pair_id": [f"p{i:03}" for i in range(n)], "swapped": [False] * n, "sample_index": [0] * n}
    return pl.DataFrame({**plain, "rationale": rationales, "vote": ["A"] * n, "finish_reason": ["stop"] * n, **columns})


def kept(function, frame: pl.DataFrame, **parameters) -> list[str]:
    left = function(frame.lazy(), **parameters).collect()
    assert left.columns == frame.columns
    return left["rationale"].to_list()


def test_finished():
    frame = rows("It is short.", "It is a more", 'The sentence "A fox ran." is', "so (it is said).")
    assert kept(filters.finished, frame) == ["It is short.", "so (it is said)."]


def test_no_copying():
    quoted, own = 'The sentence "a red fox ran home" is', "It names an animal as it was asked to."
    pair = {"prompt": [[{"role": "user", "content": "Name one."}]] * 2, "chosen": ["a red fox ran home"] * 2}
    frame = rows(quoted, own, **pair, rejected=["no"] * 2)
    assert kept(filters.no_copying, frame, max_share=0.4) == [own]
    assert kept(filters.no_copying, frame, max_share=0.5) == [quoted, own]  # three of its six 3-grams
    assert kept(filters.no_copying, frame, max_share=0.0, n=6) == [quoted, own]


def test_no_misquotes():
    said = [
        'Response A says "red fox".',
        'Response A says "blue fox".',
        'It asks for "foxes", B says "blue fox".',
        "No.",
    ]
    pair = {"prompt": [[{"role": "user", "content": "Use foxes."}]] * 4, "chosen": ["A red fox."] * 4}
    frame = rows(*said, **pair, rejected=["A blue fox."] * 4, letter=["A"] * 4)
    assert kept(filters.no_misquotes, frame) == [said[0], *said[2:]]
    assert kept(filters.no_misquotes, frame, most=1) == said
    turned = frame.with_columns(letter=pl.lit("B"))
    assert kept(filters.no_misquotes, turned) == said[1:]
    assert kept(filters.no_misquotes, frame.clear()) == []


def test_own_words():
    frame = rows(
        'The sentence "A red fox ran" is', '"A red fox" is what was asked for.', "“Quoted for ever", "One two three."
    )
    assert kept(filters.min_own_words, frame) == ['"A red fox" is what was asked for.']
    assert (
        len(kept(filters.min_own_words, frame, words=3)) == 3 and len(kept(filters.min_own_words, frame, words=0)) == 4
    )


def test_by_words():
    frame = rows("Response A is better.", "B is better.", "It quotes.", "Odd \x00 text.")
    assert kept(filters.names_response, frame) == ["Response A is better.", "B is better."]
    assert kept(filters.no_contradiction, frame) == ["Response A is better.", "It quotes.", "Odd \x00 text."]
    assert kept(filters.only_text, frame) == ["Response A is better.", "B is better.", "It quotes."]
    assert len(kept(filters.only_text, frame, max_share=0.2)) == 4


@pytest.mark.parametrize("share", [0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0])
def test_a_cap_is_the_largest_that_holds(share):
    generator = random.Random(int(100 * share))
    for _ in range(40):
        texts = [f"r{i}" for i in range(generator.randint(1, 60)) for _ in range(generator.choice([1, 1, 2, 5, 30]))]
        generator.shuffle(texts)
        sizes = Counter(texts)
        holds = [c for c in range(1, len(texts)) if c <= share * sum(min(c, n) for n in sizes.values()) + 1e-9]
        cap = max(holds, default=1)
        frame = rows(*texts)
        left = kept(filters.max_corpus_share, frame, share=share)
        assert Counter(left) == {text: min(cap, n) for text, n in sizes.items()}
        # The rows' order decides nothing.
        again = filters.max_corpus_share(frame.reverse().lazy(), share=share).collect(engine="streaming")
        assert sorted(again["pair_id"]) == sorted(
            filters.max_corpus_share(frame.lazy(), share=share).collect()["pair_id"]
        )


def test_a_cap_leaves_rows_out_evenly():
    left = filters.max_corpus_share(rows(*["same"] * 10, *map(str, range(10))).lazy(), share=0.2).collect()
    assert left.filter(pl.col("rationale") == "same")["pair_id"].to_list() == ["p004", "p009"]
    backwards = rows(*["same"] * 10, *map(str, range(10))).with_columns(order=pl.int_range(20, 0, -1))
    left = filters.max_corpus_share(backwards.lazy(), share=0.2).collect()
    assert left.filter(pl.col("rationale") == "same")["pair_id"].to_list() == ["p000", "p005"]


def test_openings_are_capped_too():
    frame = rows(*[f"The sentence {i} is good" for i in range(20)], *[f"word{i} is good here" for i in range(20)])
    assert len(kept(filters.max_opening_share, frame, share=0.2, words=2)) == 25
    assert len(kept(filters.max_opening_share, frame, share=0.2, words=3)) == 40


def test_nothing_to_keep():
    for function in (filters.max_corpus_share, filters.max_opening_share, filters.finished):
        assert kept(function, rows("x").clear()) == []
