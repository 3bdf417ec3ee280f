"""The measures against plain Python over the same texts, and what their phrases find."""

import doctest
import itertools
import random

import polars as pl
import pytest

from data_tools import quality
from data_tools.judging import PROMPTS
from data_tools.quality import (
    checked,
    claim,
    contradicts,
    copied_share,
    diversity,
    is_finished,
    longest_run,
    measured,
    named,
    ngrams,
    nontext_share,
    of_judge_prompt,
    of_pair,
    repeated_share,
)
from data_tools.words import distinct_share
from data_tools.words import ngrams as word_ngrams

OWN = ngrams("rationale")
WORDS = ["a", "b", "c", "It's", "Ünder", "naïve", "x_1", "42"]


def texts(n: int, longest: int = 12) -> list[str]:
    generator = random.Random(0)
    made = [" ".join(generator.choices(WORDS, k=generator.randrange(longest))) for _ in range(n)]
    return ["", "?!", "one two", *made]


def of(expression: pl.Expr, *rationales: str | None, **columns) -> list:
    return pl.DataFrame({"rationale": rationales, **columns}).lazy().select(expression).collect().to_series().to_list()


def test_doctests():
    found = doctest.testmod(quality)
    assert found.attempted and not found.failed


@pytest.mark.parametrize("n", [1, 2, 3, 8])
def test_ngrams_are_those_of_words(n):
    """The fingerprints tell n-grams apart as their words do, in their order."""
    rationales = texts(300)
    numbers = {}
    for grams, text in zip(of(ngrams("rationale", n), *rationales), rationales, strict=True):
        expected = word_ngrams(text, n)
        assert len(grams) == len(expected)
        for gram, fingerprint in zip(expected, grams, strict=True):
            assert numbers.setdefault(gram, fingerprint) == fingerprint
    assert len(set(numbers.values())) == len(numbers)


def test_repetition_is_that_of_words():
    rationales = texts(200)
    expected = [1 - distinct_share(text) for text in rationales]
    assert of(repeated_share(OWN), *rationales) == pytest.approx(expected)
    assert of(longest_run(), "no no NO yes no", "one", "", None) == [3, 1, 0, 0]


def test_copying_against_sets():
    rationales, sources = texts(200), list(reversed(texts(200, longest=40)))
    expected = []
    for text, source in zip(rationales, sources, strict=True):
        grams = set(word_ngrams(text))
        expected.append(len(grams & set(word_ngrams(source))) / len(grams) if grams else 0.0)
    assert 0 < sum(expected) < len(expected)
    assert of(copied_share(OWN, ngrams("source")), *rationales, source=sources) == pytest.approx(expected)


def test_copying_from_a_pair_crosses_no_border():
    pair = pl.DataFrame(
        {
            "prompt": [
                [{"role": "user", "content": "Name an animal now."}, {"role": "user", "content": "please do so"}]
            ],
            "chosen": ["a red fox"],
            "rejected": ["the blue sky"],
            "rationale": ["A red fox, the blue sky!"],
        }
    )
    # Of its four 3-grams "red fox the" and "fox the blue" stand in no text of the pair.
    assert pair.select(copied_share(OWN, of_pair())).item() == 0.5
    turns = pair.with_columns(rationale=pl.lit("name an animal. please do so"))
    assert turns.select(copied_share(OWN, of_pair())).item() == 0.75 - 0.25  # "an animal please" and "animal please do"


def test_copying_from_the_judge_prompt():
    own = "You compare two responses to a request, as I said before."
    (share,) = of(copied_share(OWN, of_judge_prompt("brief")), own)
    assert share == 5 / 9
    assert of(copied_share(OWN, of_judge_prompt("mt_bench")), PROMPTS["mt_bench"].question) == [1.0]


def test_ends():
    ends = [
        "Yes.",
        'He said "yes."',
        "Is it? ",
        "好。",
        "Good!**",
        "is a more",
        'The sentence "a b" is',
        "",
        "e.g. this",
    ]
    assert of(is_finished(), *ends) == [True, True, True, True, True, False, False, False, False]


