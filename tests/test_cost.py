"""Costs against numbers counted by hand, against torch's own FLOP counter, and against the tensors of a fit."""

from collections import Counter

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from genrm_lightning.backbone import BackboneSettings, LoraSettings, empty_policy, load_policy
from genrm_lightning.cost import Work, flops, memory
from genrm_lightning.distillation import Teaching
from genrm_lightning.prefix import Branch, Role, Tree, collate, tree_mask
from genrm_lightning.shape import Shape
from tests.objectives.common import WAYS, backbone

# Of tests/tiny.py: hidden 64, 4 heads of 16 on 2 groups, feed-forward 128, 2 layers, tied.
QKV = 64 * 64 + 2 * 64 * 32
LAYER = QKV + 64 * 64 + 3 * 64 * 128
LORA = 4 * (2 * (64 + 64) + 2 * (64 + 32) + 3 * (64 + 128))  # rank 4 on all seven: inputs and outputs of each


def judged(prefix: int, *lengths: int, query: int | None = 1) -> Tree:
    """A prefix with branches of a rationale and a verdict of two tokens, the letter its last but ``query``."""
    ids = iter(range(3, 600))
    branches = [
        Branch([next(ids) for _ in range(n)], [Role.RATIONALE] * (n - 2) + [Role.VERDICT] * 2, n - query)
        for n in lengths
    ]
    return Tree("a", [next(ids) for _ in range(prefix)], branches)


def test_work_of_trees_by_hand():
    tree = judged(10, 4, 3)
    # 10 + 4 + 3 tokens; 55 pairs in the prefix, 40 + 10 and 30 + 6 of the branches; both begin at the same state.
    assert Work.of_trees([tree]) == Work(17, 55 + 50 + 36, 1 + 3 + 2, 2)
    # Alone: 14 and 13 tokens, 105 and 91 pairs, the head on every token.
    assert Work.of_plain([tree], head=True) == Work(27, 105 + 91, 27, 2)
    assert Work.of_plain([tree], head=False) == Work(27, 105 + 91, 0, 2)
    both = [tree, judged(5, 2)]
    assert Work.of_trees(both) == Work.of_trees(both[:1]) + Work.of_trees(both[1:])
    assert Work.of_trees([scored(5, 3, 2)]) == Work(10, 15 + 15 + 6 + 10 + 3, 0, 2)


def test_attended_pairs_are_those_of_the_mask():
    tree = judged(10, 4, 3)
    assert tree_mask(collate([tree], 0, (1, 2)).segments).sum() == Work.of_trees([tree]).attended


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("scores", [0, 1])
def test_the_shape_needs_no_weights(tiny_llama, way, scores):
    settings = backbone(tiny_llama, way)
    policy = empty_policy(settings, scores)
    assert {p.device.type for p in policy.parameters()} == {"meta"}
    assert Shape.of(policy) == Shape.of(load_policy(settings, scores))


def test_parameters_by_part(tiny_llama):
    shape = Shape.of(empty_policy(backbone(tiny_llama, "lora"), 2))
    vocabulary = shape.vocabulary
    found = {name: (part.parameters, part.trained, part.size) for name, part in shape.parts.items()}
    layers = 2 * (LAYER + 2 * 64)
    assert found == {
        "embeddings": (vocabulary * 64, 0, 4 * vocabulary * 64),
        "decoder layers": (layers, 0, 4 * layers),
        "final norm": (64, 0, 4 * 64),
        "vocabulary head": (0, 0, 0),  # tied
        "adapters": (2 * LORA, 2 * LORA, 8 * LORA),
        "reward head": (128, 128, 512),
    }
    assert shape.parameters == vocabulary * 64 + layers + 64 + 2 * LORA + 128 and shape.trained == 2 * LORA + 128


