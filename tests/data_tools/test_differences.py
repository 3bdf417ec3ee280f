import doctest
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_tools import differences as module
from data_tools.differences import MAX_WORDS, differences


def wdiff(first, second):
    """Both sides with their marks, as people would write them by hand."""
    found = differences(first, second)
    return tuple(
        "".join(f"<{text}>" if marked else text for text, marked in side) for side in (found.first, found.second)
    )


def test_doctests():
    assert doctest.testmod(module).failed == 0


@pytest.mark.parametrize(
    ("first", "second", "one", "other"),
    [
        ("It is 12 km away.", "It is 13 km away.", "It is <12> km away.", "It is <13> km away."),
        ("abs(a - b)\nreturn x", "a - b\nreturn x", "<abs(>a - b<)>\nreturn x", "a - b\nreturn x"),
        ("same text", "same text", "same text", "same text"),
        ("if a == 0:", "if a < 0:", "if a <==> 0:", "if a <<> 0:"),
        # Space between two marked words belongs to the mark, space around it does not.
        ("go home  now or never", "go far  away or never", "go <home  now> or never", "go <far  away> or never"),
        # A common word alone between two differences is chance.
        ("x y z q the r u v w", "x y z m the n u v w", "x y z <q the r> u v w", "x y z <m the n> u v w"),
        ("", "word", "", "word"),
    ],
)
def test_by_hand(first, second, one, other):
    assert wdiff(first, second) == (one, other)


def test_notes():
    assert differences("a b", "a b").note == "the two are equal"
    assert differences("a b", "a\n b ").note == "only spaces differ"
    # One of four words on either side: 25 %, under the 30 % from which marks help.
    assert wdiff("a b c d", "a x y z") == ("a b c d", "a x y z")
    assert "not marked" in differences("a b c d", "a x y z").note
    assert wdiff("a b c", "a x y") == ("a <b c>", "a <x y>")  # a third
    assert differences("a b c", "a x y").note == ""


def test_no_more_than_the_first_words_are_compared():
    same = "same " * 900
    first, second = same + "a " * MAX_WORDS + "tail", same + "b " * MAX_WORDS + "other"
    found = differences(first, second)
    assert f"{MAX_WORDS:,}" in found.note
    assert found.first[1] == (("a " * MAX_WORDS).strip(), True)
    assert found.first[-1] == (" tail", False) and found.second[-1] == (" other", False)


@settings(max_examples=50)
@given(st.text(alphabet="ab \n.", max_size=40), st.text(alphabet="ab \n.", max_size=40))
def test_the_pieces_are_the_text(first, second):
    found = differences(first, second)
    for side, text in ((found.first, first), (found.second, second)):
        assert "".join(piece for piece, _ in side) == text
        assert all(piece for piece, _ in side)


@settings(max_examples=50)
@given(st.text(max_size=60), st.text(max_size=60))
def test_any_text(first, second):
    found = differences(first, second)
    assert "".join(piece for piece, _ in found.first) == first
    assert "".join(piece for piece, _ in found.second) == second


def test_the_work_is_bounded(monkeypatch):
    """Two words in three are common: a search a run, each over all that is left."""
    first, second = (" ".join(f"w{i} v{i} {side}" for i in range(660)) for side in "xy")
    start = time.process_time()
    whole = differences(first, second)
    assert time.process_time() - start < 5
    assert [marked for _, marked in whole.first] == [False, True] * 660
    # The first search looks at 1,979 words (the last of 1,980 is another), the second at all but a run.
    monkeypatch.setattr(module, "MAX_STEPS", 3_000)
    monkeypatch.setattr(module, "FEW_IN_COMMON", 0.0)
    cut = differences(first, second)
    assert "".join(piece for piece, _ in cut.first) == first
    assert sum(not marked for _, marked in cut.first) == 3


def test_a_word_of_many_characters():
    assert differences("x" * 100_000 + " is long", "x" * 99_999 + "y is long").first[0] == ("x" * 100_000, True)
