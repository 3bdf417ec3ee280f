"""Lengths that are promised before anything is sampled hold for the trees that are trained on."""

from __future__ import annotations

import re
from bisect import bisect_left

import polars as pl
import pytest

from data_tools.errors import UserError
from data_tools.judging import Verdict, render_prompt
from data_tools.order import responses
from genrm_lightning.backbone import load_renderer
from genrm_lightning.objectives.rationalizer import with_told
from genrm_lightning.prefix import Tree
from genrm_lightning.star import checks
from genrm_lightning.star.fitting import check_config
from genrm_lightning.star.settings import StarSettings, WarmStart
from tests.tiny import preferences

FIT = {"data": {"init_args": {}}, "trainer": {"accelerator": "cpu"}}
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


@pytest.mark.parametrize(("section", "name"), [("fit", "train"), ("warm_start.fit", "warm")])
def test_a_batch_that_holds_no_tree_is_refused_before_sampling(tiny_llama, section, name):
    """What the data module would refuse behind hours of sampling, in its words."""
    renderer, pairs = load_renderer(str(tiny_llama)), preferences(4)
    longest = 0
    for row in pairs.iter_rows(named=True):
        a, b, _ = responses(row["pair_id"], False, row["chosen"], row["rejected"])
        prompt = renderer.prompt(render_prompt(row["prompt"], a, b, "brief"))
        longest = max(longest, len(Tree("p", prompt, [renderer.completion([9] * WORDS, Verdict.A)])))

    def refused(**data) -> str:
        fits = {"fit": FIT, "warm_start.fit": FIT, section: {"data": {"init_args": data}}}
        settings = StarSettings(variant="star-sft", backbone=str(tiny_llama), judge_prompt="brief", fit=fits["fit"])
        settings.warm_start = WarmStart(4, fit=fits["warm_start.fit"])
        settings.sampling.rationale_tokens = WORDS
        try:
            checks.lengths(settings, {name: pairs})
        except UserError as error:
            return str(error)
        return ""

    where = f"{section}.data.init_args"
    said = re.fullmatch(
        rf"{where}.batch_tokens: {longest - 1} is less than the (\d+) tokens of pair 'pair-\d' \({name}\) "
        rf"with all that may be sampled; raise it, or lower {where}.max_tokens",
        refused(batch_tokens=longest - 1),
    )
    most = int(said[1])
    assert longest <= most < longest + 100, "not far from what is needed"
    assert refused(batch_tokens=most - 1) and not refused(batch_tokens=most)
    assert not refused(batch_tokens=most - 1, max_tokens=most - 1), "what is longer will be shortened"
    assert not refused()


@pytest.mark.parametrize(
    ("variant", "arguments", "trainer", "said"),
    [
        (
            "star-dpo",
            {"reference": "live"},
            {},
            "init_args.reference: live needs adapters, .* reference: stored",
        ),
        ("star-ipo-rationalizer", {"reference": "live"}, {}, "reference: live needs adapters"),
        ("star-rationalizer-kl", {}, {}, "init_args.teacher: reference needs adapters, .* teacher: current"),
        (
            "star-dpo",
            {},
            {"strategy": "dpp"},
            "trainer.strategy: 'dpp' is unknown; there are: auto, ddp, ",
        ),
        ("star-dpo", {}, {"accelerator": "gpus"}, "trainer.accelerator: 'gpus' is unknown; there are: auto, cpu, "),
    ],
)
def test_a_fit_that_could_not_begin(tiny_llama, variant, arguments, trainer, said):
    """Refused before anything is sampled, in one line; with adapters it is read."""

    def settings(lora, trainer) -> StarSettings:
        fit = {**FIT, "model": {"init_args": {"backbone": {"lora": lora}, **arguments}}}
        return StarSettings(variant=variant, backbone=str(tiny_llama), fit=fit | {"trainer": FIT["trainer"] | trainer})

    with pytest.raises(UserError, match=said) as refused:
        check_config(settings(None, trainer))
    assert "\n" not in str(refused.value)
    if arguments:
        check_config(settings({"rank": 2}, {}))


def test_a_judge_with_adapters_has_a_reference(tiny_llama, tmp_path):
    """Its adapters are gone on with, whatever ``backbone.lora`` says."""
    (tmp_path / "genrm.json").write_text(f'{{"adapter": true, "base": "{tiny_llama}"}}')
    fit = {**FIT, "model": {"init_args": {"backbone": {"lora": None}, "reference": "live"}}}
    check_config(StarSettings(backbone=str(tmp_path), fit=fit))


@pytest.mark.parametrize("told", [{"rationalize_failed": True}, {"variant": "star-ipo-rationalizer"}])
def test_a_prompt_that_tells_the_answer_fits(tiny_llama, told):
    """The sampler will show it: a prompt that leaves room only as long as it tells nothing is refused."""
    pairs = preferences(2)

    def refused(more: int, **options) -> bool:
        settings = StarSettings(backbone=str(tiny_llama), judge_prompt="brief", too_long="error", **options)
        settings.fit = {"data": {"init_args": {"max_tokens": 100_000}}}
        try:
            checks.lengths(settings, {"train": pairs.with_columns(chosen=pl.lit("x " * more))})
        except UserError:
            return True
        return False

    longest = bisect_left(range(2048), True, key=refused) - 1
    assert longest > 0 and not refused(longest) and refused(longest + 1)
    assert refused(longest, **told)
