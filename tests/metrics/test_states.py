"""However the rows come, in updates, batches and processes: a metric is what one update of all rows gives."""

from __future__ import annotations

import doctest
import importlib
import json
import math
import os
import pkgutil
import subprocess
import sys

import pytest
import torch

from genrm_lightning import metrics
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
    consistent,
)
from tests.metrics.cases import CASES, N, numbers, rows, value
from tests.metrics.processes import SPLITS, TWICE
from tests.tiny_star import ROOT

T = torch.tensor
every = pytest.mark.parametrize("name", CASES)


def same(found: list[float], expected: list[float]) -> bool:
    """To the last bit, but for risks: sums of float64 over rows that are kept."""
    return found == pytest.approx(expected, rel=1e-13, abs=1e-15)


@every
def test_uneven_updates_are_one_update(name):
    make, inputs = CASES[name]
    split = make()
    for start, end in ((0, 1), (1, 64), (64, 64), (64, N), (N, None)):
        split.update(*rows(inputs, start, end))
    whole = value(make(), *inputs)
    assert same(numbers(split.compute()), whole)
    assert all(math.isfinite(number) for number in whole)


@every
def test_the_order_of_rows_says_nothing(name):
    make, inputs = CASES[name]
    order = torch.randperm(len(inputs[0]), generator=torch.Generator().manual_seed(1)).tolist()
    turned = [given[order] if isinstance(given, torch.Tensor) else [given[i] for i in order] for given in inputs]
    assert same(value(make(), *turned), value(make(), *inputs))


@every
def test_merged_states(name):
    make, inputs = CASES[name]
    first, second = make(), make()
    first.update(*rows(inputs, 0, 7))
    second.update(*rows(inputs, 7, None))
    first.merge_state(second)
    assert same(numbers(first.compute()), value(make(), *inputs))


@pytest.fixture(scope="module")
def processes(tmp_path_factory) -> list[dict[str, list[float]]]:
    folder = tmp_path_factory.mktemp("processes")
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "tests.metrics.processes", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(2)]


@pytest.mark.skipif(sys.platform != "linux", reason="gloo between processes is tried on Linux")
@pytest.mark.parametrize("split", SPLITS)
@every
def test_two_processes_are_one(processes, name, split):
    make, inputs = CASES[name]
    whole = value(metric := make(), *inputs)
    assert all(same(found[f"{split}: {name}"], whole) for found in processes)
    if split == TWICE:
        twice = value(metric, *inputs)
        assert all(same(found[f"{split}: {name}, again"], twice) for found in processes)


@every
def test_reset_and_forward(name):
    """``self.log(metric)`` may call forward: it returns the batch's value and still adds the batch up."""
    make, inputs = CASES[name]
    metric = make()
    metric.update(*inputs)
    metric.reset()
    first = rows(inputs, 0, 50)
    assert same(numbers(metric(*first)), value(make(), *first))
    metric(*rows(inputs, 50, None))
    assert same(numbers(metric.compute()), value(make(), *inputs))


@every
def test_without_rows_it_is_nan(name):
    make, inputs = CASES[name]
    with pytest.warns(UserWarning, match="before the ``update``"):
        found = numbers(make().compute())
    assert found and all(map(math.isnan, found))
    assert all(map(math.isnan, value(make(), *rows(inputs, 0, 0))))


REFUSED = [
    (PairwiseAccuracy, (T([0.1, math.nan]),), "margins without NaN, got 1 NaN of 2"),
    (PairwiseAccuracy, (T([[0.1]]),), r"margins as a floating tensor of shape \(N,\), got torch.float32 of \(1, 1\)"),
    (PairwiseAccuracy, (T(0.1),), r"shape \(N,\), got torch.float32 of \(\)"),
    (PairwiseAccuracy, (T([1, 2]),), "margins as a floating tensor.*torch.int64"),
    (PositionConsistency, (T([0.1, 0.2]),), r"shape \(N, 2\), got torch.float32 of \(2,\)"),
    (PositionConsistency, (T([[0.1, math.nan]]),), "margins without NaN, got 1 NaN of 2"),
    (PositionBias, (T([[0.1, 0.2, 0.3]]),), r"shape \(N, 2\), got torch.float32 of \(1, 3\)"),
    (PositionBias, (T([[math.nan, 0.2]]),), "margins without NaN"),
    (lambda: BothOrders(consistent), (T([math.nan]), T([0]), ["p"]), "margins without NaN"),
    (lambda: BothOrders(consistent), (T([0.1]), T([0]), ["p", "q"]), "of each presentation, got 1, 1 and 2"),
    (CalibrationError, (T([0.5, math.nan]),), "p_right without NaN, got 1 NaN of 2"),
    (CalibrationError, (T([0.5, 1.5]),), r"p_right in \[0, 1\], got 0.5 to 1.5"),
    (CalibrationError, (T([[0.5]]),), r"p_right as a floating tensor of shape \(N,\)"),
    (Brier, (T([-0.5, 0.5]),), r"p_right in \[0, 1\], got -0.5 to 0.5"),
    (Brier, (T([math.nan]),), "p_right without NaN"),
    (SelectiveRisk, (T([0.0, 1.0]), T([0.1])), "an uncertainty for each error, got 1 for 2"),
    (SelectiveRisk, (T([math.nan]), T([0.1])), "errors without NaN"),
    (SelectiveRisk, (T([0.0]), T([math.nan])), "uncertainty without NaN"),
    (InvalidRate, (T([1, 0]),), r"verdicts as an integer tensor of shape \(N, K\), got torch.int64 of \(2,\)"),
    (InvalidRate, (torch.zeros(2, 0, dtype=torch.int64),), r"shape \(N, K\), got torch.int64 of \(2, 0\)"),
    (InvalidRate, (T([[1, 2]]),), "verdicts of -1, 0 and 1, got 1 to 2"),
    (InvalidRate, (T([[-128]], dtype=torch.int8),), "got -128 to -128"),
    (lambda: VoteCurve(2), (T([[[1, 1, 1], [1, 1, 1]]]),), r"shape \(N, 2, 2\), got torch.int64 of \(1, 2, 3\)"),
    (lambda: VoteCurve(1), (T([[[0.5], [1.0]]]),), "votes as an integer tensor.*torch.float32"),
]


@pytest.mark.parametrize(("make", "inputs", "message"), REFUSED)
def test_refuses_and_counts_nothing(make, inputs, message):
    metric = make()
    with pytest.raises(ValueError, match=message):
        metric.update(*inputs)
    assert all(not len(state) if isinstance(state, list) else not state.any() for state in metric.metric_state.values())


@pytest.mark.parametrize(("kind", "size"), [(CalibrationError, 0), (VoteCurve, 0)])
def test_refuses_a_size(kind, size):
    with pytest.raises(ValueError, match="from 1 up, got 0"):
        kind(size)


@pytest.mark.parametrize("module", [module.name for module in pkgutil.iter_modules(metrics.__path__)])
def test_doctests(module):
    found = doctest.testmod(importlib.import_module(f"{metrics.__name__}.{module}"))
    assert not found.failed and (found.attempted or module == "base")
