"""Two real processes that shard a model (FSDP2, gloo) take the steps of one, save, go on, and export its judge."""

import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch.distributed.checkpoint.metadata import TensorStorageMetadata

from data_tools.artifact import write_table
from data_tools.errors import UserError
from data_tools.schema import EXAMPLE, PREFERENCE
from genrm_lightning.__main__ import main
from genrm_lightning.backbone import (
    BackboneSettings,
    LoraSettings,
    load_judge,
    load_policy,
    load_renderer,
    save_judge,
)
from genrm_lightning.callbacks import CheckpointFiles
from genrm_lightning.checkpoints import read_rest
from genrm_lightning.policy import Policy
from genrm_lightning.scoring import score_examples
from tests.fsdp_jobs import run
from tests.objectives.common import fit_config
from tests.tiny import examples, preferences
from tests.tiny_star import ROOT, write_yaml

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="gloo between processes is tried on Linux")

# Kind and way of tests/objectives/common.py, and what is set of the trainer. Steps of 8 rows: the last has fewer.
FITS = {
    "genrm": ("genrm", "full", {}),
    "reward, adapters": ("bradley_terry", "lora, checkpointing", {}),
    "dpo, adapters": ("dpo", "lora", {}),
    "dpo, live": ("dpo", "lora", {}),  # the reference is the base, its adapters switched off
    "dpo, live, continued": ("dpo", "lora", {}),  # or the frozen copy of the adapter that is gone on with
    "reward, bf16": ("bradley_terry", "full", {"precision": "bf16-mixed"}),
}
RESUMED = ("genrm", "dpo, adapters")  # behind step 3: genrm's first epoch's end, dpo in mid-epoch
ENVIRONMENT = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}", "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def fits(tiny_llama, tmp_path_factory) -> Path:
    """Folder of all fits: in ``one`` process, in ``two``; ``two-one`` began in two and went on in one, and so on."""
    root = tmp_path_factory.mktemp("fsdp")
    write_table(preferences(11), root / "pairs.parquet", PREFERENCE)
    write_table(preferences(1), root / "one-pair.parquet", PREFERENCE)  # the second process has none of it
    write_table(score_examples(examples(11), str(tiny_llama), fit_config(lora=None)), root / "dpo.parquet", EXAMPLE)
    settings = BackboneSettings(str(tiny_llama), LoraSettings(rank=4))
    torch.manual_seed(1)
    save_judge(disturbed(load_policy(settings)), load_renderer(str(tiny_llama)), judge := root / "begun", settings)

    def job(name: str, folder: str) -> dict:
        kind, way, trainer = FITS[name]
        *before, now = folder.split("-")
        return {
            "name": name, "root": str(root / folder), "kind": kind, "way": way,
            "backbone": str(judge if "continued" in name else tiny_llama),
            "objective": {"reference": "live"} if "live" in name else {},
            "file": str(root / ("dpo.parquet" if kind == "dpo" else "pairs.parquet")),
            "validation": None if kind == "dpo" else str(root / "one-pair.parquet"),
            "batch_size": 8 if now == "one" else 2,
            "trainer": {**trainer, "accumulate_grad_batches": 1 if now == "one" else 2},
            "ckpt": str(root / before[0] / name / "checkpoints/step=3.ckpt") if before else None,
        }  # fmt: skip

    for name in FITS:
        run(job(name, "one"))
    jobs = [job(name, "two") for name in FITS]
    jobs += [job(name, folder) for name in RESUMED for folder in ("two-two", "one-two")]
    (root / "jobs.json").write_text(json.dumps(jobs))
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*torchrun, str(ROOT / "tests/fsdp_jobs.py"), str(root / "jobs.json")]
    done = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, check=False)
    assert done.returncode == 0, done.stderr
    for name in RESUMED:
        run(job(name, "two-one"))
    return root


def disturbed(policy: Policy) -> Policy:
    """With other trained weights: a new adapter changes nothing."""
    for parameter in policy.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.05)
    return policy


