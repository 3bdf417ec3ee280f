"""What the counts of :mod:`~genrm_lightning.cost` need to know of a model: its matrices, and what is trained of them.

Read off :func:`~genrm_lightning.backbone.empty_policy`, the policy of a fit on the meta device, so that what is counted
is what is trained.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from torch import nn

from data_tools.errors import UserError
from genrm_lightning.feedforward import PROJECTIONS
from genrm_lightning.policy import Policy

# Projections that read what the one named before them has read: one input is kept for all of them.
_SAME_INPUT = {"k_proj": "q_proj", "v_proj": "q_proj", "up_proj": "gate_proj"}


@dataclass(frozen=True)
class Layer:
    """A decoder layer's matrices (norms and biases take no FLOPs).

    Attributes:
        weights: elements of all, adapters included.
        trained: of these, what is trained.
        learns: whether any parameter of the layer is trained, a norm counts too.
        kept: elements a token, of the inputs of trained matrices: kept for their gradients.
        inner: of these, the feed-forward's inner state, which a CPU makes again (feedforward.py); 0 under adapters.
        size: all parameters' bytes, norms and biases too.
    """

    weights: int
    trained: int
    learns: bool
    kept: int
    inner: int
    size: int


@dataclass(frozen=True)
class Part:
    """Parameters of a part of the model: how many, of these trained, and bytes of weights."""

    parameters: int = 0
    trained: int = 0
    size: int = 0


@dataclass(frozen=True)
class Shape:
    """Everything that the counts need to know of a model and of what is trained in it.

    Attributes:
        parts: embeddings, decoder layers, final norm, vocabulary head (0 where tied to the embeddings), adapters,
            reward head.
        layers: from the bottom to the top.
        hidden, width, vocabulary: H, of the feed-forward's inner state, V.
        heads, groups, head_dim: query heads, key-value heads, size of each.
        scores: outputs of the reward head, 0 without one.
        embeddings_learn, vocabulary_learns: whether those matrices are trained (tied: both or neither).
        residual: bytes an element of the stream between the layers.
        cast: elements of float32 matrices of the layers, which autocast copies: (trained, frozen).
        recast: of these, elements of feed-forwards of which a CPU keeps no copy (feedforward.py).
        tensors: trained tensors.
        buffers: bytes.
    """

    parts: dict[str, Part]
    layers: tuple[Layer, ...]
    hidden: int
    width: int
    vocabulary: int
    heads: int
    groups: int
    head_dim: int
    scores: int
    embeddings_learn: bool
    vocabulary_learns: bool
    residual: int
    cast: tuple[int, int]
    recast: tuple[int, int]
    tensors: int
    buffers: int

    @property
    def parameters(self) -> int:
        return sum(part.parameters for part in self.parts.values())

    @property
    def trained(self) -> int:
        return sum(part.trained for part in self.parts.values())

    @property
    def lowest(self) -> int:
        """Index of the lowest layer that the backward pass goes through; their number where it meets none."""
        if self.embeddings_learn:
            return 0
        return next((i for i, layer in enumerate(self.layers) if layer.learns), len(self.layers))

    @classmethod
    def of(cls, policy: Policy) -> Shape:
        """The shape of a policy, weights or none.

        Raises:
            UserError: a model whose layers are not made of plain matrices.
        """
        base, config = policy.base, policy.base.config
        decoder = base.get_decoder()
        embeddings, vocabulary = base.get_input_embeddings().weight, base.get_output_embeddings()
        vocabulary = embeddings if vocabulary is None else vocabulary.weight  # a reward model may have none
        counted: dict[str, list] = {
            "embeddings": [embeddings],
            "decoder layers": [],
            "final norm": [],
            "vocabulary head": [] if vocabulary is embeddings else [vocabulary],
            "adapters": [],
            "reward head": [] if policy.head is None else list(policy.head.parameters()),
        }
        seen = {id(p) for found in counted.values() for p in found}
        inside = {id(p) for p in decoder.layers.parameters()}
        for name, parameter in policy.named_parameters():
            if id(parameter) not in seen:
                part = "adapters" if "lora_" in name else "decoder layers" if id(parameter) in inside else "final norm"
                counted[part].append(parameter)
        matrices = [p for layer in decoder.layers for p in layer.parameters() if p.ndim > 1 and p.dtype.itemsize == 4]
        heads = config.num_attention_heads
        return cls(
            parts={name: _part(found) for name, found in counted.items()},
            layers=tuple(_layer(layer) for layer in decoder.layers),
            hidden=config.hidden_size,
            width=config.intermediate_size,
            vocabulary=len(vocabulary),
            heads=heads,
            groups=getattr(config, "num_key_value_heads", None) or heads,
            head_dim=getattr(config, "head_dim", None) or config.hidden_size // heads,
            scores=0 if policy.head is None else len(policy.head.weight),
            embeddings_learn=embeddings.requires_grad,
            vocabulary_learns=vocabulary.requires_grad,
            residual=embeddings.dtype.itemsize,
            cast=_elements(matrices),
            recast=_elements([p for layer in decoder.layers for p in _feedforward(layer) if p.dtype.itemsize == 4]),
            tensors=sum(p.requires_grad for p in policy.parameters()),
            buffers=sum(b.numel() * b.dtype.itemsize for b in policy.buffers()),
        )


def _elements(matrices: Iterable[Any]) -> tuple[int, int]:
    """Of trained ones and of frozen ones."""
    found = list(matrices)
    trained, frozen = (sum(p.numel() for p in found if p.requires_grad is wanted) for wanted in (True, False))
    return trained, frozen


def _feedforward(layer: nn.Module) -> list[nn.Parameter]:
    """Gate, up and down of a feed-forward of plain matrices; empty where adapters or biases are in it."""
    for module in layer.modules():
        found = [getattr(module, name, None) for name in PROJECTIONS]
        if all(type(one) is nn.Linear and one.bias is None for one in found):
            return [one.weight for one in found]
    return []


def _part(parameters: Iterable[Any]) -> Part:
    found = list(parameters)
    return Part(
        sum(p.numel() for p in found),
        sum(p.numel() for p in found if p.requires_grad),
        sum(p.numel() * p.dtype.itemsize for p in found),
    )


def _layer(layer: Any) -> Layer:
    parameters = dict(layer.named_parameters())
    if odd := next((name for name, p in parameters.items() if p.ndim > 2), None):
        raise UserError(f"backbone.name: {odd} is a stack of matrices; costs are counted for dense layers alone")
    matrices = {name: p for name, p in parameters.items() if p.ndim == 2}
    trained = {name: p for name, p in matrices.items() if p.requires_grad}
    kept = 0
    for name, parameter in trained.items():
        module = name.split(".")[-2]
        first = name.replace(f".{module}.", f".{_SAME_INPUT.get(module, module)}.")
        if first == name or first not in trained:
            kept += parameter.shape[1]
    down = _feedforward(layer)[-1:]
    return Layer(
        sum(p.numel() for p in matrices.values()),
        sum(p.numel() for p in trained.values()),
        any(p.requires_grad for p in parameters.values()),
        kept,
        sum(p.shape[1] for p in down if p.requires_grad),
        sum(p.numel() * p.dtype.itemsize for p in parameters.values()),
    )
