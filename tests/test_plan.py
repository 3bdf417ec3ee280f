"""A plan against the fit that follows it: what is exact is equal, what is estimated is near."""

import json
from collections import Counter
from types import SimpleNamespace

import lightning as L
import pytest
import torch
from torch.profiler import profile
from torch.utils.flop_counter import FlopCounterMode
from transformers import LlamaConfig

from data_tools.errors import UserError
from genrm_lightning.__main__ import main
from genrm_lightning.backbone import BackboneSettings, LoraSettings, load_policy, load_renderer, save_judge
from genrm_lightning.cli import read_fit
from genrm_lightning.data import EmbeddedPairs, Tables
from genrm_lightning.objectives import BradleyTerry, GenRM, RationaleDPO
from genrm_lightning.plan import plan
from genrm_lightning.rate import matmul_rate
from tests.objectives.common import backbone, files, make
from tests.tiny import make_trainer, tiny_tokenizer
from tests.tiny_star import write_yaml

__all__ = ["files"]


def trainer_config(**changes):
    """A trainer section as a config without one has it."""
    return {
        "accelerator": "cpu", "devices": 1, "num_nodes": 1, "strategy": "auto", "precision": "bf16-mixed",
        "max_epochs": 1, "max_steps": -1, "limit_train_batches": None, "accumulate_grad_batches": 1, **changes,
    }  # fmt: skip


class Seen(L.Callback):
    """Counts what goes through a fit."""

    def __init__(self):
        self.tokens = self.positions = 0

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        self.tokens += int((batch.segments >= 0).sum()) if batch.weight else 0
        self.positions += batch.segments.numel()


def bytes_of(tensors):
    return sum(t.numel() * t.element_size() for t in tensors)


def peak_of(fit) -> int:
    """Bytes that torch held at most, as its profiler saw it; which has been seen to miss a whole fit."""
    for _ in range(3):
        with profile(profile_memory=True) as profiled:
            fit()
        now = peak = 0
        events = [e for e in profiled.profiler.kineto_results.events() if e.name() == "[memory]"]
        for event in sorted(events, key=lambda e: e.start_ns()):
            now += event.nbytes()
            peak = max(peak, now)
        if len(events) > 1000:
            break
    return peak


@pytest.mark.parametrize(
    ("kind", "way"),
    [("genrm", "full"), ("bradley_terry", "layers"), ("dpo", "lora"), ("dpo, direct", "lora, checkpointing")],
)
def test_a_plan_and_its_fit(tmp_path, files, tiny_llama, kind, way):
    """Parameters, tokens, padding, steps and the tensors' bytes are those of the fit; the peak is at most 15 % above
    the plan and a third below it; torch's FLOPs a place of the batches are at most 30 % above (short trees' attention
    is dense)."""
    options = {"accumulate_grad_batches": 2, "max_epochs": 2, "precision": "bf16-mixed"}
    found = plan(make(kind, tiny_llama, way), Tables(files[kind], batch_size=3), trainer_config(**options))

    seen, objective = Seen(), make(kind, tiny_llama, way)
    trainer = make_trainer(tmp_path, seen, **options)
    with FlopCounterMode(display=False) as counter:
        trainer.fit(objective, Tables(files[kind], batch_size=3))
    parameters = list(objective.parameters())
    trained = [p for p in parameters if p.requires_grad]
    assert found["parameters"]["total"] == sum(p.numel() for p in parameters)
    assert found["parameters"]["trained"] == sum(p.numel() for p in trained)
    assert sum(found["parameters"].values()) == sum(p.numel() for p in [*parameters, *parameters, *trained])
    assert 2 * found["data"]["tokens"] == seen.tokens
    assert found["data"]["padding"] == pytest.approx(1 - seen.tokens / seen.positions, abs=0.02), "of the first epoch"
    assert found["steps"]["total"] == trainer.global_step == 2 * found["steps"]["epoch"]
    memory = found["memory"]
    assert memory["weights"] == bytes_of([*parameters, *objective.policy.buffers()])
    states = trainer.optimizers[0].state.values()
    assert memory["optimizer"] == bytes_of(v for state in states for v in state.values())
    assert memory["gradients"] == bytes_of(trained), "float32, like what is trained"
    assert 1 <= counter.get_total_flops() * seen.tokens / seen.positions / found["flops"]["total"] < 1.3

    peak = peak_of(
        lambda: make_trainer(tmp_path, **options).fit(make(kind, tiny_llama, way), Tables(files[kind], batch_size=3))
    )
    assert 0.66 < peak / memory["total"] < 1.15


