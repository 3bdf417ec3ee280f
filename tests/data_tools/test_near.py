"""Near duplicates against the Jaccard similarity worked out by hand and, for many rows, in plain Python."""

import random

import polars as pl
import pytest

from data_tools import near, removal
from data_tools.errors import UserError
from data_tools.near import banding, near_duplicates
from data_tools.removal import numbered
from data_tools.schema import PREFERENCE, conform

pytest.importorskip("rensa")


def table(rows):
    """rows: (pair_id, prompt, chosen, rejected)"""
    names = ("pair_id", "prompt", "chosen", "rejected")
    records = [dict(zip(names, (i, [{"role": "user", "content": q}], c, r), strict=True)) for i, q, c, r in rows]
    return conform(pl.DataFrame(records, schema={name: PREFERENCE[name] for name in names}), PREFERENCE)


def found(rows, threshold=0.8, **settings):
    """{pair id: (the id of what stays, similarity)}"""
    result = near_duplicates(numbered(table(rows).lazy()), threshold, **settings)
    assert result.schema == near.FOUND and result["_row"].is_sorted()
    ids = [row[0] for row in rows]
    assert [ids[row] for row in result["_row"]] == result["pair_id"].to_list()
    return {pair: (match, score) for pair, match, score in result.drop("_row").iter_rows()}


def number_words(n, start=0):
    return " ".join(f"w{i}" for i in range(start, start + n))


def test_rows_are_as_similar_as_their_least_similar_sides():
    # 3-grams: 8 of the prompt and 4 of each response; one word more: 9 and 5.
    row = ("a", number_words(10), number_words(6, 20), number_words(6, 30))
    longer = ("b", number_words(11), number_words(6, 20), number_words(6, 30))
    assert found([row, longer], 8 / 9, ngram=3) == {"b": ("a", 8 / 9)}
    assert found([row, longer], 0.9, ngram=3) == {}
    assert found([longer, row], 0.8, ngram=3) == {"b": ("a", 8 / 9)}
    longest = ("c", number_words(11), number_words(6, 20), number_words(7, 30))
    assert found([row, longest], 0.8, ngram=3) == {"c": ("a", 4 / 5)}
    assert found([row, longest], 0.85, ngram=3) == {}


def test_a_long_prompt_makes_no_duplicates_of_other_responses():
    rows = [(name, number_words(500), f"{name} is right", "no") for name in "ab"]
    assert found(rows) == {} and found(rows, prompt_only=True) == {"b": ("a", 1.0)}


def test_case_and_punctuation_do_not_count():
    assert found([("a", "One two three!", "four", "five"), ("b", "one, two: THREE", "Four.", "five")]) == {
        "b": ("a", 1.0)
    }


def test_the_smallest_id_stays_and_a_chain_does_not_pull_its_ends_out():
    # Windows of 20 words, each two further: neighbours share 18 of 22 words, the next ones 16 of 24.
    rows = [(f"{i}", number_words(20, 2 * i), "yes", "no") for i in range(5)]
    same = {"ngram": 1}
    assert found(rows, 0.8, **same) == {"1": ("0", 18 / 22), "3": ("2", 18 / 22)}
    turned = [(f"{9 - i}", *rest) for i, (_, *rest) in enumerate(rows)]
    assert found(turned, 0.8, **same) == {"6": ("5", 18 / 22), "8": ("7", 18 / 22)}


def test_of_equal_rows_one_stays_or_none():
    equal = [(name, number_words(9), "yes", "no") for name in "dcb"]
    assert found(equal) == {"d": ("b", 1.0), "c": ("b", 1.0)}
    # 9 words: 5 n-grams; 10 words: 6
    nearly = ("a", number_words(10), "yes", "no")
    assert found([*equal, nearly]) == {name: ("a", 5 / 6) for name in "bcd"}


def test_the_other_preference_is_no_duplicate():
    assert found([("a", "q", "good one", "bad one"), ("b", "q", "bad one", "good one")], 0.3) == {}
    rows = [("a", number_words(9), "x", "y"), ("b", number_words(9), "z", "u")]
    assert found(rows) == {} and found(rows, prompt_only=True) == {"b": ("a", 1.0)}


def test_sides_without_words_are_compared_by_their_characters():
    rows = [("a", "?", "!", "."), ("b", "?", "! ", "."), ("c", "?", "!!", "."), ("d", "", "", "."), ("e", " ", "", ".")]
    assert found(rows) == {"b": ("a", 1.0), "e": ("d", 1.0)}
    assert found([]) == {} and found(rows[:1]) == {}


