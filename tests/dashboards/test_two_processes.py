"""Two processes (gloo) show of uneven held-out rows what one process shows of them."""

import sys

import polars as pl
import pytest
from tensorboard.util import tensor_util

from data_tools.artifact import write_table
from data_tools.schema import PREFERENCE
from tests.dashboards.common import charts, config, points, read
from tests.samplers.servers import free_port
from tests.tiny import preferences
from tests.tiny_star import ROOT, side_by_side, write_yaml

# Of held-out pairs: the first process, which writes, has no row of "rare", and the last step has none for the second.
CATEGORIES = [*["maths", "chat", "maths", "rare"], *["maths", "chat"] * 3, "chat", "chat", "maths"]
TRAINED = 8
# Letters in both orders, a response alone, and only one row for two processes.
CASES = [("GenRM", 13, "ddp"), ("GenRM", 13, "fsdp"), ("BradleyTerry", 13, "ddp"), ("BradleyTerry", 1, "ddp")]

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="gloo between processes is tried on Linux")


@pytest.fixture(scope="module")
def roots(tiny_llama, tmp_path_factory):
    """(objective, held-out pairs, strategy or "one") -> where it worked.

    At so small a rate all judges stay the one that they begin as: what differs is what two processes make of it.
    """
    folder = tmp_path_factory.mktemp("two")
    length = pl.int_range(pl.len()) * 7 % 5  # the margins differ, some rows are right and some are wrong
    rows = preferences(TRAINED + len(CATEGORIES)).with_columns(
        category=pl.Series(["-"] * TRAINED + CATEGORIES),
        chosen=pl.col("chosen") + pl.lit(" sky").repeat_by(length).list.join(""),
    )
    places, jobs = {}, []
    for objective, pairs, way in [*dict.fromkeys((*case[:2], "one") for case in CASES), *CASES]:
        place = places[objective, pairs, way] = folder / f"{objective}-{pairs}-{way}"
        ranks = 1 if way == "one" else 2
        more = {"max_epochs": 1, "devices": ranks, **({"strategy": "ddp"} if way == "ddp" else {})}
        given = config(place, tiny_llama, objective=objective, **more)
        given["model"]["init_args"]["optimizer"]["learning_rate"] = 1e-12
        given["data"]["init_args"]["batch_size"] = 4 // ranks
        write_table(rows[:TRAINED], place / "train.parquet", PREFERENCE)
        write_table(rows[TRAINED:][:pairs], place / "validation.parquet", PREFERENCE)
        first = ["--config", ROOT / "configs/trainer/fsdp.yaml"] if way == "fsdp" else []
        argv = ["fit", *first, "--config", write_yaml(place / "fit.yaml", given)]
        if ranks == 1:
            jobs.append({"argv": argv, "after": True})
            continue
        shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port(), "WORLD_SIZE": 2, "TORCHELASTIC_RUN_ID": "x"}
        for rank in range(2):  # as torchrun starts them; the second one when the first has begun
            env = {name: str(value) for name, value in {**shared, "RANK": rank, "LOCAL_RANK": rank}.items()}
            begins = {"start": str(place / "0.log")} if rank else {"after": True}
            jobs.append({"argv": argv, **begins, "env": env, "log": str(place / f"{rank}.log")})
    done = side_by_side(folder, *jobs)
    assert [one["status"] for one in done] == [0] * len(jobs), [one["said"] for one in done]
    return places


def values(run):
    """What a run says of held-out rows and of gradients, by tag: (step, its numbers) each."""
    events = read(run)
    tags = events.Tags()
    found = {
        name: [(e.step, [e.value]) for e in events.Scalars(name)]
        for name in tags["scalars"]
        if name.startswith(("judge/", "category", "val/", "train/gradient_norm"))
    }
    for name in tags["histograms"]:
        each = [(e.step, e.histogram_value) for e in events.Histograms(name)]
        found[name] = [(step, [h.min, h.max, h.num, h.sum / h.num, *h.bucket_limit, *h.bucket]) for step, h in each]
    curve = "judge/A_is_the_better_response"
    each = events.Tensors(curve) if curve in tags["tensors"] else []
    return found | {curve: [(e.step, tensor_util.make_ndarray(e.tensor_proto).ravel().tolist()) for e in each]}


@pytest.mark.parametrize("case", CASES, ids=str)
def test_they_show_what_one_does(roots, case):
    one, two = (values(roots[key] / "run") for key in ((*case[:2], "one"), case))
    assert two.keys() == one.keys() >= {"judge/accuracy", "val/ece", "val/brier", "category/maths"}
    for name, expected in one.items():
        assert [step for step, _ in two[name]] == [step for step, _ in expected], name
        for (_, ours), (_, theirs) in zip(two[name], expected, strict=True):
            near = 1e-5 if name == "train/gradient_norm" else 1e-6  # a float32 sum over all weights, sharded or not
            assert ours == pytest.approx(theirs, abs=1e-6, rel=near), name
    if case[1] > 1:
        assert one.keys() >= {"judge/average_precision", "category/rare"} and one["judge/A_is_the_better_response"]
        assert 0 < one["judge/accuracy"][0][1][0] < 1, "some are right and some are wrong"
    if case[0] == "GenRM":
        assert one.keys() >= {"val/position_bias", "val/position_consistency", "margins/verdict_log_odds"}
    shown = [charts(read(roots[key] / "run")) for key in ((*case[:2], "one"), case)]
    assert shown[0] == shown[1]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_first_one_alone_writes(roots, case):
    one, two = roots[*case[:2], "one"], roots[case]
    assert [len(list(place.rglob("*tfevents*"))) for place in (one, two)] == [1, 1]
    found, expected = (points(read(place / "run")) for place in (two, one))
    clocked = {name for name in expected.keys() | found.keys() if name.startswith("pace/")}
    assert {**found, **dict.fromkeys(clocked)} == {**expected, **dict.fromkeys(clocked)}, "no step twice"
