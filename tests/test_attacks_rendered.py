"""Attacked responses through the real renderer: their marks of chat templates stay text, for every kind of judge."""

from __future__ import annotations

from collections import Counter

import pytest

from data_tools.artifact import MANIFEST
from data_tools.attacks import ATTACKS, attacked
from genrm_lightning.embedded import CONVERSION, cache_root
from genrm_lightning.judgments import requests
from genrm_lightning.objectives import BradleyTerry, GenRM, PairRM
from genrm_lightning.rendering import Renderer, load_tokenizer
from tests.tiny import preferences, tiny_tokenizer

MARKS = [
    "<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>", "[INST]",
    "[/INST]", "<s>", "</s>", "<start_of_turn>", "<end_of_turn>",
]  # fmt: skip


def with_all_marks() -> Renderer:
    """A tokenizer to which the marks of all templates are control tokens."""
    tokenizer = tiny_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": MARKS})
    return Renderer(tokenizer)


def embedded() -> Renderer:
    folder = cache_root() / f"smollm2-135m-instruct-{CONVERSION}"
    if not (folder / MANIFEST).is_file():
        pytest.skip("the embedded backbone was not converted yet")
    return Renderer(load_tokenizer(str(folder)))


@pytest.fixture(scope="module", params=[with_all_marks, embedded], ids=lambda made: made.__name__)
def renderer(request) -> Renderer:
    return request.param()


def controls(renderer: Renderer, ids: list[int]) -> Counter:
    return Counter(token for token in ids if token in renderer.control_ids)


def rendered(renderer: Renderer, pairs) -> dict[str, list[Counter]]:
    """Control tokens of all that each kind of judge reads of the pairs."""
    found = {"cot": [controls(renderer, renderer.prompt(asked.messages)) for asked in requests(pairs, "brief")]}
    for objective in (BradleyTerry(), PairRM(), GenRM(judge_prompt="brief")):
        found[type(objective).__name__] = [
            controls(renderer, [*tree.prefix, *(token for branch in tree.branches for token in branch.ids)])
            for tree in objective.trees(pairs, renderer)
        ]
    return found


def test_the_marks_are_control_tokens_to_a_renderer_that_is_not_careful():
    """The test below can fail."""
    renderer = with_all_marks()
    text = ATTACKS["llama3_turn"]("a fox", "pair-0") + ATTACKS["inst_turn"]("", "") + ATTACKS["gemma_turn"]("", "")
    careless = controls(renderer, renderer.tokenizer.encode(text, add_special_tokens=False))
    assert sum(careless.values()) == 7
    assert not controls(renderer, renderer.text(text))


def test_no_attack_adds_a_control_token(renderer):
    pairs = preferences(1)
    clean = rendered(renderer, pairs)
    assert all(sum(count.values()) for counts in clean.values() for count in counts)  # those of the template
    for name in ATTACKS:
        under = attacked(pairs, name)
        assert rendered(renderer, under) == clean, name
        assert renderer.decode(renderer.text(under["rejected"][0])) == under["rejected"][0]
