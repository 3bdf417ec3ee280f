"""A run's line in TensorBoard's HParams tab: its settings, and numbers that its curves end with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

Value = bool | int | float | str
_OF_TRAINER = {
    "max_epochs": "epochs", "max_steps": "max_steps", "accumulate_grad_batches": "accumulate",
    "precision": "precision",
}  # fmt: skip
_OF_DATA = ("batch_size", "batch_tokens", "rows")
# TensorBoard shows five columns unasked: first what is said to differ.
_FIRST = ("objective", "method", "trained", "learning_rate", "batch_size", "batch_tokens", "epochs")
_SAYS_NOTHING = {"max_steps": -1, "accumulate": 1}


def begin(writer: SummaryWriter, settings: Mapping[str, Value], metrics: Sequence[str]) -> None:
    """Write a run's settings and which of its scalars are its results, into the run itself.

    TensorBoard takes the columns of the runs it shows together from the first of them: runs of one kind make a table.
    """
    experiment, started, _ = hparams(dict(settings), dict.fromkeys(metrics, 0.0))
    content = HParamsPluginData.FromString(experiment.value[0].metadata.plugin_data.content)
    for info in content.experiment.hparam_infos:
        info.differs = info.name in _FIRST
    experiment.value[0].metadata.plugin_data.content = content.SerializeToString()
    for summary in (experiment, started):
        writer._get_file_writer().add_summary(summary)


def end(writer: SummaryWriter) -> None:
    """Say that the run came to its end."""
    writer._get_file_writer().add_summary(hparams({}, {})[2])


def of_fit(config: Mapping[str, Any]) -> dict[str, Value]:
    """The settings of a ``fit`` config that tell runs apart, with short names; what is null is left out.

    Args:
        config: as ``config.yaml`` has it, whole.
    """
    model, data, trainer = (config.get(name) or {} for name in ("model", "data", "trainer"))
    arguments, of_data = dict(model.get("init_args") or {}), data.get("init_args") or {}
    backbone, optimizer = arguments.pop("backbone", None) or {}, arguments.pop("optimizer", None) or {}
    found = {
        "objective": str(model.get("class_path", "")).rpartition(".")[2],
        "backbone": _name(backbone.get("name")),
        "trained": _trained(backbone),
        **{name: optimizer.get(name) for name in ("learning_rate", "warmup", "weight_decay")},
        **{name: of_data.get(name) for name in _OF_DATA},
        **{short: trainer.get(name) for name, short in _OF_TRAINER.items()},
        "seed": config.get("seed_everything"),
        **arguments,
    }
    return {
        name: value
        for name, value in found.items()
        if isinstance(value, Value) and value != "" and _SAYS_NOTHING.get(name) != value
    }


def of_star(settings: Any) -> dict[str, Value]:
    """The settings of a STaR run that tell runs apart.

    Args:
        settings: :class:`~genrm_lightning.star.settings.StarSettings`.
    """
    found = {
        **of_fit(settings.fit),
        "method": settings.variant,
        "backbone": _name(settings.backbone),
        "samples": settings.sampling.n_samples,
        "warm_start": "no" if settings.warm_start is None else "yes",
        **{name: getattr(settings, name) for name in ("start", "parts", "seed", "judge_prompt", "ranking", "pairing")},
    }
    return {name: value for name, value in found.items() if name != "objective"}


def _name(backbone: Any) -> Any:
    return Path(backbone).name if backbone and Path(backbone).is_absolute() else backbone


def _trained(backbone: Mapping[str, Any]) -> str | None:
    if not backbone.keys() & {"lora", "train_layers"}:  # a part of a config, that leaves it to the defaults
        return None
    lora, layers = backbone.get("lora"), backbone.get("train_layers")
    if lora:
        return f"LoRA, rank {lora.get('rank')}"
    return f"top {layers} layers" if layers else "all weights"