def told(folder: Path, rank: int = 0) -> dict:
    return json.loads((folder / f"told-{rank}.json").read_text())


def of_steps(folder: Path) -> list[float]:
    """The loss of each step of two processes with two microbatches, which Lightning has divided by their number."""
    first, second = (told(folder, rank)["losses"] for rank in range(2))
    return [sum(first[at : at + 2] + second[at : at + 2]) / 2 for at in range(0, len(first), 2)]


def judge(folder: Path) -> dict[str, torch.Tensor]:
    """Every tensor of the judge that a fit exported."""
    files = sorted((folder / "judge").glob("*.safetensors"))
    return {name: tensor for file in files for name, tensor in load_file(file).items()}


def same(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> None:
    """Equal but for rounding. Of a gradient that is all but zero Adam makes a step of the whole rate (5e-3)."""
    assert ours.keys() == theirs.keys() and ours
    apart = torch.cat([(ours[name] - theirs[name]).abs().flatten() for name in ours])
    assert float(apart.max()) < 1e-3 and float((apart > 1e-5).float().mean()) < 1e-3


@pytest.mark.parametrize("name", [name for name in FITS if "bf16" not in name])
def test_two_processes_take_the_steps_of_one(fits, tiny_llama, name):
    one, two = fits / "one" / name, fits / "two" / name
    alone = told(one)
    assert of_steps(two) == pytest.approx(alone["losses"], abs=1e-5)
    assert told(two)["norms"] == pytest.approx(alone["norms"], rel=1e-3)
    assert max(alone["norms"]) == pytest.approx(0.5, rel=1e-3), "nothing was clipped"
    assert alone["losses"][-1] < 0.5 * alone["losses"][0], "nothing was learned"
    same(judge(two), judge(one))
    assert told(two)["metrics"] == pytest.approx(alone["metrics"], abs=1e-4)
    assert told(two)["steps"] == alone["steps"]


@pytest.mark.parametrize("name", FITS)
def test_one_process_reads_the_weights(fits, name):
    assert [told(fits / "two" / name, rank)["reads"] for rank in range(2)] == [1, 0]
    assert told(fits / "one" / name)["reads"] == 1


@pytest.mark.parametrize("name", FITS)
def test_the_exported_judge_is_a_whole_one(fits, name):
    """A fresh load says what the sharded model said; nothing is left of the shards."""
    folder = fits / "two" / name
    margins = {**told(folder)["margins"], **told(folder, 1)["margins"]}
    alone = told(fits / "one" / name)["margins"]
    assert margins.keys() == alone.keys() and len(margins) == 11
    if "bf16" not in name:
        assert all(margins[pair] == pytest.approx(alone[pair], abs=1e-4) for pair in alone)
    scores = int("reward" in name)
    plain, sharded = (load_judge(str(fits / where / name / "judge"), torch.float32, scores) for where in ("one", "two"))
    assert plain.state_dict().keys() == sharded.state_dict().keys()
    assert {p.name for p in (folder / "judge").iterdir()} == {p.name for p in (fits / "one" / name / "judge").iterdir()}


def test_bf16_is_that_of_one_process(fits):
    """The first step's loss is the same: rewards are float32 heads on states that sharding has not rounded further."""
    one, two = fits / "one/reward, bf16", fits / "two/reward, bf16"
    assert of_steps(two)[0] == pytest.approx(told(one)["losses"][0], abs=1e-5)
    assert of_steps(two) == pytest.approx(told(one)["losses"], abs=0.05)
    # Trained weights keep float32: what they gain in a step would be lost in bf16.
    tensors = read_rest(two / "checkpoints/step=1.ckpt")["state_dict"]
    assert {kind.properties.dtype for kind in tensors.values()} == {torch.float32}
    assert all(tensor.dtype == torch.float32 for tensor in judge(two).values())


@pytest.mark.parametrize("name", RESUMED)
@pytest.mark.parametrize("ways", ["two-two", "two-one", "one-two"])
def test_a_fit_goes_on_where_others_began_it(fits, name, ways):
    """Whoever writes a checkpoint and whoever reads it: the rest of the fit is the rest of an uninterrupted one."""
    whole, rest = fits / "one" / name, fits / ways / name
    expected = told(whole)["losses"][3:]
    assert (told(rest)["losses"] if ways.endswith("one") else of_steps(rest)) == pytest.approx(expected, abs=1e-5)
    same(judge(rest), judge(whole))
    if ways == "two-two":
        assert judge(rest).keys() == judge(fits / "two" / name).keys()
        assert all(torch.equal(judge(rest)[key], tensor) for key, tensor in judge(fits / "two" / name).items())


def test_a_checkpoint_of_adapters_holds_no_frozen_weight(fits):
    folder = fits / "two/reward, adapters/checkpoints/step=3.ckpt"
    names = read_rest(folder)["state_dict"].keys()
    assert len(names) == 28 + 1 and all("lora_" in name or name == "policy.head.weight" for name in names)
    whole = CheckpointFiles().load_checkpoint(folder)
    assert {values["exp_avg"].shape for values in whole["optimizer_states"][0]["state"].values()} == {
        tensor.shape for tensor in judge(fits / "two/reward, adapters").values()
    }
    assert sorted(p.name for p in folder.iterdir()) == [".metadata", "__0_0.distcp", "__1_0.distcp", "meta.pt"]
    # Tied: the vocabulary head is the embedding, which is there once.
    names = read_rest(fits / "two/genrm/checkpoints/step=3.ckpt")["state_dict"]
    assert len(names) == 20 and "policy.lm.lm_head.weight" not in names


def test_a_folder_of_shards_runs_no_code_and_is_whole(fits, tmp_path):
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    def refused(reason: str) -> None:
        with pytest.raises(UserError, match=f"damaged: {reason}"):
            CheckpointFiles().load_checkpoint(folder)

    folder = tmp_path / "damaged"
    good = fits / "two/genrm/checkpoints/step=3.ckpt"
    shutil.copytree(good, folder)
    assert CheckpointFiles().load_checkpoint(folder)["global_step"] == 3
    for name, write in ((".metadata", pickle.dump), ("meta.pt", torch.save)):
        for content in (Evil(), {"other": 1}):
            with open(folder / name, "wb") as file:
                write(content, file)
            refused("not a readable checkpoint")
        (folder / name).unlink()
        refused(rf"no such file \({name} in it\)")
        shutil.copy(good / name, folder / name)
    (folder / "__1_0.distcp").write_bytes(b"half")
    refused("not a readable checkpoint")
    assert not (tmp_path / "ran").exists()


def test_an_index_changes_no_class(fits, tmp_path):
    folder = tmp_path / "sly"
    shutil.copytree(fits / "two/genrm/checkpoints/step=3.ckpt", folder)
    # BUILD on a class: TensorStorageMetadata.owned = "yes"
    (folder / ".metadata").write_bytes(
        b"ctorch.distributed.checkpoint.metadata\nTensorStorageMetadata\n(N}S'owned'\nS'yes'\nstb."
    )
    with pytest.raises(UserError, match="it would change a class"):
        CheckpointFiles().load_checkpoint(folder)
    assert not hasattr(TensorStorageMetadata, "owned")


def test_one_process_writes_where_several_did(fits, tmp_path):
    """A file takes the place of a folder of shards, the other way round likewise."""
    folder = tmp_path / "last.ckpt"
    shutil.copytree(fits / "two/genrm/checkpoints/step=3.ckpt", folder)
    whole = CheckpointFiles().load_checkpoint(folder)
    CheckpointFiles().save_checkpoint(whole, folder)
    assert folder.is_file() and [path.name for path in tmp_path.iterdir()] == ["last.ckpt"]
    assert CheckpointFiles().load_checkpoint(folder)["global_step"] == 3


def test_a_precision_that_rounds_weights_is_refused(tmp_path, capsys, tiny_llama):
    for precision in ("bf16-true", "16-mixed"):
        config = fit(tmp_path, tiny_llama, precision=precision)
        assert main(["fit", *map(str, config)]) == 2
        said = capsys.readouterr().err
        assert said.startswith(f"error: trainer.precision: {precision} would round") and said.count("\n") == 1
    assert not (tmp_path / "out").exists()


def fit(folder: Path, backbone: Path, epochs: int = 1, **trainer) -> list:
    """Flags of a fit on two CPU processes, with the shipped trainer config."""
    write_table(preferences(16), folder / "pairs.parquet", PREFERENCE)
    checkpoints = {"class_path": "genrm_lightning.callbacks.LastCheckpoint", "init_args": {"minutes": 1e-6}}
    config = {
        "model": {
            "class_path": "genrm_lightning.objectives.BradleyTerry",
            "init_args": {
                "backbone": {"name": str(backbone), "lora": {"rank": 4}},
                "optimizer": {"learning_rate": 5e-3},
            },
        },
        "data": {
            "class_path": "genrm_lightning.data.Tables",
            "init_args": {"train": str(folder / "pairs.parquet"), "batch_size": 2},
        },
        "trainer": {
            "accelerator": "cpu", "devices": 2, "precision": "32-true", "max_epochs": epochs, "logger": False,
            "default_root_dir": str(folder / "out"), "callbacks": [checkpoints], **trainer,
        },
    }  # fmt: skip
    own = write_yaml(folder / "fit.yaml", config)
    return ["--config", ROOT / "configs/trainer/fsdp.yaml", "--config", own]


def test_weights_that_cannot_be_read_end_both(tmp_path, tiny_llama):
    """The second process, which reads none, is told; neither waits for the other."""
    folder = shutil.copytree(tiny_llama, tmp_path / "cut")
    (folder / "model.safetensors").write_bytes(b"cut off")
    command = [sys.executable, "-m", "genrm_lightning", "fit", *map(str, fit(tmp_path, folder))]
    done = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, timeout=600, check=False)
    assert done.returncode in (2, -signal.SIGKILL), "Lightning kills the others where one has ended"
    assert done.stderr.count(f"backbone.name: no model in '{folder}'") == 2 and "Traceback" not in done.stderr


