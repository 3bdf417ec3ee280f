import doctest

import pytest

from data_tools import visible, words
from data_tools.words import distinct_share, ngrams


@pytest.mark.parametrize("module", [words, visible])
def test_doctests(module):
    found = doctest.testmod(module)
    assert found.attempted and not found.failed


def test_ngrams():
    assert ngrams("") == ngrams("one two") == ngrams("one, two!") == []
    assert ngrams("A b, c-d") == [("a", "b", "c"), ("b", "c", "d")]
    assert ngrams("a a b", 1) == [("a",), ("a",), ("b",)]


def test_punctuation_and_case_hide_no_repetition():
    assert distinct_share("It is good. it is good, IT IS GOOD") == distinct_share("it is good it is good it is good")


def test_tabs_and_line_ends_stay_visible():
    assert visible.visible("a\tb\nc\rd\x00\u2066é") == "a\tb\nc\ufffdd\ufffd\ufffdé"
