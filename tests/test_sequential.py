"""Sampling in rounds: the rows are those that a full table would keep, also after a kill."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
import torch
from polars.testing import assert_frame_equal

from data_tools.errors import UserError
from data_tools.judging import Verdict
from data_tools.order import unit
from data_tools.schema import JUDGMENT
from genrm_lightning.backbone import load_judge, load_renderer
from genrm_lightning.evaluation.scores import set_scores
from genrm_lightning.evaluation.stopping import StoppingSettings, stopped
from genrm_lightning.judgments import judge_pairs
from genrm_lightning.samplers.base import Sample, Sampler, SamplingSettings, uniforms
from genrm_lightning.samplers.local import LocalSampler
from genrm_lightning.sequential import judge_sequentially
from tests.tiny import preferences

SETTINGS = SamplingSettings(n_samples=16, rationale_tokens=3)
STOPPING = StoppingSettings(alpha=0.05, votes="hard")
OPTIONS = {"template": "brief", "judge": "j", "iteration": 0, "seed": 0, "purpose": "evaluate", "shard": 8}


class Leaning(Sampler):
    """Each prompt has a share of A of its own; samples depend on their index alone. Counts what it is asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, bool, int, int]] = []

    def sample(self, requests, settings, salt):
        for index, request in enumerate(requests):
            indices = request.indices(settings)
            self.asked.append((request.pair_id, request.swapped, indices.start, indices.stop))
            share = unit("share", f"{request.pair_id}|{request.swapped}")
            found = uniforms(request, salt, len(indices), 1)[:, 0]
            yield index, [self._sample(u, u < share) for u in found]

    @staticmethod
    def _sample(u: float, a: bool) -> Sample:
        vote = Verdict.A if a else Verdict.B
        return Sample(f"r {u}", [1], vote, vote, 0.9 if a else 0.1, -1.0, 0.5, 2, "stop")


def judge(folder: Path, sampler: Sampler, pairs: pl.DataFrame, **changes) -> pl.DataFrame:
    stopping = changes.pop("stopping", STOPPING)
    return judge_sequentially(folder, pairs, lambda: sampler, SETTINGS, stopping, **{**OPTIONS, **changes})


@pytest.mark.parametrize("scope", ["order", "pair"])
def test_the_rows_are_those_that_a_full_table_keeps(tmp_path, scope):
    pairs, stopping = preferences(40), StoppingSettings(alpha=0.05, votes="hard", scope=scope)
    full = judge_pairs(tmp_path / "full", pairs, Leaning, SETTINGS, **OPTIONS)
    told = []
    found = judge(tmp_path / "rounds", Leaning(), pairs, stopping=stopping, advance=lambda n, _: told.append(n))
    assert_frame_equal(found, stopped(full, stopping))
    assert found.schema == JUDGMENT and sum(told) == found.height < full.height
    drawn = found.group_by("pair_id").len()["len"] // 2
    assert set(drawn) <= {2, 4, 8, 16} and len(set(drawn)) > 2
    assert set_scores(found, pairs).n_samples == found.height


def test_whether_a_pair_goes_on_depends_on_its_own_samples_alone(tmp_path):
    pairs = preferences(20)
    whole = judge(tmp_path / "a", Leaning(), pairs)
    few = judge(tmp_path / "b", Leaning(), pairs.reverse()[:7], shard=3)
    assert_frame_equal(few, whole.join(few, on="pair_id", how="semi"))


def test_at_level_zero_all_is_drawn_where_nothing_is_certain_before(tmp_path):
    # Eight of sixteen cannot outvote the rest: a look at half of them ends nothing.
    found = judge(tmp_path, Leaning(), preferences(5), stopping=StoppingSettings(alpha=0))
    assert found.height == 5 * 2 * 16


def test_a_killed_run_draws_only_what_is_missing(tmp_path):
    pairs = preferences(20)
    first = judge(tmp_path, Leaning(), pairs)
    shards = sorted(tmp_path.rglob("*.parquet"))
    assert {shard.parent.name for shard in shards} >= {"round-0", "round-1"}
    gone = pl.read_parquet(shards[0])
    shards[0].unlink()
    later = [shard for shard in shards if shard.parent.name not in ("round-0", "round-1")]
    for shard in later:
        shard.unlink()
    again = Leaning()
    assert_frame_equal(judge(tmp_path, again, pairs), first)
    lost = set(gone.select("pair_id", "swapped").unique().iter_rows())
    assert {a[:2] for a in again.asked if a[2] == 0} == lost
    assert {a[2] for a in again.asked} == {0, 4, 8}  # the second round lay whole


def test_one_sampler_for_all_rounds_and_none_for_a_finished_run(tmp_path):
    made = []

    def sampler() -> Sampler:
        made.append(1)
        return Leaning()

    first = judge_sequentially(tmp_path, preferences(20), sampler, SETTINGS, STOPPING, **OPTIONS)
    assert made == [1]
    assert_frame_equal(judge_sequentially(tmp_path, preferences(20), sampler, SETTINGS, STOPPING, **OPTIONS), first)
    assert made == [1]


def test_a_real_judge_stops_as_its_full_table_would(tiny_llama, tmp_path):
    def sampler() -> LocalSampler:
        return LocalSampler(load_judge(str(tiny_llama), torch.float32), load_renderer(str(tiny_llama)))

    pairs, stopping = preferences(4), StoppingSettings(alpha=0.2, votes="soft", first=1)
    settings = SamplingSettings(n_samples=4, rationale_tokens=3)
    full = judge_pairs(tmp_path / "full", pairs, sampler, settings, **OPTIONS)
    found = judge_sequentially(tmp_path / "rounds", pairs, sampler, settings, stopping, **OPTIONS)
    assert_frame_equal(found, stopped(full, stopping), abs_tol=1e-4)
    assert found["rationale"].to_list() == stopped(full, stopping)["rationale"].to_list()
    last = sorted((tmp_path / "rounds").rglob("*.parquet"))[-1]
    last.unlink()
    assert_frame_equal(judge_sequentially(tmp_path / "rounds", pairs, sampler, settings, stopping, **OPTIONS), found)


def test_nothing_to_stop_is_refused(tmp_path):
    with pytest.raises(UserError, match="n_samples is 16, the first look comes after 16"):
        judge(tmp_path, Leaning(), preferences(2), stopping=StoppingSettings(first=16))


def test_no_pairs_give_no_rows(tmp_path):
    assert judge(tmp_path, Leaning(), preferences(0)).schema == JUDGMENT
