"""The backbone all objectives share: a causal LM (hub id, folder or the embedded one), LoRA, a reward head.

Settings, loading and saving; the forward is in :mod:`~genrm_lightning.policy`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import PreTrainedModel

from data_tools.artifact import atomic_folder, write_json
from data_tools.errors import UserError
from genrm_lightning.embedded import embedded_folder
from genrm_lightning.judge_folder import JUDGE_FILE, judge_info
from genrm_lightning.policy import Policy
from genrm_lightning.pretrained import classes_of, config_of, empty_lm, first_line, load_lm
from genrm_lightning.reference import COPY, add_copy
from genrm_lightning.rendering import Renderer, load_tokenizer

if TYPE_CHECKING:
    from peft import PeftConfig

HEAD_FILE = "head.safetensors"
# peft's file, and the reward head's name in that of an exported adapter (export_adapter.py).
ADAPTER_FILE, ADAPTER_HEAD = "adapter_model.safetensors", "base_model.model.score.weight"
PRECISION = "bf16-mixed"  # trainer.precision where a config names none


@dataclass
class LoraSettings:
    """Low-rank adapters (arXiv 2106.09685) instead of training every weight.

    Attributes:
        rank: r.
        alpha: the update is scaled by alpha / rank.
        dropout: on the adapter's input.
        targets: module names, or "all-linear" for every linear layer but the vocabulary head.

    Raises:
        UserError: a number out of its range; names the key.
    """

    rank: int = 16
    alpha: float = 32
    dropout: float = 0.0
    targets: str | list[str] = "all-linear"

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise UserError(f"backbone.lora.rank: {self.rank} is not above 0")
        if not 0 < self.alpha < float("inf"):
            raise UserError(f"backbone.lora.alpha: {self.alpha} is not above 0")
        if not 0 <= self.dropout < 1:
            raise UserError(f"backbone.lora.dropout: {self.dropout} is not in [0, 1)")


@dataclass
class BackboneSettings:
    """Which model, and what of it is trained.

    Attributes:
        name: "embedded", a hub id, or a folder: a HF causal LM, a judge that this project saved, or for a reward model
            a HF sequence classifier, whose head is then gone on with.
        lora: adapters; null trains the model's own weights. A judge folder with an adapter goes on with that adapter.
        train_layers: without adapters, train only this many decoder layers, from the top; null trains every weight.
            The embeddings are then frozen too: on a CPU their dense gradient costs as much as all layers together.
        dtype: of frozen weights in memory; trained ones are always float32. bfloat16 is meant for
            a mixed trainer.precision, the default.
        gradient_checkpointing: recompute activations in the backward pass: less memory, a third more time.

    Raises:
        UserError: ``train_layers`` beside adapters, which would train the adapters alone.
    """

    name: str = "embedded"
    lora: LoraSettings | None = field(default_factory=LoraSettings)
    train_layers: int | None = None
    dtype: Literal["float32", "bfloat16"] = "float32"
    gradient_checkpointing: bool = False

    def __post_init__(self) -> None:
        if self.train_layers is not None and self.lora is not None:
            raise UserError(
                "backbone.train_layers: adapters are trained instead of layers while backbone.lora is set; "
                "set backbone.lora: null, or leave train_layers out"
            )


def resolve(name: str) -> str:
    """The hub id or folder behind a backbone's name ("embedded" is converted at the first use)."""
    return str(embedded_folder()) if name == "embedded" else name


def context_of(name: str) -> int | None:
    """Tokens that a backbone was made for, None where its config does not say."""
    folder = resolve(name)
    info = judge_info(folder)
    folder = resolve(info["base"]) if info.get("adapter") else folder
    return getattr(config_of(folder), "max_position_embeddings", None)


def load_renderer(name: str) -> Renderer:
    """The renderer of a backbone. A judge's tokenizer must render as it did in training.

    Raises:
        UserError: the folder's template hash is not that of its tokenizer.
    """
    folder = resolve(name)
    renderer = Renderer(load_tokenizer(folder))
    trained = judge_info(folder).get("template_hash")
    if trained not in (None, renderer.template_hash):
        raise UserError(
            f"{Path(folder) / JUDGE_FILE}: template_hash {trained} is not that of the tokenizer beside it "
            f"({renderer.template_hash}); restore the tokenizer files the judge was saved with"
        )
    return renderer


def has_adapters(settings: BackboneSettings) -> bool:
    """Whether a fit on these settings trains adapters: new ones, or those of the judge it goes on with."""
    return settings.lora is not None or bool(judge_info(resolve(settings.name)).get("adapter"))


