"""Work counted on batches is that of the trees, and a window's numbers are those of its clock."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from genrm_lightning.cost import Work, flops
from genrm_lightning.dashboards.pace import FlopCounter, Pace, batch_work, peak_flops
from genrm_lightning.prefix import collate
from genrm_lightning.shape import Shape
from tests.objectives.common import KINDS, make
from tests.tiny import examples, preferences


@pytest.mark.parametrize("kind", ["bradley_terry", "pairrm", "genrm", "star_sft, direct", "rationalizer, told"])
def test_a_batch_is_its_trees(tiny_llama, kind):
    objective = make(kind, tiny_llama)
    rows = preferences(3) if KINDS[kind][0].table.keys() == preferences(1).schema.keys() else examples(3)
    trees = list(objective.trees(rows, objective.renderer))
    letters = tuple(objective.renderer.letter_ids.values())
    work = Work.of_trees(trees)
    assert batch_work(collate(trees, 0, letters)).tolist() == [work.tokens, work.attended, work.looked]


def test_flops_are_those_of_the_plan(tiny_llama):
    objective = make("on_policy", tiny_llama)
    objective.configure_model()
    trees = list(objective.trees(examples(3), objective.renderer))
    work = replace(Work.of_trees(trees), taught=sum(map(objective.taught, trees)))
    count = FlopCounter(objective, trees)
    found = count([work.tokens, work.attended, work.looked], work.branches, len(trees))
    assert found == pytest.approx(flops(Shape.of(objective.policy), work).useful)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_window(tiny_llama):
    objective = make("genrm", tiny_llama)
    trees = list(objective.trees(preferences(2), objective.renderer))
    batch = collate(trees, 0, tuple(objective.renderer.letter_ids.values()))
    clock = Clock()
    pace = Pace(2, lambda work, branches, rows: 1e12 * rows, 2e12, clock)
    for stepped in (False, True):
        clock.now += 1  # waits for a batch
        pace.enter()
        clock.now += 3
        pace.leave(batch, stepped)
    pace.pause()
    clock.now += 100  # validates
    pace.go_on()
    found = pace.read(torch.device("cpu"))
    assert found.pop("memory_gib") > 0
    tokens = sum(map(len, trees))
    assert found == pytest.approx({
        "busy": 0.75, "seconds_per_step": 8, "tokens_per_second": 2 * 2 * tokens / 8, "rows_per_second": 2 * 8 / 8,
        "tflops": 1.0, "mfu": 0.5,
    })  # fmt: skip
    assert pace.seconds == 0 and pace.steps == 0
    pace.enter()
    clock.now += 1
    pace.leave(replace(batch, weight=0.0), True)  # only filled up
    assert "tokens_per_second" not in pace.read(torch.device("cpu"))


@pytest.mark.parametrize(
    ("name", "peak"),
    [("NVIDIA H100 80GB HBM3", 989e12), ("NVIDIA H100 PCIe", 756e12), ("NVIDIA L4", 121e12), ("NVIDIA X9", None)],
)
def test_what_a_device_can_do(monkeypatch, name, peak):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: name)
    device = SimpleNamespace(type="cuda")
    assert peak_flops(device, "bf16-mixed") == peak
    assert peak_flops(device, "32-true") is None and peak_flops(torch.device("cpu"), "bf16-mixed") is None
