"""Numbers and curves of a validation pass against scikit-learn and against counting by hand."""

import errno
import sys
import warnings
from itertools import pairwise

import numpy as np
import pytest
import torch
from sklearn.calibration import calibration_curve
from sklearn.metrics import average_precision_score, precision_recall_curve
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from genrm_lightning.dashboards import figure
from genrm_lightning.dashboards.board import Board
from genrm_lightning.dashboards.figure import pictures
from genrm_lightning.dashboards.held_out import (
    BINS,
    OTHERS,
    Collector,
    ValidationRows,
    average_precision,
    by_category,
    numbers,
    precision_recall,
    reliability,
    sigmoid,
    together,
)
from genrm_lightning.dashboards.logger import ContinuedLogger
from genrm_lightning.evaluation.intervals import clustered_interval, effective_n
from genrm_lightning.prefix import Branch, Tree, collate


def drawn(n: int = 200, seed: int = 0) -> ValidationRows:
    """Pairs in both orders; a judge that likes A."""
    rng = np.random.default_rng(seed)
    index, is_a = np.repeat(np.arange(2 * n), 1), np.tile([True, False], n)
    margins = rng.normal(0.4, 1.5, 2 * n) + np.where(is_a, 0.8, -0.8)
    return ValidationRows([f"p{i // 2}" for i in range(2 * n)], margins, (index, is_a, margins))


def batch(pairs, right):
    trees = [Tree(p, [5, 6], [Branch.scored([7])], right=r) for p, r in zip(pairs, right, strict=True)]
    return collate(trees, 0, (1, 2))


def test_curves_equal_a_reference():
    rows = drawn()
    labels, p_a = rows.right
    precision, recall = precision_recall(labels, p_a)
    # scikit-learn begins at recall 1 and ends with a point of its own.
    expected = precision_recall_curve(labels, p_a)
    assert np.allclose(precision[::-1], expected[0][:-1]) and np.allclose(recall[::-1], expected[1][:-1])
    assert average_precision(precision, recall) == pytest.approx(average_precision_score(labels, p_a))
    p = np.where(labels, p_a, 1 - p_a)
    confidence = np.maximum(p, 1 - p)
    bins = reliability(rows)
    share, mean = calibration_curve(p > 0.5, 2 * confidence - 1, n_bins=BINS)  # the same bins, stretched to [0, 1]
    assert np.allclose([one[1] for one in bins], share) and np.allclose([2 * one[0] - 1 for one in bins], mean)
    assert sum(one[2] for one in bins) == len(p)
    found = numbers(rows)
    assert found["average_precision"] == pytest.approx(average_precision_score(labels, p_a))


def test_reliability_counts_pairs():
    """Twenty pairs of a model without an order: their forty presentations are worth twenty; a tie is half right."""
    margins = np.where(np.arange(20) % 3 == 0, -1.0, 1.0)
    shown = np.tile(np.arange(20), 2), np.repeat([True, False], 20), np.tile(margins, 2)
    [(_, share, n, effective)] = reliability(ValidationRows([f"p{i}" for i in range(20)], margins, shown))
    assert share == 13 / 20 and n == 40
    assert effective == pytest.approx(effective_n(margins > 0, per_pair=1)) == 20
    ties = ValidationRows(["p", "q", "r", "s"], np.zeros(4), (np.arange(4), np.ones(4, bool), np.zeros(4)))
    assert [one[:3] for one in reliability(ties)] == [(0.5, 0.5, 4)]
    # Pairs in both orders lie between one trial a pair and one a presentation.
    whole = reliability(drawn())
    assert all(n / 2 - 1e-9 <= effective <= n for _, _, n, effective in whole)
    assert any(effective < n for _, _, n, effective in whole)


def test_equal_scores_are_one_threshold():
    precision, recall = precision_recall(np.array([True, False, True, False]), np.array([0.5, 0.5, 0.5, 0.1]))
    assert precision.tolist() == [2 / 3, 0.5] and recall.tolist() == [1, 1]


def test_accuracy_counts_rows():
    """One pair right in both orders, one always A; of the third one order alone, in which B is right and is said."""
    margins = np.array([2.0, 2.0, 1.0, -1.0, 3.0])
    is_a = np.array([True, False, True, False, False])
    found = numbers(ValidationRows(["p", "p", "q", "q", "r"], margins, (np.arange(5), is_a, margins)))
    assert found["accuracy"] == 0.8 and found["accuracy_low"] < 0.8 < found["accuracy_high"]


def test_a_model_without_an_order_counts_in_both():
    collector = Collector(scores=1)
    collector.add(batch(["p", "q"], [0, 0]), {"accuracy": torch.tensor([1.0, -2.0]), "chosen_reward": torch.ones(2)})
    collector.add(batch(["r"], [0]), {})  # only filled up
    rows = collector.taken()
    assert rows.pairs == ["p", "q"] and len(rows.right[0]) == 4
    found = numbers(rows)
    assert found["accuracy"] == 0.5
    assert found["average_precision"] == pytest.approx(average_precision_score(*rows.right))
    assert rows.spread["chosen_reward"].tolist() == [1, 1]
    assert not len(collector.taken()), "a pass begins with none"