def load_policy(settings: BackboneSettings, scores: int = 0, reference: bool = False) -> Policy:
    """Load what ``settings`` name, ready to train: adapters added or continued, the rest frozen under LoRA.

    Trained weights are float32 and equal the file's: they are never rounded on their way, so that a chain of fits
    loses nothing at its joints. Frozen ones take ``settings.dtype``.

    Args:
        reference: under adapters, keep what the policy at the fit's start needs: a continued adapter's frozen copy.

    Raises:
        UserError: no such model, or settings that do not fit it; names the key.
    """
    folder = resolve(settings.name)
    info = judge_info(folder)
    adapters = bool(info.get("adapter")) or settings.lora is not None
    frozen = getattr(torch, settings.dtype)
    # Under adapters nothing of the base is trained: it need never lie in memory in float32.
    base = resolve(info["base"]) if info.get("adapter") else folder
    lm, head = load_lm(base, frozen if adapters else torch.float32, scores)
    if settings.gradient_checkpointing:
        lm.gradient_checkpointing_enable({"use_reentrant": False})
    if info.get("adapter"):
        lm = _with_adapter(lm, folder, is_trainable=True)
    elif settings.lora is not None:
        lm = _add_adapter(lm, settings.lora, folder)
    lm = _as_trained(lm, settings, folder, scores)
    if reference and info.get("adapter"):
        add_copy(lm, folder, adapter_config(folder, trained=False))
    policy = Policy(lm, scores)
    policy.has_reference = adapters and (reference or not info.get("adapter"))
    if scores:
        _load_head(policy, folder, None if info.get("adapter") else head)
    return policy


def empty_policy(settings: BackboneSettings, scores: int = 0, device: str = "meta", reference: bool = False) -> Policy:
    """What :func:`load_policy` gives, but its weights: shapes, dtypes and what is trained.

    Needs the configs alone (of a judge with an adapter: its base's and the adapter's).

    Args:
        device: on the meta device nothing takes memory; on another one weights are random.
        reference: as :func:`load_policy`.

    Raises:
        UserError: as :func:`load_policy`.
    """
    folder = resolve(settings.name)
    info = judge_info(folder)
    source = resolve(info["base"]) if info.get("adapter") else folder
    adapters = bool(info.get("adapter")) or settings.lora is not None
    dtype = getattr(torch, settings.dtype) if adapters else torch.float32
    with torch.device(device):
        lm = empty_lm(source, dtype, scores)
        if settings.gradient_checkpointing:
            lm.gradient_checkpointing_enable({"use_reentrant": False})
        if info.get("adapter"):
            lm = _empty_adapter(lm, folder)
        elif settings.lora is not None:
            lm = _add_adapter(lm, settings.lora, folder)
        lm = _as_trained(lm, settings, folder, scores)
        if reference and info.get("adapter"):
            lm.add_adapter(COPY, adapter_config(folder, trained=False))
        policy = Policy(lm, scores)
    policy.has_reference = adapters and (reference or not info.get("adapter"))
    return policy


def _as_trained(lm: nn.Module, settings: BackboneSettings, folder: str, scores: int) -> nn.Module:
    """Freeze what is not trained, and give every weight its dtype."""
    adapted = hasattr(lm, "get_base_model")
    if adapted and settings.train_layers is not None:
        raise UserError(
            f"backbone.train_layers: '{folder}' is a judge with an adapter, which is what is trained; leave it out"
        )
    if settings.train_layers is not None:
        layers = lm.get_decoder().layers
        if not 1 <= settings.train_layers <= len(layers):
            raise UserError(
                f"backbone.train_layers: {settings.train_layers} is not in 1..{len(layers)}, the layers of '{folder}'"
            )
        lm.requires_grad_(False)
        layers[-settings.train_layers :].requires_grad_(True)
    vocabulary = lm.get_output_embeddings()
    if scores and vocabulary is not None and vocabulary.weight is not lm.get_input_embeddings().weight:
        vocabulary.requires_grad_(False)  # a reward model looks at no token: an untied head would get no gradient
    frozen = getattr(torch, settings.dtype)
    for parameter in lm.parameters():  # a tied weight is one parameter; buffers stay as their module made them
        parameter.data = parameter.data.to(torch.float32 if parameter.requires_grad else frozen)
    return lm


def load_judge(folder: str, dtype: torch.dtype, scores: int = 0) -> Policy:
    """A trained judge (or any model) for inference: adapters merged, eval mode, no gradients."""
    folder = resolve(folder)
    info = judge_info(folder)
    if info.get("adapter"):
        # Merge in float32: a bf16 sum would round a small update away.
        lm, _ = load_lm(resolve(info["base"]), torch.float32, scores)
        lm, head = _with_adapter(lm, folder).merge_and_unload(), None
        for parameter in lm.parameters():  # not buffers: positions' frequencies would lose their last digits
            parameter.data = parameter.data.to(dtype)
    else:
        lm, head = load_lm(folder, dtype, scores)
    policy = Policy(lm, scores)
    if scores and not _load_head(policy, folder, head):
        raise UserError(f"{Path(folder) / HEAD_FILE}: no such file; '{folder}' holds no reward model")
    return policy.eval().requires_grad_(False)


def scores_of(name: str) -> int:
    """Outputs of the reward head that a judge folder or a sequence classifier holds; 0: it holds none."""
    folder = resolve(name)
    head = reward_head(folder)
    if head is not None:
        return len(head)
    return 0 if judge_info(folder).get("adapter") else classes_of(config_of(folder))


