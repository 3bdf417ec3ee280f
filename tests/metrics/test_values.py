"""Metrics against scikit-learn, torchmetrics, the evaluation of tables, and references written out here."""

from __future__ import annotations

import math
from itertools import combinations, pairwise, permutations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, brier_score_loss
from torchmetrics.classification import BinaryCalibrationError

from data_tools.order import chosen_is_a
from genrm_lightning.evaluation.scores import set_scores
from genrm_lightning.evaluation.voting import curve, expected_scores, samples
from genrm_lightning.metrics import (
    BothOrders,
    Brier,
    CalibrationError,
    InvalidRate,
    PairwiseAccuracy,
    PositionBias,
    PositionConsistency,
    SelectiveRisk,
    VoteCurve,
    calibration_bins,
    consistent,
    leaning,
    majority_curve,
    preference_hits,
)
from tests.evaluation.conftest import make_judgments, make_preferences
from tests.evaluation.test_voting import drawn
from tests.metrics.cases import APART, MARGINS, P_RIGHT, VOTES, N, value

T = torch.tensor
few = settings(max_examples=50)


def test_accuracy_by_hand_and_by_scikit_learn():
    margins = T([0.1, 0.0, -0.1, math.inf])
    assert preference_hits(margins).tolist() == [True, False, False, True]
    assert value(PairwiseAccuracy(), margins) == [0.5]
    assert value(PairwiseAccuracy(), T([1e-7, -1.0], dtype=torch.bfloat16)) == [0.5]
    flat = MARGINS[:, 0]
    assert 0.3 < (expected := accuracy_score(np.ones(N), (flat > 0).numpy())) < 0.7
    assert value(PairwiseAccuracy(), flat) == [pytest.approx(expected)]


# Position


def test_position_by_hand():
    #                 right, right  wrong, wrong  A, A  B, B          a tie and right
    margins = T([[1.0, 2.0], [-1.0, -2.0], [1.0, -2.0], [-1.0, 2.0], [0.0, 1.0], [1.0, 0.0], [0.0, 0.0]])
    assert consistent(margins).tolist() == [1, 1, 0, 0, 0, 0, 0]
    assert leaning(margins).tolist() == [0, 0, 0.5, -0.5, -0.25, 0.25, 0]
    assert value(PositionBias(), margins[2:3]) == [0.5], "a judge that always says A"


def test_position_by_scikit_learn():
    margins = MARGINS[(MARGINS != 0).all(1)]
    chosen = (margins > 0).numpy()  # whether the preferred response, by order
    agreed = accuracy_score(chosen[:, 0], chosen[:, 1])
    assert value(PositionConsistency(), margins) == [pytest.approx(agreed)]
    says_a = np.concatenate([chosen[:, 0], ~chosen[:, 1]])
    assert value(PositionBias(), margins) == [pytest.approx(accuracy_score(np.ones(len(says_a)), says_a) - 0.5)]


def test_the_evaluation_of_a_table_says_the_same():
    """p(A) of both orders, ties among them, as metrics and as JUDGMENT rows."""
    p = torch.randint(0, 9, (60, 2), generator=torch.Generator().manual_seed(2)) / 8
    verdicts = torch.randint(-1, 2, (60, 2, 1), generator=torch.Generator().manual_seed(3))
    words = {1: "right", -1: "wrong", 0: "INVALID"}
    shown = {}  # by p(right), where the preferred response is A and where it is B
    for i, (pair, said) in enumerate(zip(p.tolist(), verdicts[..., 0].tolist(), strict=True)):
        orders = [[(pair[side], words[said[side]])] for side in (0, 1)]
        shown[f"p{i}"] = orders if chosen_is_a(f"p{i}", False) else orders[::-1]
    scores = set_scores(make_judgments(shown), make_preferences(list(shown)))
    margins = p.logit()
    assert 0 < scores.tie_rate < 0.5
    assert value(PairwiseAccuracy(), margins.flatten()) == [pytest.approx(scores.accuracy)]
    assert value(PositionConsistency(), margins) == [pytest.approx(scores.position_consistency)]
    assert value(PositionBias(), margins) == [pytest.approx(scores.share_a - 0.5, abs=1e-7)]
    assert value(InvalidRate(), verdicts.flatten(0, 1)) == [pytest.approx(scores.invalid_rate)]