@pytest.mark.parametrize(
    ("way", "a_token"),
    [
        ("full", 2 * 6 * LAYER),
        ("layers", 2 * LAYER + 6 * LAYER),  # the bottom layer forward only
        ("lora", 2 * (4 * LAYER + 6 * LORA)),
    ],
)
def test_flops_by_hand(tiny_llama, way, a_token):
    shape = Shape.of(empty_policy(backbone(tiny_llama, way), 1))
    work = Work.of_trees([judged(10, 4, 3)])
    found = flops(shape, work)
    head = 2 * 64 * shape.vocabulary * work.looked
    backward_layers = 1 if way == "layers" else 2
    assert found.layers == a_token * 17
    assert found.attention == 4 * 64 * 141 * (2 + 2 * backward_layers)
    assert found.vocabulary == head * (3 if way == "full" else 2), "tied: trained in full training alone"
    assert found.reward == 3 * 2 * 64 * 2
    assert found.recomputed == backward_layers * 2 * 64 * 141 + (head if way == "full" else 0)
    again = flops(shape, work, checkpointing=True)
    assert again.useful == found.useful
    more = backward_layers * (2 * (LAYER + (LORA if way == "lora" else 0)) * 17 + 4 * 64 * 141)
    assert again.recomputed == found.recomputed + more
    alone = flops(shape, work, training=False)
    assert (alone.layers, alone.attention, alone.vocabulary, alone.reward, alone.recomputed) == (
        2 * 17 * 2 * (LAYER + (LORA if way == "lora" else 0)), 4 * 64 * 141 * 2, head, 2 * 64 * 2, 0,
    )  # fmt: skip


def scored(prefix: int, *lengths: int) -> Tree:
    return Tree("b", [5] * prefix, [Branch.scored([6] * n) for n in lengths])


@pytest.mark.parametrize("way", WAYS)
def test_what_torch_counts(tiny_llama, way):
    """Products with weights, to the FLOP, but for what the docstring of ``flops`` says."""
    policy = load_policy(backbone(tiny_llama, way), 1).train()
    batch = collate([scored(10, 4, 3)], 0, (1, 2))  # one row: no padding
    counted = Counter()
    with FlopCounterMode(display=False) as counter:
        policy(batch).rewards.sum().backward()
    for operation, number in counter.get_flop_counts()["Global"].items():
        counted[str(operation)] += number
    checkpointing = WAYS[way].get("gradient_checkpointing", False)
    shape, tokens = Shape.of(policy), 17
    found = flops(shape, Work(tokens, branches=2), checkpointing=checkpointing)
    less = 0
    if way == "lora":
        less = 2 * tokens * (QKV + 3 * 4 * 64)
    if checkpointing and way.startswith("lora"):
        less = 2 * 2 * tokens * 64 * 4  # of both layers: down_proj's lora_B
    assert counted["aten.mm"] + counted["aten.addmm"] == found.done - less


@pytest.mark.parametrize("train_layers", [None, 1])
def test_attention_is_what_torch_counts(tiny_llama, train_layers):
    """Of plain products on a plain row, which look at every pair of its tokens."""
    settings = BackboneSettings(str(tiny_llama), None, train_layers)
    lm = load_policy(settings).base
    lm.set_attn_implementation("eager")
    with FlopCounterMode(display=False) as counter:
        lm(torch.arange(3, 20)[None]).logits.sum().backward()
    shape = Shape.of(empty_policy(settings))
    assert counter.get_flop_counts()["Global"][torch.ops.aten.bmm] == flops(shape, Work(attended=17**2)).useful


@pytest.mark.parametrize("way", ["full", "lora"])
def test_the_vocabulary_head_is_what_torch_counts(tiny_llama, way):
    """A looked-at entry: its logits, its state's gradient, and where the head is trained its own and logits again."""
    policy = load_policy(backbone(tiny_llama, way)).train()
    batches = [collate([tree], 0, (1, 2)) for tree in (judged(20, 9), Tree("b", *_ids(20, 9)))]
    totals = []
    for batch in batches:
        with FlopCounterMode(display=False) as counter:
            policy(batch).logps.sum().backward()
        totals.append(counter.get_total_flops())
    shape = Shape.of(policy)
    entries = len(batches[0].targets) - len(batches[1].targets)
    assert totals[0] - totals[1] == flops(shape, Work(looked=entries)).done > 0


