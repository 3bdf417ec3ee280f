"""Near duplicates against the Jaccard similarity worked out by hand and, for many rows, in plain Python."""

import random
from dataclasses import replace

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_tools import near, near_join, near_prefixes, near_sets, removal
from data_tools.errors import UserError
from data_tools.memory import Memory
from data_tools.near import near_duplicates
from data_tools.removal import numbered
from data_tools.schema import PREFERENCE, conform

pytest.importorskip("numpy")


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
        return {tuple(words[i : i + ngram]) for i in range(len(words) - ngram + 1)} or {tuple(words)}

    sets = {pair: [of_side(text) for text in sides] for pair, *sides in rows}
    stay, gone = [], {}
    for pair in sorted(sets):
        equal = next((other for other in gone if sets[other] == sets[pair]), None)
        if equal:  # takes that one's match, though a nearer one may stand by now
            gone[pair] = gone[equal]
            continue
        near_ones = [(-min(len(a & b) / len(a | b) for a, b in zip(sets[pair], sets[o], strict=True)), o) for o in stay]
        best = min(near_ones, default=(0, ""))
        if -best[0] >= threshold:
            gone[pair] = (best[1], -best[0])
        else:
            stay.append(pair)
    return gone


def test_all_of_many_are_found_in_any_order(monkeypatch):
    rows = many(200)
    wanted = exact(rows, 0.5, 2)
    assert 40 < len(wanted) < 300
    assert found(rows, 0.5, ngram=2) == wanted
    shuffled = random.Random(1).sample(rows, len(rows))
    monkeypatch.setattr(near_sets, "_ROWS", 70)
    monkeypatch.setattr(near_prefixes, "_SIDES", 50)
    monkeypatch.setattr(near_prefixes, "_BYTES", 1 << 24)  # many files
    monkeypatch.setattr(near_join, "_FEW", 0)
    monkeypatch.setattr(near_join, "_GRAMS", 100)
    assert found(shuffled, 0.5, ngram=2, memory=Memory.of(0.25), seed=3) == wanted
    assert found(shuffled, 0.5, ngram=2, memory=replace(Memory.of(0.25), text=20_000)) == wanted


words_of_few = st.lists(st.sampled_from("abcd"), min_size=1, max_size=12).map(" ".join)
sides_of_few = st.sampled_from(["a b c d", "a b c d a", "b c d", "d"])  # shared by many
few_rows = st.lists(st.tuples(words_of_few | sides_of_few, words_of_few | sides_of_few, sides_of_few), max_size=25)


@settings(max_examples=30)
@given(few_rows, st.sampled_from([0.1, 0.34, 0.5, 2 / 3, 0.8, 1.0]), st.integers(1, 3), st.sampled_from([0, 8]))
def test_exactly_what_all_pairs_compared_would_find(rows, threshold, ngram, few):
    rows = [(f"{i:02}", *sides) for i, sides in enumerate(rows)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(near_join, "_FEW", few)
        assert found(rows, threshold, ngram=ngram) == exact(rows, threshold, ngram)


def test_a_row_equal_to_one_that_goes_takes_its_match_though_a_nearer_one_stands_between():
    rows = [("0", "q", "a", "b"), ("1", "q", "a b c d", "b"), ("2", "q", "b c d", "b"), ("3", "q", "a b c d", "b")]
    wanted = {"1": ("0", 0.25), "3": ("0", 0.25)}
    assert found(rows, 0.1, ngram=1) == wanted == exact(rows, 0.1, 1)


def template(draw, n):
    """Rows of one template on every side, about 0.7 alike: none is a duplicate."""
    vocabulary = [f"v{i}" for i in range(3000)]
    fixed = [[draw.choice(vocabulary) for _ in range(60)] for _ in range(3)]
    filled = [
        [" ".join(words[:50] + [draw.choice(vocabulary) for _ in range(9)] + words[50:]) for words in fixed]
        for _ in range(n)
    ]
    return [(f"{i:05}", *sides) for i, sides in enumerate(filled)]


def chain(n):
    words = [f"w{i}" for i in range(2 * n + 60)]
    return [(f"{i:05}", "which of the two?", " ".join(words[2 * i : 2 * i + 60]), "no") for i in range(n)]


def system_prompt(draw, n):
    return [(f"{i:05}", f"{number_words(300)} {draw.random()}", f"{draw.random()} a b c d e", "n") for i in range(n)]


@pytest.mark.parametrize("kind", ["template", "chain", "system prompt", "responses of one prompt"])
def test_what_many_rows_share_is_not_compared_with_all(monkeypatch, kind):
    """Comparisons, the work that could become quadratic, are counted."""
    draw, n = random.Random(0), 300
    rows = {
        "template": lambda: template(draw, n),
        "chain": lambda: chain(n),
        "system prompt": lambda: system_prompt(draw, n),
        "responses of one prompt": lambda: [
            (f"{a:02}{b:02}", "q", f"{number_words(20, 100 * a)}", f"{number_words(20, 100 * b)} z")
            for a in range(20) for b in range(20) if a != b
        ],
    }[kind]()  # fmt: skip
    compared = []
    similar = near_join._similar
    monkeypatch.setattr(near_join, "_similar", lambda *args: compared.append(len(args[-2])) or similar(*args))
    seen = found(rows)
    assert sum(compared) < {"template": 40, "system prompt": 20}.get(kind, 8 * n)
    wanted = exact([row for row in rows if kind == "chain"], 0.8, 5)
    assert seen == wanted and (kind != "chain" or len(wanted) > n / 2)


def test_batches_are_the_table_in_order(monkeypatch):
    texts = pl.DataFrame({"x": range(40), "text": ["é" * 300 * (x % 3) for x in range(40)]})
    left = removal.Left(texts.lazy())
    left.drop("some", pl.DataFrame({"_row": pl.Series(range(0, 40, 5), dtype=pl.UInt32)}))
    for whole in (numbered(texts.lazy()), left.rows()):
        found = list(removal.batches(whole, 3000))
        assert pl.concat(found).equals(whole.collect())
        # A row is 256 bytes and its text: one more may begin in a batch.
        assert max(batch["text"].str.len_bytes().sum() + 256 * batch.height for batch in found) <= 3000 + 1456
        assert len(found) > 7
        assert list(removal.batches(whole.head(0), 4)) == []
        assert [batch.height for batch in removal.batches(whole, 1)] == [1] * whole.collect().height