@few
@given(st.lists(st.tuples(st.sampled_from([-1.0, 0.0, 2.0]), st.sampled_from([-1.0, 0.0, 2.0])), min_size=1), st.data())
def test_orders_that_come_apart_are_orders_together(margins, data):
    shown = [(margin, second, f"{i}") for i, pair in enumerate(margins) for second, margin in enumerate(pair)]
    shown = data.draw(st.permutations(shown))
    cut = data.draw(st.integers(0, len(shown)))
    for function, kind in ((consistent, PositionConsistency), (leaning, PositionBias)):
        metric = BothOrders(function)
        for part in (shown[:cut], shown[cut:]):
            own, second, ids = ([row[i] for row in part] for i in range(3))
            metric.update(T(own), T(second, dtype=torch.int64), ids)
        assert metric.compute().item() == pytest.approx(value(kind(), T(margins))[0], abs=1e-6)


def test_an_order_alone_is_left_out():
    assert value(BothOrders(consistent), T([1.0, 2.0, -1.0, 3.0]), T([0, 1, 0, 1]), ["p", "p", "q", "r"]) == [1.0]
    assert math.isnan(value(BothOrders(consistent), T([1.0, 2.0]), T([0, 1]), ["p", "q"])[0])


def test_many_ids_are_told_apart():
    metric = BothOrders(lambda margins: T([float(len(margins))]))
    assert value(metric, *APART) == [N]


# Calibration


def test_brier_by_scikit_learn():
    """Whichever of the two responses is called the event."""
    event = torch.randint(0, 2, (N,), generator=torch.Generator().manual_seed(4))
    p = P_RIGHT.double()
    expected = brier_score_loss(event.numpy(), p.where(event == 1, 1 - p).numpy())
    assert value(Brier(), P_RIGHT) == [pytest.approx(expected, rel=1e-6)]
    assert value(Brier(), T([0.5, 0.0], dtype=torch.bfloat16)) == [0.625]


def reference_ece(p_right: list[float], bins: int = 10) -> float:
    held: dict[int, list[tuple[float, bool]]] = {}
    for p in p_right:
        confidence = max(p, 1 - p)
        inner = sum(confidence >= (bins + i) / (2 * bins) for i in range(1, bins))
        held.setdefault(inner, []).append((confidence, 0.5 if p == 0.5 else float(p > 0.5)))
    gaps = [abs(sum(right for _, right in own) - sum(sure for sure, _ in own)) for own in held.values()]
    return sum(gaps) / len(p_right)


@few
@given(st.lists(st.one_of(st.floats(0, 1), st.integers(0, 40).map(lambda i: i / 40)), min_size=1), st.integers(1, 12))
def test_ece_by_the_book(p_right, bins):
    found = value(CalibrationError(bins), T(p_right, dtype=torch.float64))[0]
    assert found == pytest.approx(reference_ece(p_right, bins), abs=1e-6)


def test_ece_by_torchmetrics():
    """Its twenty bins over [0, 1] are ten over [0.5, 1]; its 1.0 has a bin of its own, and is left out. So are ties."""
    given = P_RIGHT[P_RIGHT != 0.5]
    sure, right = torch.maximum(given, 1 - given), given > 0.5
    expected = BinaryCalibrationError(n_bins=20, norm="l1")(sure, right.int()).item()
    assert expected > 0.1
    assert value(CalibrationError(), given) == [pytest.approx(expected, rel=1e-5)]


