"""Judgments in shards: both orders of every pair, and a killed run draws only what is missing."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from data_tools.errors import UserError
from data_tools.judging import Verdict, hint
from data_tools.order import responses
from data_tools.schema import JUDGMENT
from genrm_lightning.backbone import load_judge, load_renderer
from genrm_lightning.judgments import requests, shards_of
from genrm_lightning.samplers.base import Sample, Sampler, SamplingSettings, uniforms
from tests.tiny import preferences

SETTINGS = SamplingSettings(n_samples=2, rationale_tokens=3)


class Made(Sampler):
    """A sampler whose samples are a function of request and salt; counts what it is asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, bool]] = []

    def sample(self, requests, settings, salt):
        for index in reversed(range(len(requests))):  # in any order
            self.asked.append((requests[index].pair_id, requests[index].swapped))
            p_a = uniforms(requests[index], salt, settings.n_samples, 1)[:, 0].tolist()
            yield index, [Sample("r", [1, 2], Verdict.INVALID, Verdict.A, p, -1.0, 0.5, 2, "stop") for p in p_a]


OPTIONS = {"template": "brief", "judge": "j", "iteration": 2, "seed": 3, "purpose": "sample", "shard_size": 4}


def nothing(samples: int, tokens: int) -> None:
    """Told how far a draw is, and does not care."""


def judge(folder: Path, sampler: Made, pairs: pl.DataFrame | None = None, advance=nothing, **changes) -> pl.DataFrame:
    pairs = preferences(7) if pairs is None else pairs
    shards = shards_of(folder, pairs, SETTINGS, **{**OPTIONS, **changes})
    return shards.complete(lambda: sampler, advance=advance)


def test_both_orders_of_every_pair_are_judged(tmp_path):
    told = []
    table = judge(tmp_path, Made(), advance=lambda samples, tokens: told.append((samples, tokens)))
    assert table.schema == JUDGMENT
    assert table.height == 7 * 2 * 2
    assert table.select("pair_id", "swapped", "sample_index").is_unique().all()
    assert_frame_equal(table, table.sort("pair_id", "swapped", "sample_index"))
    assert table.select("iteration", "seed", "judge").unique().row(0) == (2, 3, "j")
    assert told == [(2, 4)] * 14


def test_only_a_missing_shard_is_drawn_again(tmp_path):
    first = judge(tmp_path, Made())
    shards = sorted(tmp_path.iterdir())
    assert [s.name for s in shards] == [f"shard-0000{i}.parquet" for i in range(4)]
    gone = pl.read_parquet(shards[1])
    shards[1].unlink()
    again, told = Made(), []
    assert_frame_equal(judge(tmp_path, again, advance=lambda samples, tokens: told.append(samples)), first)
    assert sorted(again.asked) == sorted(gone.select("pair_id", "swapped").unique().rows())
    assert sum(told) == first.height


def test_every_prompt_is_checked_before_the_first_is_drawn(tmp_path):
    class Picky(Made):
        def check(self, requests, settings):
            assert len(requests) == 7 * 2 and settings is SETTINGS
            raise UserError("pair 'pair-3' is too long")

    picky = Picky()
    with pytest.raises(UserError, match="pair-3"):
        judge(tmp_path, picky)
    assert picky.asked == [] and not list(tmp_path.iterdir())


def test_a_finished_run_makes_no_sampler(tmp_path):
    first = judge(tmp_path, Made())

    def none() -> Sampler:
        raise AssertionError("nothing is left to sample")

    told = []
    shards = shards_of(tmp_path, preferences(7), SETTINGS, **OPTIONS)
    assert_frame_equal(shards.complete(none, advance=lambda samples, tokens: told.append(samples)), first)
    assert sum(told) == first.height


def test_iteration_and_seed_are_part_of_a_draw_and_evaluation_has_one_draw_for_all(tmp_path):
    def drawn(name: str, **changes) -> list[float]:
        return judge(tmp_path / name, Made(), **changes)["p_a"].to_list()

    assert drawn("a") == drawn("b") != drawn("c", iteration=1)
    assert drawn("d", seed=4) != drawn("a")
    assert drawn("e", purpose="evaluate") == drawn("f", purpose="evaluate", iteration=0) != drawn("a")


def test_the_rows_order_changes_nothing(tmp_path):
    assert_frame_equal(judge(tmp_path / "a", Made()), judge(tmp_path / "b", Made(), preferences(7).reverse()))


def test_no_pairs_give_no_rows(tmp_path):
    assert judge(tmp_path, Made(), preferences(0)).schema == JUDGMENT


def test_requests_show_each_response_once_as_a():
    made = requests(preferences(5), "brief")
    assert [r.swapped for r in made] == [False, True] * 5
    for request in made:
        number = request.pair_id.removeprefix("pair-")
        a, b, _ = responses(request.pair_id, request.swapped, f"a red fox {number}", f"the blue sky {number}")
        text = request.messages[-1]["content"]
        assert f"[Response A]\n{a}" in text
        assert f"[Response B]\n{b}" in text


@pytest.mark.parametrize("told", [None, "right", "wrong"])
def test_the_answer_stands_in_a_prompt_only_where_it_is_told(told):
    for request in requests(preferences(5), "brief", told):
        number = request.pair_id.removeprefix("pair-")
        *_, right = responses(request.pair_id, request.swapped, f"a red fox {number}", f"the blue sky {number}")
        wrong = "B" if right == "A" else "A"
        text = request.messages[-1]["content"]
        assert (hint("brief", Verdict(right)) in text) == (told == "right")
        assert (hint("brief", Verdict(wrong)) in text) == (told == "wrong")


def test_some_prompts_alone():
    pairs = preferences(5)
    every = requests(pairs, "brief")
    wanted = [["pair-3", True], ["pair-0", False]]  # as JSON would have them
    found = requests(pairs, "brief", places=wanted)
    assert found == [request for request in every if [request.pair_id, request.swapped] in wanted] and len(found) == 2
    assert requests(pairs, "brief", places=[]) == []


def test_a_real_judge_resumes_to_the_same_table(tiny_llama, tmp_path):
    import torch

    from genrm_lightning.samplers.local import LocalSampler

    def sampler() -> LocalSampler:
        return LocalSampler(load_judge(str(tiny_llama), torch.float32), load_renderer(str(tiny_llama)))

    def drawn() -> pl.DataFrame:
        options = {**OPTIONS, "iteration": 0, "seed": 0, "purpose": "evaluate"}
        return shards_of(tmp_path, preferences(3), SETTINGS, **options).complete(sampler)

    first = drawn()
    assert first["p_a"].is_between(0, 1, closed="none").all()
    (tmp_path / "shard-00000.parquet").unlink()
    assert_frame_equal(drawn(), first)