def test_letters_and_both_orders():
    letters = Collector(scores=0)
    letters.add(batch(["p", "q"], [0, 1]), {"accuracy": torch.tensor([1.0, 2.0])})
    labels, p_a = letters.taken().right
    assert labels.tolist() == [True, False] and np.allclose(p_a, [sigmoid(1.0), 1 - sigmoid(2.0)])
    both = Collector(scores=2)
    values = {"accuracy": [1.0], "margin_chosen_first": [3.0], "margin_rejected_first": [-1.0]}
    both.add(batch(["p"], [0]), {name: torch.tensor(value) for name, value in values.items()})
    rows = both.taken()
    assert np.allclose(rows.right[1], [sigmoid(3.0), 1 - sigmoid(-1.0)])
    assert numbers(rows)["accuracy"] == 1.0


def test_categories():
    rows = drawn(40)
    categories = {f"p{i}": f"kind {i % 2}" for i in range(30)}
    found = by_category(rows, categories)
    assert {name: one[3] for name, one in found.items()} == {"kind 0": 15, "kind 1": 15}
    of_pairs = [float(np.mean(rows.margins[2 * i : 2 * i + 2] > 0)) for i in range(0, 30, 2)]
    assert found["kind 0"][0] == pytest.approx(clustered_interval(of_pairs)[0])
    low, high = clustered_interval(of_pairs)[1:]
    assert abs(found["kind 0"][1] - low) < 0.03 and abs(found["kind 0"][2] - high) < 0.03
    many = by_category(rows, {f"p{i}": f"kind {i}" for i in range(40)})
    assert len(many) == 10 and many[OTHERS][3] == 31
    assert by_category(rows, {}) == {}
    # A category that is called what the rest is called: nothing of it is lost, however many there are.
    for cut in (38, 30):
        odd = by_category(rows, {f"p{i}": OTHERS if i < 10 else f"kind {min(i, cut)}" for i in range(40)})
        assert len(odd) == 10 and sum(one[3] for one in odd.values()) == 40 and odd[OTHERS][3] >= 10
    few = by_category(rows, {f"p{i}": OTHERS if i < 10 else f"kind {i % 9}" for i in range(40)})
    assert len(few) == 10 and few[OTHERS][3] == 10


def test_rows_of_several_processes():
    whole = drawn(6)
    cut = [0, 3, 3, 12]
    parts = [
        ValidationRows(whole.pairs[a:b], whole.margins[a:b], (np.arange(b - a), *(x[a:b] for x in whole.shown[1:])))
        for a, b in pairwise(cut)
    ]
    assert numbers(together(parts)) == numbers(whole)
    assert numbers(together([ValidationRows()])) == {}


def test_pictures_read_on_any_page_and_take_any_name():
    rows = drawn(20)
    names = ["$x^{$", "<script>", "a" * 80, "\x1b[31m"]
    found = pictures(rows, by_category(rows, {f"p{i}": names[i % 4] for i in range(20)}), "20 pairs")
    assert list(found) == ["reliability", "precision_recall", "accuracy_by_category"]
    for image in found.values():
        assert image.dtype == np.uint8 and image.shape == (344, 344, 3)
        assert (image[0, 0] == 255).all() and image.min() < 80, "dark on a white card"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert pictures(rows, by_category(rows, {"p0": "数学"}), "")
    assert list(pictures(rows, {}, "")) == ["reliability", "precision_recall"]


@pytest.mark.parametrize("broken", ["absent", "fails"])
def test_no_fit_dies_of_a_picture(tmp_path, monkeypatch, broken):
    if broken == "absent":
        monkeypatch.delitem(sys.modules, figure.__name__)
        monkeypatch.setitem(sys.modules, "matplotlib", None)
    else:
        monkeypatch.setattr(figure, "_reliability", lambda *_: 1 / 0)
    board = Board([ContinuedLogger(str(tmp_path), "run")])
    with pytest.warns(UserWarning, match="without pictures.*(ModuleNotFoundError|ZeroDivisionError): [^\\n]+$") as told:
        board.held_out(drawn(), {}, 1)
        board.draw()
    assert len(told) == 1
    monkeypatch.undo()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        board.held_out(drawn(), {}, 2)
        board.draw()
    board.runs[0][0].close()
    events = EventAccumulator(str(tmp_path / "run")).Reload()
    assert events.Tags()["images"] == [] and [e.step for e in events.Scalars("judge/accuracy")] == [1, 2]


def test_a_full_disk_is_no_broken_picture(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    board = Board([ContinuedLogger(str(tmp_path), "run")])
    monkeypatch.setattr(figure, "_reliability", full)
    with pytest.raises(OSError, match="No space"):
        board.held_out(drawn(), {}, 1)