def test_edges_of_bins():
    found = calibration_bins(T([0.5, 0.55, 0.0, 1.0, 0.9999, 0.7, 0.45], dtype=torch.float64))
    assert found.rows.tolist() == [1, 2, 0, 0, 1, 0, 0, 0, 0, 3]
    assert found.right.tolist() == [1, 2, 0, 0, 2, 0, 0, 0, 0, 4]
    assert value(CalibrationError(), T([0.5, 0.5])) == [0.0], "ties are half right, with a confidence of one half"


# Selective risk


def reference_risks(errors: list[float], uncertainty: list[float]) -> np.ndarray:
    """In the mean over all orders that rise with the uncertainty."""
    found = []
    for order in permutations(range(len(errors))):
        if all(uncertainty[i] <= uncertainty[j] for i, j in pairwise(order)):
            found.append(np.cumsum([errors[i] for i in order]) / np.arange(1, len(order) + 1))
    return np.mean(found, axis=0)


@few
@given(st.lists(st.tuples(st.sampled_from([0.0, 0.5, 1.0]), st.sampled_from([0.1, 0.2, 0.3])), min_size=2, max_size=6))
def test_risk_and_coverage_over_all_orders(rows):
    errors, uncertainty = zip(*rows, strict=True)
    metric = SelectiveRisk()
    metric.update(T(errors), T(uncertainty))
    found, expected = metric.compute(), reference_risks(errors, uncertainty)
    assert found.risk.tolist() == pytest.approx(expected.tolist())
    assert found.coverage.tolist() == pytest.approx([(i + 1) / len(rows) for i in range(len(rows))])
    assert float(found.aurc) == pytest.approx(expected.mean())


# Votes


def reference_majority(votes: list[list[int]], k: int, scope: str) -> float:
    """One pair's, over every subset of each order."""

    def score(samples) -> float:
        lead = sum(samples)
        return 0.0 if not any(samples) else 0.5 if lead == 0 else float(lead > 0)

    first, second = (list(combinations(order, k)) for order in votes)
    if scope == "order":
        return (np.mean([score(own) for own in first]) + np.mean([score(own) for own in second])) / 2
    return np.mean([score(a + b) for a in first for b in second])


@few
@given(st.integers(1, 5).flatmap(lambda k: st.tuples(*[st.lists(st.integers(-1, 1), min_size=k, max_size=k)] * 2)))
def test_majorities_over_all_subsets(votes):
    for scope in ("pair", "order"):
        metric = VoteCurve(len(votes[0]), scope)
        found = value(metric, T([votes]))
        assert metric.steps[-1] == len(votes[0])
        assert found == pytest.approx([reference_majority(votes, k, scope) for k in metric.steps], abs=1e-6)


@pytest.mark.parametrize("scope", ["pair", "order"])
@pytest.mark.parametrize("reading", ["hard", "free"])
def test_the_curve_of_a_table_is_the_same(reading, scope):
    stored = samples(drawn(12, 6))
    votes = (stored.voted if reading == "hard" else stored.named) * np.where(stored.right_is_a, 1, -1)[..., None]
    exact = majority_curve(torch.from_numpy(votes), scope)
    metric = VoteCurve(6, scope)
    assert [exact[:, i].tolist() for i in range(4)] == [
        expected_scores(stored, k, reading, scope).tolist() for k in metric.steps
    ]
    told = [row for row in curve(stored) if (row["reading"], row["scope"]) == (reading, scope)]
    assert metric.steps == [row["k"] for row in told]
    assert value(metric, torch.from_numpy(votes)) == pytest.approx([row["accuracy"] for row in told], abs=1e-6)


def test_invalid_rate_weighs_presentations_alike():
    metric = InvalidRate()
    metric.update(T([[0, 1, 1, 1]]))
    metric.update(T([[0], [1]]))
    assert metric.compute().item() == pytest.approx((0.25 + 1 + 0) / 3)
    assert value(InvalidRate(), VOTES[:, 0]) == [pytest.approx(float((VOTES[:, 0] == 0).numpy().mean()))]
