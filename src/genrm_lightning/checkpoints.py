"""Checkpoints that several processes write: folders of shards, which any number of processes reads.

A folder holds what torch's distributed checkpoint (DCP) writes, each process its shards of the trained weights and of
the optimizer's moments, and ``meta.pt`` with the rest. Reading one runs no code: DCP pickles its index, which is read
here by an unpickler that knows DCP's own classes of tensors alone.
"""

from __future__ import annotations

import pickle
import warnings
from pathlib import Path
from types import FunctionType
from typing import Any, ClassVar

import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint import FileSystemReader, FileSystemWriter, Metadata
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.metadata import TensorStorageMetadata

from data_tools.errors import UserError

REST = "meta.pt"  # Lightning's name for it
_INDEX = ".metadata"  # DCP's
_GROUPS = "optimizer_groups"
# What DCP's index of tensors is made of, beside dtypes. Other values, which DCP would unpickle, it cannot name.
_KNOWN = {
    ("collections", "OrderedDict"),
    ("torch", "Size"),
    ("torch.serialization", "_get_layout"),
    ("torch.distributed.checkpoint.filesystem", "_StorageInfo"),
    *(
        ("torch.distributed.checkpoint.metadata", name)
        for name in (
            "ChunkStorageMetadata",
            "Metadata",
            "MetadataIndex",
            "TensorProperties",
            "TensorStorageMetadata",
            "_MEM_FORMAT_ENCODING",
        )
    ),
}
# What reading a file or folder raises that is damaged or none of ours. A CheckpointException is no Exception.
UNREADABLE = (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, CheckpointException)


def write_sharded(folder: Path, checkpoint: dict[str, Any], first: bool) -> None:
    """Write a checkpoint of Lightning's. Every process calls it, with its own shards.

    Args:
        checkpoint: optimizer states are by parameters' names; all of their values are tensors.
        first: whether this process writes the rest, too.
    """
    rest = dict(checkpoint)
    states = rest.pop("optimizer_states", [])
    tensors = {"state_dict": rest.pop("state_dict"), **{_optimizer(i): s["state"] for i, s in enumerate(states)}}
    dcp.save(tensors, storage_writer=_Writer(str(folder)))
    if first:
        torch.save({**rest, _GROUPS: [state["param_groups"] for state in states]}, folder / REST)


def read_rest(folder: Path) -> dict[str, Any]:
    """The checkpoint without its tensors: of weights there is what the index says of them, of optimizers the groups."""
    rest = torch.load(folder / REST, map_location="cpu", weights_only=True)
    if not isinstance(rest, dict) or _GROUPS not in rest:
        raise ValueError(f"{REST} holds no {_GROUPS}")
    weights = {path[1]: kind for path, kind in _tensors(folder) if path[0] == "state_dict"}
    states = [{"param_groups": groups} for groups in rest.pop(_GROUPS)]
    return {**rest, "state_dict": weights, "optimizer_states": states}


def read_weights(folder: Path, weights: dict[str, torch.Tensor]) -> None:
    """Fill (sharded) tensors in place, however many processes wrote them. Every process calls it.

    Raises:
        UserError: the folder is damaged, or its tensors are of other sizes.
    """
    _read(folder, {"state_dict": weights})


def read_moments(folder: Path, number: int, state: dict[str, dict[str, torch.Tensor]]) -> None:
    """Like :func:`read_weights` for an optimizer's state: parameter -> name -> tensor."""
    _read(folder, {_optimizer(number): state})


