"""What training costs, from shapes alone: FLOPs and memory. Pure functions; nothing is loaded or run.

Symbols: W a matrix' elements, H hidden size, V vocabulary, S a padded row's length.

A FLOP is a multiplication or an addition: a product of (m, k) and (k, n) takes 2mkn. Only matrix products are counted;
norms, activations, softmax, rotary embeddings and losses are left out, as is usual for model FLOP utilisation.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass

from genrm_lightning.logprobs import _PIECE
from genrm_lightning.prefix import Tree
from genrm_lightning.shape import Shape

_ADAM_STATES = 2  # first and second moment, float32
_FLOAT32 = 4


@dataclass(frozen=True)
class Work:
    """What a set of rows asks of the model; sums of it add up.

    Attributes:
        tokens: that go through the decoder, padding left out.
        attended: (query, key) pairs that attention looks at, a head and layer.
        looked: states that the vocabulary head is applied to.
        branches: last states that the reward head is applied to.
        taught: states whose next-token distribution is compared with a teacher's (distillation.py), beside ``looked``.
    """

    tokens: int = 0
    attended: int = 0
    looked: int = 0
    branches: int = 0
    taught: int = 0

    def __add__(self, other: Work) -> Work:
        return Work(*(a + b for a, b in zip(vars(self).values(), vars(other).values(), strict=True)))

    @classmethod
    def of_trees(cls, trees: Iterable[Tree]) -> Work:
        """Trees as this project runs them: the prefix once.

        With P tokens of prefix and branches of b_j: P + Σ b_j tokens, P(P+1)/2 + Σ [b_j·P + b_j(b_j+1)/2] attended
        pairs (a token sees the prefix and its own branch up to itself), and each state that predicts a looked-at
        token or letter once, however many entries of the batch look at it. ``taught`` is the objective's to say
        (:meth:`~genrm_lightning.objectives.Objective.taught`): 0 here.
        """
        return sum((cls._of_tree(tree) for tree in trees), cls())

    @classmethod
    def of_plain(cls, trees: Iterable[Tree], head: bool) -> Work:
        """The same trees as a trainer runs them that knows no prefix: each branch alone behind its prompt.

        With n_j = P + b_j: Σ n_j tokens and Σ n_j(n_j+1)/2 attended pairs.

        Args:
            head: whether the vocabulary head is applied, to every token then (a language model's loss), or never (a
                reward model's).
        """
        lengths = [len(tree.prefix) + len(branch.ids) for tree in trees for branch in tree.branches]
        tokens = sum(lengths)
        return cls(tokens, sum(n * (n + 1) // 2 for n in lengths), tokens if head else 0, len(lengths))

    @classmethod
    def _of_tree(cls, tree: Tree) -> Work:
        p = len(tree.prefix)
        attended = p * (p + 1) // 2
        looked = set()
        for number, branch in enumerate(tree.branches):
            b = len(branch.ids)
            attended += b * p + b * (b + 1) // 2
            for i, role in enumerate(branch.roles):
                if role is not None or i == branch.letter_at:
                    looked.add((number, i) if i else ())  # every branch's first token: the prefix's last state
        return cls(len(tree), attended, len(looked), len(tree.branches))


@dataclass(frozen=True)
class Flops:
    """FLOPs by part, forward and backward together; ``recomputed`` is done again and is not useful.

    Attributes:
        layers: products with the decoder layers' matrices.
        attention: queries with keys, weights with values.
        vocabulary, reward: the heads; a divergence's two applications of the vocabulary head are counted with it.
        recomputed: done a second time in the backward pass.
    """

    layers: int = 0
    attention: int = 0
    vocabulary: int = 0
    reward: int = 0
    recomputed: int = 0

    @property
    def useful(self) -> int:
        return self.layers + self.attention + self.vocabulary + self.reward

    @property
    def done(self) -> int:
        return self.useful + self.recomputed

    def as_dict(self) -> dict[str, int]:
        return asdict(self) | {"useful": self.useful}


def flops(shape: Shape, work: Work, *, training: bool = True, checkpointing: bool = False) -> Flops:
    """FLOPs of a training step (or of a forward pass) on some work; linear in it.

    - A matrix of the decoder layers takes 2W a token forward. From the lowest trained layer upwards it takes 2W a
      token more for the gradient of its input, and 2W for its own where it is trained. So full training takes 6 a
      weight and token, LoRA 4 a frozen weight and 6 a trained one, and layers below the lowest trained one take 2.
    - Attention takes 4·heads·head_dim an attended pair forward, and 8 backward from the lowest trained layer upwards.
    - The vocabulary head takes 2VH a looked-at state, 2VH more for the state's gradient and 2VH for its own.
    - A divergence takes that 2VH, 2VH and 2VH a taught state for the student's distribution, and 2VH for the teacher's.
    - The reward head takes 2H a branch and score, and twice that backward.
    - Recomputed are attention's scores, which nobody stores (2·heads·head_dim a pair), logits where the vocabulary is
      trained (:mod:`~genrm_lightning.logprobs`; student's and teacher's of a taught state), and with checkpointing the
      decoder layers' forward pass.

    torch does a little less: under adapters nobody needs the gradient of the lowest layer's normed input, which saves
    2 a token and weight of q, k and v and of their lora_A; a recomputed layer leaves out its last lora_B. It does
    more where attention is computed densely and masked, and where several entries look at one state.

    Args:
        training: False counts the forward pass alone.
        checkpointing: decoder layers are run again in the backward pass.
    """
    lowest = shape.lowest if training else len(shape.layers)
    attention = 4 * shape.heads * shape.head_dim * work.attended  # forward, a layer
    head = 2 * shape.vocabulary * shape.hidden
    reward = 2 * shape.hidden * shape.scores * work.branches
    layers = recomputed = 0
    for index, layer in enumerate(shape.layers):
        forward = 2 * layer.weights * work.tokens
        layers += forward
        if index >= lowest:
            layers += forward + 2 * layer.trained * work.tokens
            recomputed += attention // 2 + checkpointing * (forward + attention)
    backward = lowest < len(shape.layers)
    learns = training and shape.vocabulary_learns
    passes = 1 + training * backward + learns
    return Flops(
        layers=layers,
        attention=attention * (len(shape.layers) + 2 * (len(shape.layers) - lowest)),
        vocabulary=head * ((work.looked + work.taught) * passes + work.taught),
        reward=reward * (1 + training * (backward + 1)),
        recomputed=recomputed + learns * head * (work.looked + 2 * work.taught),
    )


def memory(
    shape: Shape,
    tokens: int,
    looked: int,
    *,
    compute: int = 2,
    checkpointing: bool = False,
    cpu: bool = False,
    mask: int = 0,
    shards: int = 1,
) -> dict[str, int]:
    """Bytes a device by part, at the peak of a training step on one microbatch.

    weights, gradients and optimizer are exact: the tensors' bytes; float32 gradients of what is trained; AdamW's two
    float32 moments and its float32 step count a tensor. The rest is an estimate of what autograd keeps, for a
    Llama-like layer (c and r: bytes an element of products and of the residual stream):

    - a token and layer that the backward pass goes through: 2·4H (the norms' float32 inputs; r·H more each where
      their weights are trained; on a CPU 2·r·H in all, :mod:`~genrm_lightning.norms`), c·(2·heads + 2·groups)·head_dim
      (queries, keys, values and the mixture), 3c·width (gate, its SiLU, up; on a CPU 2c·width, and not their product,
      :mod:`~genrm_lightning.feedforward`), c a kept element of the trained matrices' inputs;
    - the dense mask of such a layer in c bytes an element, where there is one; no scores, since all kernels in use
      compute them again;
    - with checkpointing all this for one layer alone, and r·H a token for each layer's input;
    - ``casts``: copies in c bytes of float32 matrices (autocast keeps them until the backward pass is done);
    - ``head``: float32 looked-at states and their gradient, two pieces of logits, and a float32 copy of a vocabulary
      that is stored shorter, with its gradient where it is trained;
    - ``transient``: gradients on their way through one layer, the mask as bool; with shards, one layer and the
      vocabulary gathered.

    Args:
        tokens: of the microbatch, with its padding where the device computes it (all but a CPU).
        looked: entries of the microbatch that the vocabulary head is applied to; 0 without.
        compute: bytes of an element of matrix products: 2 under bf16-mixed.
        cpu: whether the device is a CPU.
        mask: elements of the dense mask, rows · length²; 0 on a CPU, which needs none.
        shards: devices that weights, gradients and optimizer state are dealt out to (FSDP).
    """
    n, h, c, r = tokens, shape.hidden, compute, shape.residual
    own = (2 * shape.heads + 2 * shape.groups) * shape.head_dim
    short = c if c < _FLOAT32 else 0  # of what is float32, a copy in c bytes; none where c is float32 itself

    def norm(trained: bool) -> int:
        return r * h if cpu else _FLOAT32 * h + trained * r * h

    inner = (2 if cpu else 3) * shape.width
    per_layer = [
        n * (2 * norm(layer.trained == layer.weights) + c * (own + inner + layer.kept - cpu * layer.inner)) + mask * c
        for layer in shape.layers[shape.lowest :]
    ] or [0]
    activations = max(per_layer) + len(per_layer) * n * r * h if checkpointing else sum(per_layer)
    activations += n * norm(True)  # the final one
    trained, frozen = (a - cpu * b for a, b in zip(shape.cast, shape.recast, strict=True))
    if checkpointing:
        frozen = frozen // len(shape.layers)  # made anew by each layer, and dropped with it
    vocabulary = shape.vocabulary * h * _FLOAT32
    copies = (shape.parts["vocabulary head"] if shape.parts["vocabulary head"].size else shape.parts["embeddings"]).size
    head = 0
    if looked:
        head = 2 * looked * h * _FLOAT32 + 2 * min(looked, _PIECE) * shape.vocabulary * _FLOAT32
        head += (vocabulary if copies < vocabulary else 0) + (vocabulary if shape.vocabulary_learns else 0)
    transient = n * (c * 3 * shape.width + 2 * _FLOAT32 * h) + mask
    if shards > 1:
        transient += max(layer.size for layer in shape.layers) + copies
    weights = sum(part.size for part in shape.parts.values())
    return {
        "weights": math.ceil(weights / shards) + shape.buffers,
        "gradients": math.ceil(shape.trained * _FLOAT32 / shards),
        "optimizer": math.ceil(_ADAM_STATES * shape.trained * _FLOAT32 / shards) + _FLOAT32 * shape.tensors,
        "activations": activations,
        "casts": short * (trained + frozen),
        "head": head,
        "transient": transient,
    }
