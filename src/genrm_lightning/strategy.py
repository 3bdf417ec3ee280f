"""Fully sharded training (FSDP2): the strategy that saves and loads the shards of a policy (sharded.py)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from lightning.pytorch.accelerators import AcceleratorRegistry
from lightning.pytorch.strategies import ModelParallelStrategy, StrategyRegistry
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.optim import Optimizer

from data_tools.artifact import put_back, replace_folder, sweep, temporary_name
from data_tools.errors import UserError
from genrm_lightning.callbacks import CheckpointFiles
from genrm_lightning.checkpoints import by_name, read_moments, read_weights, write_sharded
from genrm_lightning.sharded import reshard

_PRECISIONS = ("32-true", "bf16-mixed")
_AS_LIGHTNING_HAS_THEM = {None: "32-true", 32: "32-true", "32": "32-true", "bf16": "bf16-mixed"}


def check_names(trainer: Any) -> None:
    """Refuse a trainer's names that Lightning would refuse once it is built: a STaR run builds it hours later.

    Args:
        trainer: the ``trainer`` section of a config as it was read.

    Raises:
        UserError: names the key and what there is.
    """
    known = {
        "strategy": StrategyRegistry.available_strategies(),
        "accelerator": ["gpu", *AcceleratorRegistry.available_accelerators()],
    }
    for key, names in known.items():
        name = trainer.get(key)
        if isinstance(name, str) and name not in ("auto", *names):
            raise UserError(f"trainer.{key}: '{name}' is unknown; there are: auto, {', '.join(sorted(names))}")


class FSDP2Strategy(ModelParallelStrategy):
    """Weights, gradients and optimizer state in shards, one a process, of all devices of all nodes.

    A checkpoint is a folder that holds the trained weights alone; another number of processes may read it, one without
    sharding too, and this reads the file of such a one. On several nodes it lies in a file system that all of them see.

    Args:
        process_group_backend: null: nccl on GPUs, gloo on CPUs.
        timeout_minutes: how long a process waits for the others before it gives up.

    Raises:
        UserError: a ``timeout_minutes`` or trainer.precision that does not go with it.
    """

    def __init__(self, process_group_backend: str | None = None, timeout_minutes: float = 30.0) -> None:
        if not 0 < timeout_minutes < math.inf:
            raise UserError(f"FSDP2Strategy.timeout_minutes: {timeout_minutes} is not above 0")
        super().__init__(
            process_group_backend=process_group_backend,
            timeout=timedelta(minutes=timeout_minutes),
        )
        self._folder: Path | None = None  # the checkpoint that is being restored, where it is sharded

    @staticmethod
    def check_precision(precision: Any) -> None:
        """Raises UserError for what this cannot train in; names trainer.precision."""
        if _AS_LIGHTNING_HAS_THEM.get(precision, precision) not in _PRECISIONS:
            raise UserError(
                f"trainer.precision: {precision} would round the trained weights themselves, or scale losses, which "
                f"FSDP2Strategy does not; set {' or '.join(reversed(_PRECISIONS))}"
            )

    def setup_environment(self) -> None:
        self.check_precision(self.precision_plugin.precision)
        # Lightning's defaults: data parallel over nodes, tensor parallel within one.
        self._data_parallel_size, self._tensor_parallel_size = self.num_nodes * self.num_processes, 1
        super().setup_environment()

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """This process' shards of what is trained; a tied vocabulary head is there once, as in named_parameters."""
        reshard(self.model)
        found = get_model_state_dict(self.model, options=StateDictOptions(ignore_frozen_params=True, cpu_offload=True))
        return {name: found[name] for name, p in self.model.named_parameters() if p.requires_grad}

    def save_checkpoint(
        self, checkpoint: dict[str, Any], filepath: str | Path, storage_options: Any | None = None
    ) -> None:
        path = Path(self.broadcast(str(filepath)))
        temporary = path.with_name(self.broadcast(temporary_name(path.name)))
        if self.is_global_zero:
            put_back(path)
            sweep(path.parent)
            temporary.mkdir(parents=True)
        self.barrier()
        write_sharded(temporary, checkpoint, first=self.is_global_zero)
        if self.is_global_zero:
            replace_folder(temporary, path)
        self.barrier()

    def load_checkpoint(self, checkpoint_path: str | Path, weights_only: bool | None = None) -> dict[str, Any]:
        """What is no tensor: the module's checks come before its weights are read."""
        path = Path(self.broadcast(str(checkpoint_path)))
        self._folder = path if path.is_dir() else None
        return CheckpointFiles().load_checkpoint(path, whole=False)

    @property
    def lightning_restore_optimizer(self) -> bool:
        return True

    def load_model_state_dict(self, checkpoint: Mapping[str, Any], strict: bool = True) -> None:
        if self._folder is not None:
            weights = {
                name: p for name, p in get_model_state_dict(self.model).items() if name in checkpoint["state_dict"]
            }
            read_weights(self._folder, weights)
        else:
            weights = checkpoint["state_dict"]
        options = StateDictOptions(strict=False, full_state_dict=self._folder is None)
        set_model_state_dict(self.model, weights, options=options)

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        names = {parameter: name for name, parameter in self.model.named_parameters()}
        for number, (optimizer, stored) in enumerate(zip(self.optimizers, checkpoint["optimizer_states"], strict=True)):
            if self._folder is not None:
                state = get_optimizer_state_dict(self.model, optimizer)
                read_moments(self._folder, number, state["state"])
                state["param_groups"] = stored["param_groups"]
            else:
                state = by_name(stored, [names[p] for group in optimizer.param_groups for p in group["params"]])
            options = StateDictOptions(full_state_dict=self._folder is None)
            set_optimizer_state_dict(self.model, optimizer, state, options=options)

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        reshard(self.model)
        return super().optimizer_state(optimizer)
