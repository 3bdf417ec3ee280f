"""A judge as a reward function, for people who train policies: one number a response.

Three ways to get it from a judge of pairs:

- ``score``: of a reward model (Bradley-Terry, a sequence classifier) its own score;
- ``reference``: the probability of being better than a reference response, over both orders;
- ``group``: the responses to one prompt are compared with each other (:mod:`~genrm_lightning.ranking.tournament`), and
  the reward is the probability of beating another one of the group, in the mean. In (0, 1), and comparable only within
  the group, which is what GRPO's advantages want.

:class:`JudgeReward` has the signature of TRL's ``reward_funcs``; :func:`verl_score` makes what verl calls
``compute_score``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, Literal

from data_tools.errors import UserError
from genrm_lightning.budget import NoneFits
from genrm_lightning.judges.base import Judge, Judged
from genrm_lightning.judges.memory import Turns, content_id, p_first
from genrm_lightning.ranking.tournament import RankingSettings, rank

Mode = Literal["auto", "score", "reference", "group"]
Text = str | Turns


class JudgeReward:
    """Rewards of responses, called as TRL's GRPOTrainer calls its ``reward_funcs``.

    >>> GRPOTrainer(reward_funcs=JudgeReward(judge_of("runs/bt/judge")), ...)  # doctest: +SKIP

    Args:
        judge: any but a file of scores.
        mode: auto: score of a reward model, reference where references are given, else group.
        reference: the column of the training table that holds reference responses (TRL hands columns on by name).
        ranking: of mode group; its goal is always the order.

    Raises:
        UserError: the judge cannot give this reward.
    """

    def __init__(
        self,
        judge: Judge,
        mode: Mode = "auto",
        reference: str = "reference",
        ranking: RankingSettings | None = None,
    ) -> None:
        if judge.kind == "scores":
            raise UserError(f"{judge.name}: a file of scores has none of new responses; take a judge")
        if mode == "score" and compares(judge):
            raise UserError(f"{judge.name}: compares responses and scores none; take mode reference or group")
        self.judge, self.mode, self.reference = judge, mode, reference
        self.ranking = RankingSettings("order", comparisons=ranking.comparisons if ranking else None)
        self.__name__ = f"judge_{mode}"  # the name of TRL's column of logs

    def __call__(self, prompts: Sequence[Text], completions: Sequence[Text], **columns: Any) -> list[float | None]:
        """A reward a completion; None (which TRL leaves out) of one that does not fit the judge's context.

        Args:
            prompts, completions: texts or lists of turns, one each; of a completion the last turn counts.
            columns: of the training table.

        Raises:
            ValueError: two lengths, or references are asked for and not given.
        """
        if len(prompts) != len(completions):
            raise ValueError(f"expected a completion of each prompt, got {len(completions)} of {len(prompts)}")
        texts = [_text(completion) for completion in completions]
        references = columns.get(self.reference)
        mode = self.mode
        if mode == "auto":
            mode = "score"
            if compares(self.judge):
                mode = "group" if references is None else "reference"
        if mode == "score":
            return self._scored(prompts, texts)
        if mode == "reference":
            if references is None or len(references) != len(texts):
                raise ValueError(f"expected a column '{self.reference}' with a reference response of each completion")
            return self._against(prompts, texts, [_text(one) for one in references])
        return self._among(prompts, texts)

    def _scored(self, prompts: Sequence[Text], texts: list[str]) -> list[float | None]:
        ids, judged = self._judged([(*row, row[1]) for row in zip(prompts, texts, strict=True)])
        rewards = judged.rewards.iter_rows(named=True) if judged is not None else ()
        found = {row["pair_id"]: row["chosen_reward"] for row in rewards}
        return [found.get(each) for each in ids]

    def _against(self, prompts: Sequence[Text], texts: list[str], references: list[str]) -> list[float | None]:
        return self._p(list(zip(prompts, texts, references, strict=True)))

    def _among(self, prompts: Sequence[Text], texts: list[str]) -> list[float | None]:
        members: dict[str, list[int]] = {}
        for i, prompt in enumerate(prompts):
            members.setdefault(json.dumps(prompt), []).append(i)

        def compare(number: int, asked: list[tuple[str, int, int]]) -> list[float | None]:
            pairs = [(members[group][i], members[group][j]) for group, i, j in asked]
            shown = [(a, b) for a, b in pairs if texts[a] != texts[b]]
            said = dict(zip(shown, self._p([(prompts[a], texts[a], texts[b]) for a, b in shown]), strict=True))
            return [said.get(pair, 0.5) for pair in pairs]

        rewards: list[float | None] = [None] * len(texts)
        for group, one in rank({name: len(found) for name, found in members.items()}, compare, self.ranking).items():
            played = {i for pair in one.pairs for i in pair}
            for place, reward in enumerate(one.fit.win_rates().tolist()):
                if place in played or one.n == 1:
                    rewards[members[group][place]] = reward
        return rewards

    def _p(self, rows: Sequence[tuple[Text, str, str]]) -> list[float | None]:
        """Of each (prompt, first, second) the probability that the first is better; None where it does not fit."""
        ids, judged = self._judged(rows)
        found = {} if judged is None else p_first(judged)
        return [found.get(each) for each in ids]

    def _judged(self, rows: Sequence[tuple[Text, str, str]]) -> tuple[list[str], Judged | None]:
        """The rows' ids, and what the judge says: the same of equal rows, which it sees once; None where none fits."""
        ids = [content_id(*row) for row in rows]
        unique = {each: (each, *row) for each, row in zip(ids, rows, strict=True)}
        try:
            return ids, self.judge.judge_rows(list(unique.values())) if rows else None
        except NoneFits:
            return ids, None


def verl_score(judge: Judge) -> Callable[..., float]:
    """verl's ``compute_score(data_source, solution_str, ground_truth, extra_info)``.

    ``extra_info`` holds the ``prompt`` (text or turns). A reward model gives its score, another judge the probability
    of being better than ``ground_truth``, the reference response.

    Raises:
        UserError: a file of scores.
        ValueError: when called: no prompt, or a response that does not fit the judge's context.
    """
    reward = JudgeReward(judge, "reference" if compares(judge) else "score")

    def compute_score(
        data_source: str, solution_str: str, ground_truth: Any, extra_info: dict[str, Any] | None = None, **_: Any
    ) -> float:
        if not (extra_info or {}).get("prompt"):
            raise ValueError("expected extra_info['prompt'], the conversation that was answered, got none")
        (found,) = reward([extra_info["prompt"]], [solution_str], reference=[ground_truth])
        if found is None:
            raise ValueError("expected a response that fits the judge's context, got a longer one")
        return found

    return compute_score


def compares(judge: Judge) -> bool:
    """Whether a judge says only which of two responses is better; PairRM's scores depend on the other one, too."""
    return judge.objective != "BradleyTerry"


def _text(completion: Text) -> str:
    return completion if isinstance(completion, str) else completion[-1]["content"]