def read_whole(folder: Path) -> dict[str, Any]:
    """A checkpoint of Lightning's as one process writes it: every tensor in full, read by this process alone."""
    rest = read_rest(folder)
    tensors = {path: torch.empty(kind.size, dtype=kind.properties.dtype) for path, kind in _tensors(folder)}
    with warnings.catch_warnings(action="ignore"):  # of reading in one process
        dcp.load(
            {".".join(path): tensor for path, tensor in tensors.items()},
            storage_reader=_Reader(str(folder)), no_dist=True,
        )  # fmt: skip
    weights = {path[1]: tensor for path, tensor in tensors.items() if path[0] == "state_dict"}
    states = []
    for i, state in enumerate(rest["optimizer_states"]):
        names = [name for group in state["param_groups"] for name in group["params"]]
        numbers = {name: number for number, name in enumerate(names)}
        moments: dict[int, dict[str, torch.Tensor]] = {}
        for path, tensor in tensors.items():
            if path[0] == _optimizer(i):
                moments.setdefault(numbers[path[1]], {})[path[2]] = tensor
        groups = [{**group, "params": [numbers[name] for name in group["params"]]} for group in state["param_groups"]]
        states.append({"state": moments, "param_groups": groups})
    return {**rest, "state_dict": weights, "optimizer_states": states}


def by_name(state: dict[str, Any], names: list[str]) -> dict[str, Any]:
    """An optimizer's state as one process keeps it, with the parameters' names in the place of their numbers."""
    groups = [{**group, "params": [names[i] for i in group["params"]]} for group in state["param_groups"]]
    return {"state": {names[i]: values for i, values in state["state"].items()}, "param_groups": groups}


def follow_accumulation(loops: dict[str, Any], before: int, now: int) -> None:
    """Lightning counts microbatches: restate the progress of an epoch in those of another accumulate_grad_batches.

    Args:
        loops: of a checkpoint that was taken at the end of an optimizer step.
        before, now: microbatches of a step.
    """
    progress = loops["fit_loop"]["epoch_loop.batch_progress"]
    for counts in (progress["total"], progress["current"]):
        # Within a batch's hooks some counts are one behind the others, and stay so.
        more = counts["ready"] // before * now - counts["ready"]
        counts.update({name: count + more for name, count in counts.items()})


def unreadable(path: str | Path, error: BaseException) -> UserError:
    """What to tell of one of ``UNREADABLE``."""
    if isinstance(error, CheckpointException):  # of a process: its own text is a traceback
        error = next(iter(error.failures.values()))[0]
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return UserError(f"ckpt_path: {path}: not a readable checkpoint ({reason})")


def _read(folder: Path, tensors: dict[str, Any]) -> None:
    try:
        dcp.load(tensors, storage_reader=_Reader(str(folder)))
    except UNREADABLE as error:
        raise unreadable(folder, error) from None


def _tensors(folder: Path) -> list[tuple[tuple[str, ...], TensorStorageMetadata]]:
    """(way to it, what it is) of every tensor in a folder."""
    index = _Reader(str(folder)).read_metadata()
    return [(index.planner_data[key], kind) for key, kind in index.state_dict_metadata.items()]


def _optimizer(number: int) -> str:
    return f"optimizer_{number}"


class _Writer(FileSystemWriter):
    def storage_meta(self) -> None:  # the folder's path, which it will not keep
        return None


class _Unpickler(pickle._Unpickler):
    """Names DCP's classes alone, and sets attributes of their objects alone, not of classes or functions."""

    dispatch: ClassVar[dict] = dict(pickle._Unpickler.dispatch)

    def load_build(self) -> None:
        if isinstance(self.stack[-2], type | FunctionType):
            raise pickle.UnpicklingError("it would change a class or a function")
        super().load_build()

    dispatch[pickle.BUILD[0]] = load_build

    def find_class(self, module: str, name: str) -> Any:
        dtype = module == "torch" and isinstance(getattr(torch, name, None), torch.dtype)
        if not dtype and (module, name) not in _KNOWN:
            raise pickle.UnpicklingError(f"{module}.{name} does not belong there")
        return super().find_class(module, name)


class _Reader(FileSystemReader):
    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        with open(Path(self.path) / _INDEX, "rb") as file:
            try:
                index = _Unpickler(file).load()
            except (Exception, MemoryError) as error:  # of damaged bytes: anything
                raise pickle.UnpicklingError(f"{_INDEX} is damaged: {error}") from None
        if not isinstance(index, Metadata) or not isinstance(index.planner_data, dict):
            raise pickle.UnpicklingError(f"{_INDEX} is no index")
        return index
