"""Distances from a training set, against an independent computation and on texts whose order is plain."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer

from data_tools import shift
from data_tools.errors import UserError
from data_tools.schema import PREFERENCE, conform
from data_tools.words import words

TRAIN = [
    "How do I bake a chocolate cake?",
    "Write a function that sorts a list of numbers.",
    "Write a function that reverses a string.",
    "How do I bake bread at home?",
    "What is the capital of France?",
    "What is the capital of Italy, and of Spain?",
]


def table(prompts, ids="p", category=None, responses=None):
    rows = [
        {
            "pair_id": f"{ids}{i}",
            "category": category[i] if category else None,
            "prompt": [{"role": "user", "content": prompt}],
            "chosen": responses[i][0] if responses else "yes",
            "rejected": responses[i][1] if responses else "no",
        }
        for i, prompt in enumerate(prompts)
    ]
    return conform(pl.DataFrame(rows, infer_schema_length=None), PREFERENCE).lazy()


def test_against_scikit_learn(monkeypatch):
    """All words are kept where a text has few; batches change nothing."""
    generator = np.random.default_rng(0)
    vocabulary = [f"w{i}" for i in range(60)]
    texts = [" ".join(generator.choice(vocabulary, generator.integers(3, 30))) for _ in range(70)]
    train, test = texts[:40], [*texts[40:], "unseen words alone"]
    vectors = TfidfVectorizer(sublinear_tf=True, analyzer=words)
    # Words that no training text has are left out by scikit-learn; here they make a text longer, so it is farther.
    known = vectors.fit_transform(train)
    rare = np.log(1 + len(train)) + 1
    cosines = []
    for text in test:
        row = vectors.transform([text])
        counts = [words(text).count(word) for word in set(words(text))]
        new = [words(text).count(w) for w in set(words(text)) if w not in vectors.vocabulary_]
        old = [
            (words(text).count(w), vectors.idf_[vectors.vocabulary_[w]])
            for w in set(words(text))
            if w in vectors.vocabulary_
        ]
        inside = sum(((1 + np.log(count)) * idf) ** 2 for count, idf in old)
        outside = sum(((1 + np.log(count)) * rare) ** 2 for count in new)
        assert len(counts) <= shift.TERMS
        cosines.append((known @ row.T).max() * (inside / (inside + outside)) ** 0.5)
    found = shift.distances(table(train, "a"), table(test, "b"))
    expected = pl.DataFrame({"pair_id": [f"b{i}" for i in range(len(test))], "far": 1 - np.array(cosines)})
    joined = found.join(expected, on="pair_id")
    assert joined["distance"].to_numpy() == pytest.approx(joined["far"].to_numpy(), abs=1e-8)
    assert joined.filter(pl.col("distance") == 1).select("pair_id", "nearest").rows() == [("b30", None)]
    monkeypatch.setattr(shift, "_PRODUCTS", 100)
    monkeypatch.setattr(shift, "_TEXTS", 7)
    assert shift.distances(table(train, "a"), table(test, "b")).equals(found)


def test_the_order_is_plain():
    asked = [
        "How do I bake a chocolate cake?",  # is there
        "How do I bake a chocolate pie?",
        "Is Paris the capital?",
        "Wie spät ist es?",  # no word
    ]
    found = shift.distances(table(TRAIN, "a"), table(asked, "b"))
    assert found["pair_id"].to_list() == ["b0", "b1", "b2", "b3"]
    assert (
        found["distance"].is_sorted()
        and found["distance"][0] == pytest.approx(0, abs=1e-8)
        and found["distance"][3] == 1
    )
    assert found["nearest"].to_list() == ["a0", "a0", "a4", None]


def test_equal_prompts_are_equally_far_whatever_their_case_and_the_order_of_rows():
    asked = table(["Reverse a list!", "reverse  a list!", "Reverse a string"])
    found = shift.distances(table(TRAIN, "a"), asked)
    assert found["distance"][0] == found["distance"][1] != found["distance"][2]
    shuffled = table(TRAIN, "a").collect().sample(fraction=1, shuffle=True, seed=1).lazy()
    assert shift.distances(shuffled, asked.reverse()).equals(found)
    # Of equally near texts the same one is named whatever their order.
    twice = table(["a b", "b a", "c d"], "a")
    one, other = (shift.distances(t, table(["a b"], "b"))["nearest"][0] for t in (twice, twice.reverse()))
    assert one == other


def test_responses_are_looked_at_where_they_are_asked_for():
    same = ["Say something."]
    train = table(same, "a", responses=[("The sun is warm today", "It rains")])
    near = table(same, "b", responses=[("It rains", "The sun is warm today")])
    far = table(same, "b", responses=[("def f(x): return x", "import os")])
    assert shift.distances(train, near)["distance"][0] == shift.distances(train, far)["distance"][0] == pytest.approx(0)
    assert shift.distances(train, near, text="pair")["distance"][0] == pytest.approx(0)
    assert 0.4 < shift.distances(train, far, text="pair")["distance"][0] < 1


def test_a_sample_is_farther():
    asked = table([f"word{i} more{i % 3}" for i in range(30)], "b")
    train = table([f"word{i} less{i % 5}" for i in range(30)], "a")
    every, some = (shift.distances(train, asked, sample=n)["distance"] for n in (30, 10))
    assert (some >= every - 0.35).all() and some.mean() > every.mean() + 0.1


def test_categories():
    asked = [*TRAIN[:2], "How do I bake a cake at home?", "Rechne bitte diese Aufgabe aus", "Erkläre mir diese Aufgabe"]
    kinds = ["near", "near", "near", None, None]
    test = table(asked, "b", category=kinds)
    found = shift.distances(table(TRAIN, "a"), test)
    rows = shift.by_category(table(TRAIN, "a"), test, found)
    assert rows.columns == ["category", "n_pairs", "distance", "divergence", "floor"]
    assert rows.select("category", "n_pairs").rows() == [("(none)", 2), ("near", 3)]
    assert rows["distance"].to_list() == pytest.approx([1, found["distance"][:3].mean()])
    assert rows["divergence"][0] == pytest.approx(1) and 0 < rows["divergence"][1] < 0.5
    assert (rows["floor"] > 0).all()


def test_a_training_set_of_one_text_and_a_test_text_without_words():
    test = table(["Where to?", "..."], "b", category=["x", "y"])
    found = shift.distances(table(TRAIN[:1]), test)
    rows = shift.by_category(table(TRAIN[:1]), test, found)
    assert rows["category"].to_list() == ["x", "y"] and rows["floor"].to_list() == [None, None]
    assert rows["distance"].to_list() == [1, 1] and rows["divergence"].to_list() == pytest.approx([1, 1])


def test_divergence_hand_worked():
    one = pl.DataFrame({"word": [1, 2], "share": [0.75, 0.25]})
    other = pl.DataFrame({"word": [2, 3], "share": [0.5, 0.5]})
    # The middle: 3/8, 3/8, 1/4.
    entropy = -(2 * 3 / 8 * np.log2(3 / 8) + 1 / 4 * np.log2(1 / 4))
    own = -(0.75 * np.log2(0.75) + 0.25 * np.log2(0.25)), 1.0
    assert shift.divergence(one, other) == pytest.approx(entropy - sum(own) / 2)
    assert shift.divergence(other, one) == pytest.approx(entropy - sum(own) / 2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"text": "words"}, "text 'words' is none to compare"), ({"sample": 0}, "at least 1 training text")],
)
def test_refuses(arguments, message):
    with pytest.raises(UserError, match=message):
        shift.distances(table(TRAIN), table(TRAIN), **arguments)


def test_refuses_an_empty_side():
    with pytest.raises(UserError, match="the training table has no rows"):
        shift.distances(table(TRAIN).head(0), table(TRAIN))
    with pytest.raises(UserError, match="the test table has no rows"):
        shift.distances(table(TRAIN), table(TRAIN).head(0))