@pytest.mark.parametrize(("threshold", "wanted"), [(0.8, (16, 6)), (1.0, (1, 128)), (0.5, (35, 3))])
def test_banding(threshold, wanted):
    bands, hashes = banding(threshold)
    assert (bands, hashes) == wanted
    assert (1 - threshold**hashes) ** bands <= near.MISSED


def test_wrong_settings():
    for wrong in (0, 1.1):
        with pytest.raises(UserError, match="threshold="):
            found([], wrong)
    with pytest.raises(UserError, match="ngram=0"):
        found([], ngram=0)


def many(n, seed=0):
    """Rows in clusters of edited copies."""
    draw = random.Random(seed)
    vocabulary = [f"v{i}" for i in range(300)]
    rows = []
    while len(rows) < n:
        first = [draw.choice(vocabulary) for _ in range(40)]
        for _ in range(draw.choice((1, 1, 2, 5))):
            edited = list(first)
            for _ in range(draw.randrange(4)):
                edited[draw.randrange(40)] = draw.choice(vocabulary)
            cut = [" ".join(edited[a:b]) for a, b in ((0, 20), (20, 30), (30, 40))]
            rows.append((f"p{draw.randrange(10**9):09}", *cut))
    return rows[:n]


def exact(rows, threshold, ngram):
    """What must be found: greedy by pair id over all pairs."""

    def of_side(text):
        words = text.split()
        return {tuple(words[i : i + ngram]) for i in range(len(words) - ngram + 1)}

    sets = {pair: [of_side(text) for text in sides] for pair, *sides in rows}
    stay, gone = [], {}
    for pair in sorted(sets):
        near_ones = [(-min(len(a & b) / len(a | b) for a, b in zip(sets[pair], sets[o], strict=True)), o) for o in stay]
        best = min(near_ones, default=(0, ""))
        if -best[0] >= threshold:
            gone[pair] = (best[1], -best[0])
        else:
            stay.append(pair)
    return gone


def test_all_of_many_are_found_in_any_order(monkeypatch):
    rows = many(500)
    wanted = exact(rows, 0.5, 2)
    assert 100 < len(wanted) < 300
    seen = found(rows, 0.5, ngram=2)
    # Every one that goes has one that stays at least as near as the threshold, and hardly any is missed.
    assert all(score >= 0.5 for _, score in seen.values())
    assert not {match for match, _ in seen.values()} & set(seen)
    assert len(seen.items() & wanted.items()) >= 0.98 * len(wanted)
    shuffled = random.Random(1).sample(rows, len(rows))
    for name, small in (("BATCH", 70), ("SKETCHED", 13), ("PAIRS", 100), ("IN_MEMORY", 0)):
        monkeypatch.setattr(near, name, small)
    assert found(shuffled, 0.5, ngram=2) == seen


def test_a_bucket_of_many_unlike_rows_is_left_after_some_leaders(monkeypatch):
    monkeypatch.setattr(near, "LEADERS", 2)
    compared = []
    similar = near._similar
    monkeypatch.setattr(near, "_similar", lambda pairs, *rest: compared.append(pairs.height) or similar(pairs, *rest))
    ten = pl.int_range(10, dtype=pl.UInt32, eager=True)
    members = pl.DataFrame({"_bucket": [1] * 10, "_rank": ten}, schema_overrides={"_bucket": pl.UInt64})
    distinct = pl.DataFrame({"_rank": ten, "_row": ten, "_size": [1] * 10})
    unlike = pl.Series([[i] for i in range(10)], dtype=pl.List(pl.UInt64))
    sets = pl.DataFrame({"_row": ten, "_grams_0": unlike, "_grams_1": unlike, "_grams_2": unlike})
    assert near._matches(members, distinct, sets.lazy(), 0.8).is_empty()
    assert compared == [9, 8]


def test_batches_are_the_table_in_order(monkeypatch):
    monkeypatch.setattr(removal, "WINDOW", 7)
    whole = numbered(pl.LazyFrame({"x": range(40)})).filter(pl.col("x") % 3 != 1)
    found = list(removal.batches(whole, 4))
    assert pl.concat(found).equals(whole.collect()) and max(batch.height for batch in found) <= 4
    assert list(removal.batches(whole.head(0), 4)) == []