@pytest.mark.parametrize(
    ("kind", "way", "options"),
    [("genrm", "full", {}), ("on_policy", "full", {}), ("on_policy", "lora", {"teacher": "reference"})],
)
def test_products_are_what_torch_counts(tmp_path, files, tiny_llama, kind, way, options):
    """Without padding, all products with weights are within a fiftieth of torch's count."""
    objective = make(kind, tiny_llama, way, **options)
    found = plan(objective, Tables(files[kind], batch_size=1), trainer_config())
    assert found["data"]["padding"] == 0
    counted = Counter()
    with FlopCounterMode(display=False) as counter:
        make_trainer(tmp_path).fit(objective, Tables(files[kind], batch_size=1))
    for operation, number in counter.get_flop_counts()["Global"].items():
        counted[str(operation)] += number
    flops, steps = found["flops"], found["steps"]["total"]
    products = (flops["layers"] + flops["vocabulary"] + flops["recomputed"]) * steps
    if way == "lora":
        # What torch leaves out (tests/test_cost.py), and scores that are computed again are no products with weights.
        products -= (flops["recomputed"] * steps) + 2 * found["data"]["tokens"] * (64 * 64 + 2 * 64 * 32 + 3 * 4 * 64)
    if "reference" in flops:  # one of the six attentions of a layer's three passes: forward, and twice that backward
        products += (flops["reference"] - flops["attention"] / 3) * steps
    assert counted["aten.mm"] + counted["aten.addmm"] == pytest.approx(products, rel=0.02)


@pytest.fixture(scope="module")
def eight_billion(tmp_path_factory):
    """A folder with the config of a Llama-3.1-8B and a tokenizer: no weights."""
    folder = tmp_path_factory.mktemp("8b")
    LlamaConfig(
        vocab_size=128256, hidden_size=4096, intermediate_size=14336, num_hidden_layers=32, num_attention_heads=32,
        num_key_value_heads=8, max_position_embeddings=131072, architectures=["LlamaForCausalLM"],
    ).save_pretrained(folder)  # fmt: skip
    tiny_tokenizer().save_pretrained(folder)
    return folder


def test_eight_billion_parameters_without_weights(eight_billion):
    lora = BackboneSettings(str(eight_billion), LoraSettings(rank=16), dtype="bfloat16", gradient_checkpointing=True)
    found = plan(GenRM(lora), EmbeddedPairs(16, test_rows=4), trainer_config(accelerator="gpu", devices=2))
    rank = 16 * (2 * 2 * 4096 + 2 * (4096 + 1024) + 3 * (4096 + 14336)) * 32
    # What the model's own card says, and 42 million of the adapters.
    assert found["parameters"] == {
        "total": 8_030_261_248 + rank,
        "trained": rank,
        "embeddings": 525_336_576,
        "decoder layers": 6_979_584_000 + 32 * 2 * 4096 - 262_144,
        "final norm": 4096,
        "vocabulary head": 525_336_576,
        "adapters": rank,
    }
    assert found["memory"]["weights"] == pytest.approx(2 * 8_030_261_248 + 4 * rank, rel=1e-6)
    flops, tokens = found["flops"], found["data"]["tokens"]
    a_token = 4 * (found["parameters"]["decoder layers"] - 32 * 2 * 4096) + 6 * rank
    assert flops["layers"] * found["steps"]["total"] == pytest.approx(a_token * tokens, rel=1e-6)
    assert flops["recomputed"] > flops["useful"] / 3

    full = BackboneSettings(str(eight_billion), None, dtype="bfloat16", gradient_checkpointing=True)
    sharded = {"class_path": "lightning.pytorch.strategies.ModelParallelStrategy"}
    alone, eight = (
        plan(GenRM(full), EmbeddedPairs(16, test_rows=4), trainer_config(accelerator="gpu", devices=8, strategy=s))
        for s in ("ddp", sharded)
    )
    assert alone["memory"]["optimizer"] > 64e9 and not alone["sharded"]
    for part in ("gradients", "optimizer"):
        assert eight["memory"][part] == pytest.approx(alone["memory"][part] / 8, rel=1e-3)


def test_an_adapter_goes_on(tmp_path, files, tiny_llama):
    settings = backbone(tiny_llama, "lora")
    save_judge(load_policy(settings), load_renderer(str(tiny_llama)), tmp_path / "judge", settings)
    (tmp_path / "judge/adapter_model.safetensors").unlink()
    again = BackboneSettings(str(tmp_path / "judge"), None)
    first, second = (
        plan(GenRM(s), EmbeddedPairs(8, test_rows=4), trainer_config())["parameters"] for s in (settings, again)
    )
    assert first == second and second["trained"] == second["adapters"]
    live, stored = (
        plan(objective, Tables(files["dpo"]), trainer_config())["memory"]["weights"]
        for objective in (RationaleDPO(again, judge_prompt="brief", reference=kind) for kind in ("live", "stored"))
    )
    assert live - stored == 4 * second["adapters"]  # the frozen copy, float32