def test_killed_in_mid_fit_and_resumed(tmp_path, tiny_llama):
    """SIGKILL of both processes while they save after every step; the fit ends with the weights of a whole one."""
    epochs = 6  # of 4 steps
    flags = fit(tmp_path, tiny_llama, epochs)
    command = [sys.executable, "-m", "genrm_lightning", "fit", *map(str, flags)]
    last = tmp_path / "out/checkpoints/last.ckpt"
    begun = subprocess.Popen(
        command, env=ENVIRONMENT, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    try:
        written = 0
        while written < 3:  # folders that got the name
            assert begun.poll() is None, begun.stderr.read()
            known = last.stat().st_ino if last.exists() else None
            time.sleep(0.01)
            written += last.exists() and last.stat().st_ino != known
    finally:
        os.killpg(begun.pid, signal.SIGKILL)
    begun.wait()
    assert not (tmp_path / "out/judge").exists()
    done = subprocess.run(
        [*command, "--ckpt_path", "last"], capture_output=True, text=True, env=ENVIRONMENT, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith("fit: ") and int(done.stderr.split()[1]) < 4 * epochs, "it began anew"
    left = {path.name for path in (tmp_path / "out/checkpoints").iterdir()}
    assert left == {"last.ckpt"}, "of the killed one nothing is left"
    assert read_rest(last)["global_step"] == 4 * epochs
    # The same steps in one process, unsharded and undisturbed.
    shutil.move(tmp_path / "out", tmp_path / "resumed")
    config = ["--trainer.strategy", "auto", "--trainer.devices", "1", "--data.init_args.batch_size", "4"]
    assert main(["fit", *map(str, flags), *config]) == 0
    same(judge(tmp_path / "resumed"), judge(tmp_path / "out"))
