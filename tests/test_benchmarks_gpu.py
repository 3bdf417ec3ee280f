"""``python -m benchmarks.gpu``: what can be seen without a GPU, and a run of it on a CPU."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib.util import find_spec

import pytest
import torch

from benchmarks import gpu, gpu_parts, gpu_runs
from benchmarks.gpu_parts import LETTERS, SHAPES, SIDES, Run, parts, settings_of, trees
from benchmarks.gpu_runs import first_try, in_a_process, measured
from genrm_lightning.backbone import empty_policy
from genrm_lightning.cost import Work
from genrm_lightning.prefix import Role, collate
from genrm_lightning.shape import Shape

PEER = find_spec("trl") is not None and find_spec("benchmarks.peer") is not None


@pytest.mark.parametrize(("shape", "parameters"), [("1b", 1_235_814_400), ("8b", 8_030_261_248)])
def test_shapes_are_the_models(tmp_path, shape, parameters):
    """As many parameters as Llama-3.2-1B and Llama-3.1-8B have."""
    settings = settings_of(replace(parts([shape])[0], train="full"), str(tmp_path))
    assert Shape.of(empty_policy(settings)).parameters == parameters


def test_the_embedded_shape_is_that_of_the_embedded_backbone(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu_parts, "find_spec", lambda name: None)
    settings = settings_of(parts(["embedded"])[0], str(tmp_path))
    assert settings.name == str(tmp_path)
    assert Shape.of(empty_policy(settings)).parameters == 134_515_008


@pytest.mark.parametrize("part", parts(["8b", "tiny"]), ids=lambda part: part.name)
def test_trees(part):
    rows = trees(part, 6)
    assert rows == trees(part, 6) and rows != trees(part, 6, seed=1)
    for tree in rows:
        assert abs(len(tree.prefix) - part.prefix) <= 0.1 * part.prefix
        assert len(tree.branches) == (1 if part.kind == "genrm" else 2)
        for branch in tree.branches:
            assert abs(len(branch.ids) - part.branch) <= 0.1 * part.branch + 1
            assert max(branch.ids) < SHAPES[part.shape]["vocab_size"]
    batch = collate(rows, 0, LETTERS)
    looked = {"bt": 0, "genrm": 6 * (6 + 2), "dpo": len(batch.targets)}[part.kind]
    assert len(batch.targets) == looked
    if part.kind == "dpo":
        assert {len(tree.extras["ref_logp"]) for tree in rows} == {2}
        letters = [[b.ids[b.letter_at] for b in tree.branches] for tree in rows]
        assert all(pair == [LETTERS[t.right], LETTERS[1 - t.right]] for pair, t in zip(letters, rows, strict=True))
        assert all(b.roles.count(Role.VERDICT) == 6 for tree in rows for b in tree.branches)


def test_a_run_that_does_not_fit_is_tried_with_less():
    part = parts(["8b"])[0]
    tried = []

    def attempt(task):
        tried.append((task.micro, task.checkpointing))
        return {"error": "OutOfMemoryError: no", "micro": task.micro} if not task.checkpointing else {"seconds": 1}

    assert measured(Run(part, "ours", "cuda", 4), attempt) == {"seconds": 1}
    assert tried == [(4, False), (2, False), (1, False), (1, True)]
    broken = measured(Run(part, "ours", "cuda", 4), lambda task: {"error": "ValueError: no", "micro": 4})
    assert broken["error"] == "ValueError: no", "another mistake is not tried again"


def test_the_first_try_fits_by_the_estimate():
    part = parts(["8b"])[0]
    assert first_try(part, "ours", "cuda", None).micro == part.rows
    rooms = [2**40, 60 * 2**30, 2**30]
    ours, trl = ([first_try(part, side, "cuda", room).micro for room in rooms] for side in SIDES)
    assert ours == sorted(ours, reverse=True) and ours[0] == part.rows and ours[-1] == 1
    assert all(a >= b for a, b in zip(ours, trl, strict=True)) and trl != ours, "prompts twice take more"


def test_one_failing_part_is_recorded_and_the_others_go_on(tmp_path, monkeypatch, capsys):
    def run(task, folder):
        if task.part.kind == "dpo":
            raise RuntimeError("broken\nmore")
        return {"seconds": 2.0, "rows_per_s": 1.0, "tokens_per_s": 9.0, "peak": None, "useful_flops_per_s": 1e6,
                "own_flops_per_s": 2e6, "micro": task.micro, "checkpointing": False}  # fmt: skip

    monkeypatch.setattr(gpu_runs, "run", run)
    gpu.main(["--device", "cpu", "--shapes", "tiny", "--sides", "ours", "--out", str(tmp_path)])
    found = json.loads((tmp_path / "gpu-cpu.json").read_text())
    dpo, genrm, bt = found["parts"]
    assert dpo["ours"] == {"error": "RuntimeError: broken", "micro": 4}
    for part in (genrm, bt):
        assert part["ours"]["mfu"] == 1e6 / found["matmul_flops"] == part["ours"]["busy"] / 2
    assert "RuntimeError: broken" in capsys.readouterr().out


def test_a_run_in_a_process_of_its_own():
    task = Run(parts(["tiny"])[0], "ours", "nowhere", 4)
    assert in_a_process(task, 1)["error"].startswith("left out")
    found = in_a_process(task, 300)
    assert found["error"].startswith("RuntimeError: ") and "nowhere" in found["error"]


def test_from_end_to_end(tmp_path, capsys):
    """The same training on both sides, where TRL is there; the same first loss."""
    flags = ["--device", "cpu", "--parts", "tiny-lora-dpo,tiny-full-genrm", "--shapes", "tiny", "--out", str(tmp_path)]
    gpu.main(flags)
    found = json.loads((tmp_path / "gpu-cpu.json").read_text())
    assert found["machine"]["torch"] == torch.__version__ and found["matmul_flops"] > 1e9
    for part in found["parts"]:
        ours = part["ours"]
        assert "error" not in ours, ours
        assert len(ours["losses"]) == 9 and ours["rows_per_s"] == pytest.approx(4 / ours["seconds"])
        assert 0 < ours["mfu"] == ours["busy"]
        if PEER:
            trl = part["trl"]
            assert "error" not in trl, trl
            assert part["speed"] == pytest.approx(ours["rows_per_s"] / trl["rows_per_s"])
            assert len(trl["losses"]) == 9
            if part["kind"] == "dpo":
                assert trl["busy"] > 1.3 * trl["mfu"] > 0, "prompts twice"
    assert "tiny-lora-dpo" in capsys.readouterr().out


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu(tmp_path):
    gpu.main(["--shapes", "tiny", "--parts", "tiny-lora-dpo", "--out", str(tmp_path)])
    (part,) = json.loads(next(tmp_path.glob("gpu-*.json")).read_text())["parts"]
    assert part["ours"]["peak"] > 0 and part["ours"]["mfu"] > 0


def test_useful_work_is_the_trees():
    part = parts(["8b"])[0]
    rows = trees(part, 4)
    assert Work.of_plain(rows, head=False).tokens > 1.7 * Work.of_trees(rows).tokens
