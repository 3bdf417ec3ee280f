import doctest

import polars as pl

from data_tools import ngrams, words
from data_tools.ngrams import grams

TEXTS = ["the cat, the CAT and the Cat", "a b", "", "the cat and the cat", "one_2 three"]


def table():
    frame = pl.DataFrame({"name": range(len(TEXTS)), "text": TEXTS}, schema={"name": pl.Int64, "text": pl.String})
    return frame.select("name", _words=ngrams.words(pl.col("text")))


def test_the_ngrams_are_those_of_the_slow_function():
    for n in (1, 2, 3):
        slow = [(i, at, gram) for i, text in enumerate(TEXTS) for at, gram in enumerate(words.ngrams(text, n))]
        found = grams(table(), n, at=True)
        assert list(zip(found["name"], found["_at"], strict=True)) == [(i, at) for i, at, _ in slow]
        # The same tuple has the same number, another tuple another one.
        pairs = {(gram, number) for (_, _, gram), number in zip(slow, found["_gram"], strict=True)}
        assert len(pairs) == len({gram for gram, _ in pairs}) == len({number for _, number in pairs})


def test_order_and_seed_matter():
    both = pl.DataFrame({"_words": [["a", "b", "c"], ["c", "b", "a"], ["a", "c", "b"]]})
    assert grams(both, 3)["_gram"].n_unique() == 3
    assert not set(grams(both, 3)["_gram"]) & set(grams(both, 3, seed=1)["_gram"])


def test_examples():
    assert doctest.testmod(ngrams) == (0, 1)
