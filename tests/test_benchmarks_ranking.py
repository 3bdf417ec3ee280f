"""`python -m benchmarks.ranking`: the intervals of strengths hold what they say, and both tables come out."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit

from benchmarks import ranking
from benchmarks.ranking_judges import SimulatedJudge
from genrm_lightning.ranking.tournament import RankingSettings

ROBIN = RankingSettings("order", comparisons=2016)


@pytest.mark.parametrize(
    "judge",
    [
        SimulatedJudge("soft, follows the position", 0.7, bias=4),
        SimulatedJudge("soft, follows the position, more or less", 0.7, bias=2, bias_sd=1),
        SimulatedJudge("0/1, both orders alike", 1, votes="threshold"),
        SimulatedJudge("0/1, follows the position", 1, bias=2, votes="threshold"),
    ],
    ids=lambda judge: judge.name,
)
def test_intervals_hold(judge):
    """320 of them. With p averaged over both orders and two votes a comparison they held 57, 97, 83 and 83 %: the
    first for the position, the second for being twice as wide as need be, the others for counting one vote as two."""
    found = ranking.covered(judge, 16, 20, ROBIN)
    assert 0.92 <= found[..., 0].mean() <= 0.985
    assert found[..., 1].mean() < (0.55 if judge.votes == "soft" else 1.4)


def test_a_schedule_that_chooses_by_what_it_saw():
    """Candidates that won early are compared on, and comparing ends when it looks well; intervals hold still."""
    found = ranking.covered(SimulatedJudge("soft", 0.7, bias=2), 8, 25, RankingSettings("best"))
    assert 0.92 <= found[..., 0].mean() <= 0.995


def test_what_a_judge_expects_is_the_mean_of_what_it_says():
    draw = np.random.default_rng(0)
    d = np.full(40_000, 0.8)
    for votes in ("soft", "threshold", 2):
        judge = SimulatedJudge("x", 0.7, 1, 0.5, votes)
        assert judge.says(d, draw).mean(0) == pytest.approx(judge.expected(d[:1])[0], abs=0.01)
    theta = np.array([1.0, 0.2, -1.2])
    assert SimulatedJudge("exact").truth(theta) == pytest.approx(theta, abs=1e-3)
    wide = SimulatedJudge("0/1", 0.5, 3, votes="threshold")
    assert wide.truth(theta) == pytest.approx(theta / 0.5, abs=0.05)
    assert wide.expected(np.array([1.0]))[0] == pytest.approx(expit(np.array([8, -4])))


def test_tables(monkeypatch, capsys):
    monkeypatch.setattr(ranking, "JUDGES", ranking.JUDGES[1:2])
    ranking.main(["--sizes", "4", "8", "--scale", "0.01"])
    said = capsys.readouterr().out
    assert "noise 0.7" in said and "8: 2N" in said and all(name in said for name in ("Swiss", "Thompson", "random"))
