"""Lengths that are promised before anything is sampled hold for the trees that are trained on."""

from __future__ import annotations

import pytest

from data_tools.errors import UserError
from data_tools.judging import Verdict, render_prompt
from data_tools.order import responses
from genrm_lightning.backbone import load_renderer
from genrm_lightning.objectives.rationalizer import with_told
from genrm_lightning.prefix import Tree
from genrm_lightning.star import checks
from genrm_lightning.star.settings import StarSettings
from tests.tiny import preferences

WORDS = 30  # tokens of a rationale


@pytest.mark.parametrize(
    ("variant", "arguments"),
    [("star-rationalizer-kl", {}), ("star-rationalizer", {"told_weight": 1.0, "direct_weight": 1.0})],
)
def test_a_tree_with_a_told_prompt_fits(tiny_llama, variant, arguments):
    renderer, pairs = load_renderer(str(tiny_llama)), preferences(4)
    longest = 0
    for row in pairs.iter_rows(named=True):
        a, b, right = responses(row["pair_id"], False, row["chosen"], row["rejected"])
        messages = render_prompt(row["prompt"], a, b, "brief")
        branches = [renderer.completion([9] * WORDS, Verdict.A)]
        if arguments:
            branches.append(renderer.completion("", Verdict.A))
        tree = Tree("p", renderer.prompt(messages), branches)
        told = with_told(tree, {"pair_id": "p", "prompt": messages}, "brief", Verdict(right), renderer)
        longest = max(longest, len(told))

    def promised(max_tokens: int) -> bool:
        fit = {"model": {"init_args": arguments}, "data": {"init_args": {"max_tokens": max_tokens}}}
        settings = StarSettings(variant=variant, backbone=str(tiny_llama), judge_prompt="brief", fit=fit)
        settings.sampling.rationale_tokens = WORDS
        try:
            checks.lengths(settings, {"train": pairs})
        except UserError as error:
            assert f"max_tokens of {max_tokens} leaves" in str(error)
            return False
        return True

    assert not any(promised(longest - less) for less in (1, 20)), "too long to train on"
    assert promised(longest + 100), "not far from what is needed"