def save_judge(
    policy: Policy, renderer: Renderer, folder: str | Path, settings: BackboneSettings, **facts: Any
) -> None:
    """Write a judge folder atomically: adapter or whole model, reward head, tokenizer, ``genrm.json``."""
    adapter = policy.lm is not policy.base
    info = judge_info(resolve(settings.name))
    base = info["base"] if info.get("adapter") else settings.name
    if Path(base).is_dir():
        base = str(Path(base).resolve())  # the judge is read from anywhere
    for config in filter(None, (policy.base.config, policy.base.generation_config)):
        config.pad_token_id = renderer.pad_id  # where the model says pad = eos, its judges do not
    with atomic_folder(folder) as temporary:
        # A continued adapter's frozen copy stays out.
        policy.lm.save_pretrained(temporary, **({"selected_adapters": ["default"]} if adapter else {}))
        renderer.tokenizer.save_pretrained(temporary)
        if policy.head is not None:
            save_file(
                {k: v.detach().cpu().contiguous() for k, v in policy.head.state_dict().items()}, temporary / HEAD_FILE
            )
        write_json(
            temporary / JUDGE_FILE,
            {
                "adapter": adapter,
                "base": base,
                "template_hash": renderer.template_hash,
                "backbone": asdict(settings),
                **facts,
            },
        )


def _add_adapter(lm: PreTrainedModel, lora: LoraSettings, folder: str) -> nn.Module:
    """New adapters on a frozen model."""
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=lora.targets,
        task_type="CAUSAL_LM",
    )
    try:
        adapted = get_peft_model(lm, config)
    except ValueError as error:
        raise UserError(
            f"backbone.lora.targets: {lora.targets!r} fits no module of '{folder}' ({first_line(error)}); "
            "name linear layers such as q_proj, or say: all-linear"
        ) from None
    head = adapted.get_output_embeddings()
    if head is not None and any("lora_" in name for name, _ in head.named_parameters()):
        raise UserError("backbone.lora.targets: the vocabulary head takes no adapter here; leave it out")
    return adapted


def _with_adapter(lm: PreTrainedModel, folder: str, is_trainable: bool = False) -> nn.Module:
    """The model with the adapter that a judge folder holds."""
    from peft import PeftModel

    try:
        config = adapter_config(folder, trained=is_trainable)
        return PeftModel.from_pretrained(lm, folder, is_trainable=is_trainable, config=config)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise UserError(
            f"backbone.name: the adapter in '{folder}' does not fit its base ({first_line(error)}); "
            "restore the judge folder as it was saved"
        ) from None


def _empty_adapter(lm: PreTrainedModel, folder: str) -> nn.Module:
    """The model with an adapter of the shape that a judge folder names, ready to be trained."""
    from peft import get_peft_model

    try:
        return get_peft_model(lm, adapter_config(folder, trained=True))
    except (OSError, ValueError) as error:
        raise UserError(
            f"backbone.name: the adapter in '{folder}' does not fit its base ({first_line(error)}); "
            "restore the judge folder as it was saved"
        ) from None


def adapter_config(folder: str, trained: bool) -> PeftConfig:
    """The config of a judge folder's adapter. An exported reward model's is a classifier's: here the head is apart."""
    from peft import PeftConfig

    config = PeftConfig.from_pretrained(folder)
    config.inference_mode = not trained
    config.task_type, config.modules_to_save = "CAUSAL_LM", None
    return config


def reward_head(folder: str) -> Tensor | None:
    """The reward head that lies in a judge folder, (scores, H): in its own file, or in an exported adapter's.

    None where there is neither.
    """
    for file, name in ((HEAD_FILE, "weight"), (ADAPTER_FILE, ADAPTER_HEAD)):
        path = Path(folder) / file
        if not path.is_file():
            continue
        try:
            with safe_open(path, "pt") as tensors:
                if file == HEAD_FILE or name in tensors.keys():  # noqa: SIM118  (no dict)
                    return tensors.get_tensor(name)
        except (SafetensorError, KeyError) as error:
            if file == ADAPTER_FILE:
                break  # whoever loads the adapter says what is wrong with it
            raise UserError(
                f"{path}: not a reward head ({first_line(error)}); restore the judge folder as it was saved"
            ) from None
    return None


def _load_head(policy: Policy, folder: str, weight: Tensor | None) -> bool:
    """Give the policy the head of its folder's file, else ``weight``; False where there is neither."""
    stored = reward_head(folder)
    weight = weight if stored is None else stored
    if weight is None:
        return False
    if weight.shape != policy.head.weight.shape:
        wanted = tuple(policy.head.weight.shape)
        raise UserError(
            f"backbone.name: the reward head in '{folder}' is {tuple(weight.shape)}, this objective's is {wanted}; "
            "take a judge of the same objective, or the model it was made from"
        )
    policy.head.weight.data.copy_(weight)
    return True