def test_what_is_no_text():
    assert of(nontext_share(), "ab\tc\n", "a\x00b\ufffd", "\ue000", "", "é👍🏽 ok") == [0.0, 0.5, 1.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("text", "who", "says"),
    [
        ("Response A is clearly better than Response B.", "both", "A"),
        ("B is worse.", "B", "A"),
        ("[Response B] is indeed a better choice", "B", "B"),
        ("The second response follows the request better than the first.", "B", "B"),
        ("Assistant A's answer is fine.", "A", None),
        ("Response A is not better.", "A", None),
        ("Response A does not answer the question better", "A", None),
        ("Response A isn't better", "A", None),
        ("A is better. No, B is better.", "both", None),
        ("A fox is better than a dog", "none", None),
        ('The sentence "A red fox" is more', "none", None),
        ("Vitamins matter.", "none", None),
        ("the first response is inferior", "A", "B"),
    ],
)
def test_names_and_claims(text, who, says):
    assert of(named(), text) == [who] and of(claim(), text) == [says]
    for vote in "AB":
        assert of(contradicts(), text, vote=[vote]) == [says is not None and says != vote]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('Response A repeats "young": yes. Response B repeats "tired": no.', "A"),
        ('Response A uses "x. Y: yes, z": no. [Response B] uses "b": yes.', "B"),
        ("A: no.\nB: yes.", "B"),
        ("Response A is short: yes. Response B is short: yes.", None),
        ("Response A is short: no. Response B is short: no.", None),
        ("Response A is short: yes. Response B is long.", None),
        ("Is it response A, response B or neither: no.", None),
        ("A vegetable: yes.", None),
    ],
)
def test_checks(text, says):
    assert of(checked(), text) == [says]
    for vote in "AB":
        assert of(contradicts(), text, vote=[vote]) == [says is not None and says != vote]


def test_diversity_against_every_pair_of_rationales():
    rationales = [text for text in texts(40) if text] * 2
    sets = [set(word_ngrams(text)) for text in rationales]
    grams = [gram for text in rationales for gram in word_ngrams(text)]
    shared = sum(len(a & b) for a, b in itertools.permutations(sets, 2)) / (len(sets) - 1)
    found = diversity(pl.LazyFrame({"rationale": rationales})).collect().to_dicts()[0]
    assert found["self_overlap"] == pytest.approx(shared / sum(map(len, sets)))
    assert found["distinct_ngrams"] == pytest.approx(len(set(grams)) / len(grams))
    assert found["n_rationales"] == len(rationales)
    assert found["top_share"] == max(map(rationales.count, rationales)) / len(rationales)
    alike = diversity(pl.LazyFrame({"rationale": ["the same three words"] * 5})).collect().to_dicts()[0]
    assert alike["self_overlap"] == alike["top_share"] == alike["top_opening_share"] == 1.0
    nothing = diversity(pl.LazyFrame({"rationale": ["", None, "so short"]})).collect().to_dicts()[0]
    assert nothing["self_overlap"] == nothing["distinct_ngrams"] == 0.0
    single = diversity(pl.LazyFrame({"rationale": ["one alone with words"]})).collect().to_dicts()[0]
    assert single["self_overlap"] == 0.0 and single["top_share"] == 1.0


def test_streaming_measures_the_same():
    """Rows in pieces, numbers as on the whole; every row keeps its place."""
    rationales = texts(500)
    judgments = pl.DataFrame(
        {
            "pair_id": [f"p{i % 7}" for i in range(len(rationales))],
            "rationale": rationales,
            "vote": "A",
            "finish_reason": "stop",
        }
    )
    pairs = pl.DataFrame(
        [
            {
                "pair_id": f"p{i}",
                "prompt": [{"role": "user", "content": "a b c 42"}],
                "chosen": "b c a",
                "rejected": "x_1 a b",
            }
            for i in range(7)
        ]
    )
    lazy = measured(judgments.lazy(), pairs.lazy(), "brief")
    whole = lazy.collect()
    assert whole["rationale"].to_list() == rationales and whole["copied_share"].sum() > 0
    assert whole.equals(lazy.collect(engine="streaming"))
    assert whole.columns[:4] == judgments.columns and "_pair" not in whole.columns
