"""Sampling in rounds: the rows are those that a full table would keep, also after a kill."""

from __future__ import annotations

from dataclasses import replace
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
from genrm_lightning.judgments import requests, shards_of
from genrm_lightning.samplers.base import Sample, Sampler, SamplingSettings, uniforms
from genrm_lightning.samplers.local import LocalSampler
from genrm_lightning.samplers.sequential import SequentialSampler, check_stopping, until_decided
from tests.tiny import preferences

SETTINGS = SamplingSettings(n_samples=16, rationale_tokens=3)
STOPPING = StoppingSettings(alpha=0.05, votes="hard")
OPTIONS = {"template": "brief", "judge": "j", "iteration": 0, "seed": 0, "purpose": "evaluate"}


class Leaning(Sampler):
    """Each prompt has a share of A of its own; samples depend on their index alone. Remembers what it is asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, bool, range]] = []
        self.checked = 0

    def check(self, requests, settings):
        self.checked += 1

    def sample(self, requests, settings, salt):
        for index in reversed(range(len(requests))):  # in any order
            request, indices = requests[index], requests[index].indices(settings)
            self.asked.append((request.pair_id, request.swapped, indices))
            share = unit("share", f"{request.pair_id}|{request.swapped}")
            yield index, [self._sample(u, share) for u in uniforms(request, salt, len(indices), 1)[:, 0]]

    @staticmethod
    def _sample(u: float, share: float) -> Sample:
        vote = Verdict.A if u < share else Verdict.B
        return Sample(f"r {u}", [1], vote, vote, share + (1 - share) * u / 10, -1.0, 0.5, 2, "stop")


def judge(
    folder: Path,
    pairs: pl.DataFrame,
    sampler: Sampler | None = None,
    stopping=STOPPING,
    advance=lambda samples, tokens: None,
    **changes,
):
    inner = sampler or Leaning()
    shards = shards_of(folder, pairs, SETTINGS, **{**OPTIONS, "shard_size": 8, **changes})
    return shards.complete(until_decided(lambda: inner, stopping), advance=advance)


@pytest.mark.parametrize("scope", ["order", "pair"])
@pytest.mark.parametrize("votes", ["hard", "soft"])
def test_the_rows_are_those_that_a_full_table_keeps(tmp_path, scope, votes):
    pairs, stopping = preferences(40), StoppingSettings(alpha=0.05, votes=votes, scope=scope)
    full = shards_of(tmp_path / "full", pairs, SETTINGS, **OPTIONS).complete(Leaning)
    told = []
    found = judge(tmp_path / "rounds", pairs, stopping=stopping, advance=lambda n, _: told.append(n))
    assert_frame_equal(found, stopped(full, stopping))
    assert found.schema == JUDGMENT and sum(told) == found.height < full.height
    drawn = found.group_by("pair_id").len()["len"] // 2
    assert set(drawn) <= {2, 4, 8, 16} and len(set(drawn)) > 2
    assert set_scores(found, pairs).n_samples == found.height


def test_a_round_asks_for_what_is_new_of_what_is_open(tmp_path):
    sampler = Leaning()
    found = judge(tmp_path, preferences(20), sampler, shard_size=64)
    looks = [range(0, 2), range(2, 4), range(4, 8), range(8, 16)]
    assert [i for _, _, i in sampler.asked] == sorted((i for _, _, i in sampler.asked), key=looks.index)
    assert (
        len(found) == sum(len(i) for _, _, i in sampler.asked) == len(found.unique(["rationale", "pair_id", "swapped"]))
    )
    assert sampler.checked == 1


def test_whether_a_pair_goes_on_depends_on_its_own_samples_alone(tmp_path):
    pairs = preferences(20)
    whole = judge(tmp_path / "a", pairs)
    few = judge(tmp_path / "b", pairs.reverse()[:7], shard_size=2)
    assert_frame_equal(few, whole.join(few, on="pair_id", how="semi"))


def test_at_level_zero_all_is_drawn_where_nothing_is_certain_before(tmp_path):
    # Eight of sixteen cannot outvote the rest: a look at half of them ends nothing.
    found = judge(tmp_path, preferences(5), stopping=StoppingSettings(alpha=0))
    assert found.height == 5 * 2 * 16


def test_a_killed_run_draws_only_what_is_missing(tmp_path):
    first = judge(tmp_path, preferences(20))
    gone = sorted(tmp_path.iterdir())[2]
    lost = set(pl.read_parquet(gone).select("pair_id", "swapped").iter_rows())
    gone.unlink()
    sampler = Leaning()
    assert_frame_equal(judge(tmp_path, preferences(20), sampler), first)
    assert {asked[:2] for asked in sampler.asked} == lost


def test_a_real_judge_stops_as_its_full_table_would(tiny_llama, tmp_path):
    local = LocalSampler(load_judge(str(tiny_llama), torch.float32), load_renderer(str(tiny_llama)))
    pairs, stopping = preferences(4), StoppingSettings(alpha=0.3, votes="hard", first=1)
    settings = SamplingSettings(n_samples=4, rationale_tokens=3)
    full = shards_of(tmp_path / "full", pairs, settings, **OPTIONS).complete(lambda: local)
    made = SequentialSampler(local, stopping)

    def rounds() -> pl.DataFrame:
        return shards_of(tmp_path / "rounds", pairs, settings, shard_size=4, **OPTIONS).complete(lambda: made)

    found = rounds()
    expected = stopped(full, stopping)
    assert 0 < found.height < full.height
    assert_frame_equal(found, expected, abs_tol=1e-4)
    assert found["token_ids"].to_list() == expected["token_ids"].to_list()
    (tmp_path / "rounds/shard-00001.parquet").unlink()
    assert_frame_equal(rounds(), found)


def test_half_a_pair_and_part_of_the_samples_are_refused():
    sampler = SequentialSampler(Leaning(), STOPPING)
    asked = requests(preferences(2), "brief")
    for spoilt, message in ((asked[:3], "both orders"), ([replace(r, first=2) for r in asked], "a part of those")):
        with pytest.raises(ValueError, match=message):
            next(sampler.sample(spoilt, SETTINGS, "s"))


def test_settings_that_cannot_stop_are_refused():
    check_stopping(SETTINGS, StoppingSettings(first=15), 2)
    with pytest.raises(UserError, match="n_samples is 16, the first look comes after 16"):
        check_stopping(SETTINGS, StoppingSettings(first=16), 2)
    with pytest.raises(UserError, match="5 judge prompts a shard"):
        check_stopping(SETTINGS, STOPPING, 5)


def test_no_pairs_give_no_rows(tmp_path):
    assert judge(tmp_path, preferences(0)).schema == JUDGMENT