@pytest.mark.parametrize(
    ("trainer", "steps"),
    [
        ({}, (5, 5)),
        ({"max_epochs": 3, "accumulate_grad_batches": 2}, (3, 9)),
        ({"max_steps": 7, "max_epochs": 3}, (5, 7)),
        ({"max_steps": 7, "max_epochs": -1}, (5, 7)),
        ({"devices": "2", "num_nodes": 2}, (2, 2)),
        ({"devices": [0, 1]}, (3, 3)),
        ({"devices": "0,1"}, (3, 3)),
        ({"devices": "auto"}, (5, 5)),
        ({"limit_train_batches": 2}, (2, 2)),
        ({"limit_train_batches": 0.8, "accumulate_grad_batches": 3}, (2, 2)),
    ],
)
def test_steps(tiny_llama, trainer, steps):
    found = plan(BradleyTerry(backbone(tiny_llama)), EmbeddedPairs(18, batch_size=4), trainer_config(**trainer))
    assert (found["steps"]["epoch"], found["steps"]["total"]) == steps


def test_steps_under_a_limit_are_the_fits(tmp_path, tiny_llama):
    options = {"limit_train_batches": 0.8, "accumulate_grad_batches": 3, "max_epochs": 2}
    found = plan(BradleyTerry(backbone(tiny_llama)), EmbeddedPairs(18, batch_size=4), trainer_config(**options))
    trainer = make_trainer(tmp_path, **options)
    trainer.fit(BradleyTerry(backbone(tiny_llama)), EmbeddedPairs(18, batch_size=4))
    assert found["steps"]["total"] == trainer.global_step


def test_a_fit_without_an_end(tiny_llama):
    with pytest.raises(UserError, match=r"trainer\.max_epochs"):
        plan(GenRM(backbone(tiny_llama)), EmbeddedPairs(8), trainer_config(max_epochs=-1))


def test_time_at_a_rate(tiny_llama):
    one, two = (plan(GenRM(backbone(tiny_llama)), EmbeddedPairs(8), trainer_config(devices=d), 1e12) for d in (1, 2))
    assert one["seconds"] == pytest.approx(one["flops"]["total"] / 1e12)
    assert two["seconds"] == pytest.approx(one["seconds"] / 2, rel=1e-6), "two devices do the same work"


def test_the_rate_of_this_machine():
    assert 1e9 < matmul_rate("cpu", seconds=0.1) < 1e15


def config_file(folder, backbone_name, **data):
    return write_yaml(
        folder / "fit.yaml",
        {
            "model": {"class_path": "GenRM", "init_args": {"backbone": {"name": str(backbone_name), "lora": None}}},
            "data": {"class_path": "EmbeddedPairs", "init_args": {"rows": 8, "test_rows": 4, **data}},
            "trainer": {"accelerator": "cpu", "devices": 1},
        },
    )


def test_the_command(tmp_path, capsys, tiny_llama):
    config = str(config_file(tmp_path, tiny_llama))
    assert main(["plan", "--config", config, "--json", "--tflops", "0.001", "--data.batch_size", "2"]) == 0
    found = json.loads(capsys.readouterr().out)
    fit, objective, data = read_fit(["--config", config, "--data.batch_size", "2"])
    assert found == plan(objective, data, fit.trainer, 1e9)
    assert found["steps"]["total"] == 8 and found["seconds"] > 0
    assert main(["plan", "--config", config]) == 0
    said = capsys.readouterr().out
    assert f"{found['parameters']['total']:,}" in said and f"{found['data']['tokens']:,}" in said
    assert "GiB" in said and "time at" not in said
    assert main(["plan", "--config", config, "--measure"]) == 0
    assert "time at" in capsys.readouterr().out
    assert [p.name for p in tmp_path.iterdir()] == ["fit.yaml"], "a plan writes nothing"


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--tflops", "0"], "--tflops: 0 is not above 0"),
        (["--tflops", "x"], "--tflops"),
        (["--tflops", "1", "--measure"], "--measure"),
        (["--data.batch_size", "0"], "data.batch_size: 0"),
        (["--data.max_tokens", "5"], "data.max_tokens is 5"),
        (["--trainer.devies", "2"], "--trainer.devies"),
        (["--model.backbone.name", "nowhere"], "nowhere"),
        (["--config", "none.yaml"], "none.yaml"),
    ],
)
def test_mistakes(tmp_path, capsys, tiny_llama, flags, named):
    assert main(["plan", "--config", str(config_file(tmp_path, tiny_llama)), *flags]) == 2
    said = capsys.readouterr().err.strip()
    assert said.startswith("error: ") and "\n" not in said and named in said


def test_measure_where_there_is_no_such_device(monkeypatch):
    from genrm_lightning.plan import rate_here

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match="--measure: trainer.accelerator is gpu"):
        rate_here(SimpleNamespace(accelerator="gpu").__dict__)
