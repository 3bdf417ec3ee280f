import doctest

import polars as pl
import pytest

from data_tools import quotations, verifiable
from data_tools.quotations import counted, with_quotations
from data_tools.rationales import judgments

REQUEST, A, B = 'Use "Red Fox", please.', "The red fox ran.", "A blue fox sat."


def test_doctest():
    found = doctest.testmod(quotations)
    assert found.attempted and not found.failed


@pytest.mark.parametrize(
    ("rationale", "expected"),
    [
        ("Response A follows the request better.", (0, 0)),
        ('It asks for "red fox".', (1, 0)),
        ('It asks for "green fox".', (1, 1)),
        ('It asks for "ox".', (1, 1)),  # words, not letters
        ('Response A says "red fox", response B "blue fox".', (2, 0)),
        ('Response A says "blue fox", response B "red fox".', (2, 2)),
        ('[Response B] says “The red  fox, ran!”', (1, 1)),
        ('Response A is better. "A blue fox sat" is what is left.', (1, 0)),  # another sentence names nobody
        ('Response B says "A blue fox sat. The red fox ran." and "a blue fox sat".', (2, 1)),
        ('It asks for "please." Response B has "a blue fox".', (2, 0)),
        ('Response B does not say "red fox".', (0, 0)),
        ('Response B lacks "green fox" and response A says "green fox".', (1, 1)),
        ('Response A says "..." and "red', (0, 0)),  # no word; never closed
        ('', (0, 0)),
    ],
)  # fmt: skip
def test_what_counts(rationale, expected):
    assert counted(rationale, [{"role": "user", "content": REQUEST}], A, B) == expected


def test_in_both_orders():
    pairs = verifiable.build(60, 3, levels=(1, 2))["train"]
    reference, _ = judgments(verifiable.rationales(60, 3, (1, 2)))
    found = with_quotations(reference, pairs)
    assert found["quotations"].sum() > 100 and found["misquotations"].sum() == 0
    turned = with_quotations(reference.with_columns(~pl.col("swapped")), pairs)
    both = turned.filter(pl.col("quotations") == 3)
    assert (both["misquotations"] == 2).all() and len(both) > 30, (
        "what the responses have is the other way round; the ask stays"
    )
    lost = with_quotations(reference.with_columns(pair_id=pl.lit("x"), rationale=pl.lit(None, pl.String)), pairs)
    assert lost["quotations"].null_count() == len(lost)
