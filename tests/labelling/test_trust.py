"""What held-out pairs promise."""

import numpy as np
import polars as pl
import pytest

from data_tools.errors import UserError
from genrm_lightning.evaluation.intervals import clustered_interval
from genrm_lightning.labelling.trust import least_confidence, promises
from tests.labelling.test_labels import judgments
from tests.tiny import preferences


def people(n):
    """Pairs of prompts of their own."""
    names = pl.Series([f"pair-{i}" for i in range(n)])
    row = preferences(1)
    prompt = pl.concat_list(pl.struct(role=pl.lit("user"), content=pl.format("question {}", "pair_id")))
    return (
        pl.concat([row] * n).with_columns(pair_id=names, group_id=pl.lit(None, pl.String)).with_columns(prompt=prompt)
    )


def test_coverage_and_agreement_at_each_confidence():
    said = [0.92, 0.92, 0.2, 0.6, 0.4, 0.5]  # of what people chose; the judge is wrong in the third and the fifth
    table = judgments([[[p], [p]] for p in said])
    rows = {row.confidence: row for row in promises(table, people(6), (0.5, 0.7, 0.9, 0.95))}
    assert (rows[0.5].n_pairs, rows[0.5].coverage, rows[0.5].agreement) == (5, 5 / 6, 3 / 5)
    assert (rows[0.7].n_pairs, rows[0.7].agreement) == (3, pytest.approx(2 / 3))
    assert (rows[0.7].low, rows[0.7].high) == clustered_interval([1, 1, 0])[1:]
    assert rows[0.9].agreement == 1 and rows[0.9].n_pairs == 2
    assert (rows[0.95].n_pairs, rows[0.95].agreement, rows[0.95].low) == (0, None, None)
    with pytest.raises(ValueError, match="none of them"):
        promises(table, people(6).with_columns(pair_id=pl.lit("other")))


def test_the_least_confidence_that_gives_an_agreement():
    """A calibrated judge: right with probability p. Its agreement at p >= t is the mean of p above t."""
    draw = np.random.default_rng(0)
    p = draw.uniform(0.5, 1, 2000)
    right = draw.uniform(size=2000) < p
    table = judgments([[[q], [q]] for q in np.where(right, p, 1 - p).tolist()])
    held = least_confidence(table, people(2000), 0.85)
    assert held.low >= 0.85 and held.agreement < 0.91 and 0.7 < held.confidence < 0.81
    assert held.coverage == pytest.approx((p >= held.confidence).mean(), abs=0.01)
    (below,) = promises(table, people(2000), (held.confidence - 0.1,))
    assert below.low < 0.85
    with pytest.raises(UserError, match="not shown by the held-out pairs at any confidence"):
        least_confidence(table, people(2000), 0.999)
    with pytest.raises(UserError, match="fewer than 20"):
        least_confidence(judgments([[[0.9], [0.9]]] * 5), people(5), 0.6)
    with pytest.raises(UserError, match="--agreement: 0.2"):
        least_confidence(table, people(2000), 0.2)


def test_a_confidence_is_not_chosen_for_its_luck():
    """A coin as a judge: of many tries hardly any finds a confidence at which it seems better than 60 %."""
    draw = np.random.default_rng(1)
    found = 0
    for _ in range(60):
        said = np.where(draw.uniform(size=200) < 0.5, 1, -1) * draw.uniform(0, 0.5, 200) + 0.5
        try:
            least_confidence(judgments([[[q], [q]] for q in said.tolist()]), people(200), 0.55)
            found += 1
        except UserError:
            pass
    assert found <= 2