@pytest.mark.parametrize("kind", ["forward", "reverse", "jsd"])
@pytest.mark.parametrize("way", ["full", "lora"])
def test_a_divergence_is_what_torch_counts(tiny_llama, way, kind):
    """A taught entry: two applications of the head, the student's gradients, where the head is trained both again."""
    policy = load_policy(backbone(tiny_llama, way)).train()
    batch = collate([judged(20, 9, 9)], 0, (1, 2))
    student, teacher = ((batch.branch == side).nonzero().squeeze(1)[:7] for side in range(2))
    totals = []
    for teaching in (Teaching(student, teacher, False, kind), None):
        with FlopCounterMode(display=False) as counter:
            output = policy(batch, teaching=teaching)
            (output.logps.sum() + (0 if teaching is None else output.divergence.sum())).backward()
        totals.append(counter.get_total_flops())
    shape = Shape.of(policy)
    head = 2 * shape.vocabulary * 64
    found = flops(shape, Work(taught=7))
    assert totals[0] - totals[1] == found.done > 0
    assert found.useful == 7 * head * (4 if way == "full" else 3)
    assert flops(shape, Work(taught=7), training=False).done == 7 * 2 * head


def _ids(prefix: int, n: int) -> tuple[list[int], list[Branch]]:
    """A tree as long as a judged one, looked at in one place."""
    return list(range(3, 3 + prefix)), [Branch(list(range(3, 3 + n)), [None] * (n - 1) + [Role.VERDICT])]


@pytest.mark.parametrize("way", WAYS)
def test_memory_of_tensors_to_the_byte(tiny_llama, way):
    policy = load_policy(backbone(tiny_llama, way), 1).train()
    batch = collate([judged(10, 4, 3)], 0, (1, 2))
    optimizer = torch.optim.AdamW([p for p in policy.parameters() if p.requires_grad])
    output = policy(batch)
    (output.logps.sum() + output.rewards.sum()).backward()
    optimizer.step()
    found = memory(Shape.of(policy), 17, len(batch.targets))

    def size(tensors):
        return sum(t.numel() * t.element_size() for t in tensors)

    assert found["weights"] == size([*policy.parameters(), *policy.buffers()])
    assert found["gradients"] == size(p.grad for p in policy.parameters() if p.grad is not None)
    assert found["optimizer"] == size(v for state in optimizer.state.values() for v in state.values())


def kept(policy, batch) -> int:
    """Bytes that autograd keeps of a forward under bf16 autocast, parameters left out."""
    sizes: dict[int, int] = {}
    own = {p.untyped_storage().data_ptr() for p in policy.parameters()}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    with (
        torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor),
        torch.autocast("cpu", torch.bfloat16),
    ):
        rewards = policy(batch).rewards
        assert rewards.requires_grad  # and it holds on to what is kept: no storage is counted twice
        return sum(sizes.values())


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("way", ["full", "layers", "lora"])
def test_what_autograd_keeps(tiny_llama, way, dtype):
    """The estimate of activations and casts is within a fifth of the bytes that a forward keeps."""
    policy = load_policy(BackboneSettings(str(tiny_llama), **WAYS[way], dtype=dtype), 1).train()
    batch = collate([scored(100, 60, 40)] * 4, 0, (1, 2))
    found = memory(Shape.of(policy), 4 * 200, 0, cpu=True)
    assert kept(policy, batch) == pytest.approx(found["activations"] + found["casts"], rel=0.2)


def test_checkpointing_and_shards_take_less(tiny_llama):
    shape = Shape.of(empty_policy(BackboneSettings(str(tiny_llama), LoraSettings(rank=4))))
    plain = memory(shape, 800, 100)
    again = memory(shape, 800, 100, checkpointing=True)
    assert again["activations"] < 0.7 * plain["activations"]
    assert {k: v for k, v in again.items() if k not in ("activations", "casts")} == {
        k: v for k, v in plain.items() if k not in ("activations", "casts")
    }
    eight = memory(shape, 800, 100, shards=8)
    assert (eight["weights"] - shape.buffers) * 8 == pytest.approx(plain["weights"] - shape.buffers, abs=8)
    assert eight["gradients"] * 8 == pytest.approx(plain["gradients"], abs=8)
    assert eight["activations"] == plain["activations"], "each device has its own rows"
