"""Rewards of responses by real judges."""

import numpy as np
import polars as pl
import pytest

from data_tools.errors import UserError
from genrm_lightning.errors import NotFinite
from genrm_lightning.judges.base import Judge, Judged, verdicts
from genrm_lightning.judges.choice import judge_of
from genrm_lightning.judges.memory import p_first, pairs_of
from genrm_lightning.judges.stored import StoredScores
from genrm_lightning.ranking.rewards import JudgeReward, verl_score

PROMPTS = ["Name a colour.", "Name a colour.", "Name a colour.", "Say hello.", "Say hello."]
TEXTS = ["Blue.", "Seven of them.", "Red, I think.", "Hello!", "No."]


@pytest.fixture(scope="module")
def read(judges):
    return {kind: judge_of(str(judges / kind), dtype="float32") for kind in ("BradleyTerry", "GenRM", "PairRM")}


def test_scores_of_a_reward_model(read, capfd):
    reward = JudgeReward(read["BradleyTerry"])
    found = reward(prompts=PROMPTS, completions=TEXTS, unused=[1] * 5)
    turns = [[{"role": "user", "content": prompt}] for prompt in PROMPTS]
    answers = [[{"role": "assistant", "content": text}] for text in TEXTS]
    assert reward(turns, answers) == pytest.approx(found, abs=1e-6) and len(set(found)) == 5
    assert capfd.readouterr() == ("", "")  # a fit calls it at every step
    judged = read["BradleyTerry"].judge_now(pairs_of([("x", PROMPTS[0], TEXTS[0], TEXTS[1])]), "pairs")
    assert judged.rewards.row(0)[1:] == pytest.approx(tuple(found[:2]), abs=1e-5)


@pytest.mark.parametrize("kind", ["GenRM", "PairRM"])
def test_rewards_against_a_reference(read, kind):
    references = ["Green."] * 3 + ["Hi."] * 2
    found = JudgeReward(read[kind])(PROMPTS, TEXTS, reference=references)
    rows = [(str(i), *row) for i, row in enumerate(zip(PROMPTS, TEXTS, references, strict=True))]
    expected = p_first(read[kind].judge_now(pairs_of(rows), "pairs"))
    assert found == pytest.approx([expected[str(i)] for i in range(5)]) and all(0 < p < 1 for p in found)
    turned = JudgeReward(read[kind])(PROMPTS, references, reference=TEXTS)
    assert [a + b for a, b in zip(found, turned, strict=True)] == pytest.approx([1] * 5, abs=1e-5)


def test_rewards_within_a_group(read):
    found = JudgeReward(read["GenRM"], "group")(PROMPTS, TEXTS)
    assert sum(found[:3]) / 3 == pytest.approx(0.5) and sum(found[3:]) / 2 == pytest.approx(0.5)
    # All pairs of so few are compared, so nothing depends on the order in which they come.
    again = JudgeReward(read["GenRM"], "group")(PROMPTS[::-1], TEXTS[::-1])
    assert again[::-1] == pytest.approx(found, abs=0.02)
    same = JudgeReward(read["GenRM"], "group")(PROMPTS[:2], ["Blue."] * 2)
    assert same == [0.5, 0.5]
    assert JudgeReward(read["GenRM"], "group")(PROMPTS[:1], TEXTS[:1]) == [0.5]


def test_what_does_not_fit_has_no_reward(read):
    long = "very long words " * 2000
    for judge in read.values():
        mode = "score" if judge.kind == "reward" and judge.objective == "BradleyTerry" else "group"
        found = JudgeReward(judge, mode)(PROMPTS[:3], [*TEXTS[:2], long])
        assert found[2] is None and None not in found[:2]
        assert JudgeReward(judge, mode)(PROMPTS[:2], [long, long]) == [None, None]


def test_verl(read):
    info = {"prompt": [{"role": "user", "content": PROMPTS[0]}]}
    scored = JudgeReward(read["BradleyTerry"])(PROMPTS[:1], TEXTS[:1])
    assert verl_score(read["BradleyTerry"])("x", TEXTS[0], "Green.", info) == pytest.approx(scored[0])
    against = JudgeReward(read["GenRM"])(PROMPTS[:1], TEXTS[:1], reference=["Green."])
    assert verl_score(read["GenRM"])("x", TEXTS[0], "Green.", info) == pytest.approx(against[0])
    with pytest.raises(ValueError, match="extra_info"):
        verl_score(read["GenRM"])("x", TEXTS[0], "Green.")


def test_what_cannot_be(read, tmp_path):
    with pytest.raises(UserError, match="compares responses and scores none"):
        JudgeReward(read["GenRM"], "score")
    with pytest.raises(ValueError, match="a column 'reference'"):
        JudgeReward(read["GenRM"], "reference")(PROMPTS, TEXTS)
    with pytest.raises(ValueError, match="a completion of each prompt"):
        JudgeReward(read["GenRM"])(PROMPTS, TEXTS[:2])
    (tmp_path / "s.csv").write_text("pair_id,chosen_reward,rejected_reward\nx,1,2\n")
    with pytest.raises(UserError, match="a file of scores"):
        JudgeReward(StoredScores(tmp_path / "s.csv"))


@pytest.mark.parametrize("mode", ["group", "reference"])
def test_a_judge_that_says_no_number_is_named(mode):
    class Broken(Judge):
        name, kind, objective = "broken", "direct", "GenRM"

        def key(self):
            return {}

        def judge(self, pairs, folder, where, aloud=True):
            nothing = pl.lit(float("nan"))
            return Judged(verdicts(pairs.select("pair_id", margin=nothing, margin_swapped=nothing), self.name))

    with pytest.raises(NotFinite, match="'broken' judges . pairs NaN") as said:
        JudgeReward(Broken(), mode)(PROMPTS, TEXTS, reference=["Green."] * 5)
    assert "\n" not in str(said.value)


@pytest.mark.parametrize("kind", ["BradleyTerry", "GenRM", "PairRM"])
def test_what_holds_no_text_has_no_reward(read, kind):
    """And changes nobody else's, whatever form it has; an empty text is a text."""
    reward = JudgeReward(read[kind])
    answers = [[{"role": "assistant", "content": text}] for text in ("Blue.", "Red.", "")]
    call = [{"role": "assistant", "content": None, "tool_calls": []}]
    parts = [{"role": "assistant", "content": [{"type": "text", "text": "Bl"}, "ue."]}]
    prompt = [{"role": "user", "content": "Name a colour.", "name": None}]
    alone = reward([prompt] * 3, answers)
    mixed = reward([prompt] * 6, [None, answers[0], call, answers[1], [], answers[2]])
    assert [mixed[0], mixed[2], mixed[4]] == [None] * 3 and None not in alone
    assert [mixed[1], mixed[3], mixed[5]] == pytest.approx(alone, abs=1e-6)
    assert reward([prompt] * 3, [parts, *answers[1:]]) == pytest.approx(alone, abs=1e-6)
    arrays = [np.array(each, dtype=object) for each in (parts, *answers[1:])]
    assert reward([prompt] * 3, arrays) == pytest.approx(alone, abs=1e-6)
    assert reward([prompt], [None]) == [None] and reward([], []) == []


def test_verl_from_parquet(read):
    said = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": PROMPTS[0]}]
    turns = np.array(said, dtype=object)
    as_list = verl_score(read["GenRM"])("x", TEXTS[0], "Green.", {"prompt": said})
    named = {"data_source": "x", "solution_str": TEXTS[0], "ground_truth": "Green.", "extra_info": {"prompt": turns}}
    assert verl_score(read["GenRM"])(**named) == pytest.approx(as_list)
    for reference in (["Green."], [{"role": "assistant", "content": "Green."}]):
        given = verl_score(read["GenRM"])("x", TEXTS[0], np.array(reference, dtype=object), {"prompt": said})
        assert given == pytest.approx(as_list)
    with pytest.raises(ValueError, match="expected ground_truth"):
        verl_score(read["GenRM"])("x", TEXTS[0], None, {"prompt": turns})
    assert isinstance(verl_score(read["BradleyTerry"])("x", TEXTS[0], None, {"prompt": turns}), float)
