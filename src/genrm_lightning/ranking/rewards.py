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
from genrm_lightning.judges.base import Judge, Judged, check_finite
from genrm_lightning.judges.memory import Turns, content_id, p_both
from genrm_lightning.ranking.tournament import Both, RankingSettings, rank

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

    def __call__(
        self, prompts: Sequence[Text], completions: Sequence[Text | None], **columns: Any
    ) -> list[float | None]:
        """A reward a completion; None of one that does not fit the judge's context, or that holds no text.

        TRL leaves None out of a group's mean (1.16; earlier ones may count it as 0).

        Args:
            prompts, completions: texts or lists of turns, one each; of a completion the last turn counts. An empty text
                is one like any other; None, no turn, or a turn without content (a tool's call) is none.
            columns: of the training table, and what else TRL hands on. A row without a reference has no reward.

        Raises:
            ValueError: two lengths, or references are asked for and not given.
            NotFinite: the judge says NaN or an infinite number.
        """
        if len(prompts) != len(completions):
            raise ValueError(f"expected a completion of each prompt, got {len(completions)} of {len(prompts)}")
        references = columns.get(self.reference)
        mode = self.mode
        if mode == "auto":
            mode = "score"
            if compares(self.judge):
                mode = "group" if references is None else "reference"
        texts = [_text(completion) for completion in completions]
        others: list[str | None] = [""] * len(texts)
        if mode == "reference":
            if references is None or len(references) != len(texts):
                raise ValueError(f"expected a column '{self.reference}' with a reference response of each completion")
            others = [_text(one) for one in references]
        prompts = list(prompts)  # a column may make its rows anew each time
        plain = {id(prompt): _plain(prompt) for prompt in prompts}  # of a group one, however long
        told = [
            (at, plain[id(prompt)], text, other)
            for at, (prompt, text, other) in enumerate(zip(prompts, texts, others, strict=True))
            if text is not None and other is not None
        ]
        shown, kept = [row[1] for row in told], [row[2] for row in told]
        if mode == "score":
            found = self._scored(shown, kept)
        elif mode == "reference":
            found = self._against([row[1:] for row in told])
        else:
            found = self._among(shown, kept)
        rewards: list[float | None] = [None] * len(texts)
        for (at, *_), reward in zip(told, found, strict=True):
            rewards[at] = reward
        return rewards

    def _scored(self, prompts: Sequence[Text], texts: list[str]) -> list[float | None]:
        ids, judged = self._judged([(*row, row[1]) for row in zip(prompts, texts, strict=True)])
        rewards = judged.rewards.iter_rows(named=True) if judged is not None else ()
        found = {row["pair_id"]: row["chosen_reward"] for row in rewards}
        return [found.get(each) for each in ids]

    def _against(self, rows: Sequence[tuple[Text, str, str]]) -> list[float | None]:
        return [None if one is None else sum(one) / 2 for one in self._p(rows)]

    def _among(self, prompts: Sequence[Text], texts: list[str]) -> list[float | None]:
        members: dict[str, list[int]] = {}
        for i, prompt in enumerate(prompts):
            members.setdefault(json.dumps(prompt), []).append(i)

        def compare(number: int, asked: list[tuple[str, int, int]]) -> list[Both | None]:
            pairs = [(members[group][i], members[group][j]) for group, i, j in asked]
            return self._p([(prompts[a], texts[a], texts[b]) for a, b in pairs])

        rewards: list[float | None] = [None] * len(texts)
        sizes = {name: len(found) for name, found in members.items()}
        own = {name: [texts[i] for i in found] for name, found in members.items()}
        for group, one in rank(sizes, compare, self.ranking, own).items():
            played = {i for pair in one.pairs for i in pair}
            for place, reward in enumerate(one.fit.win_rates().tolist()):
                if place in played or one.n == 1:
                    rewards[members[group][place]] = reward
        return rewards

    def _p(self, rows: Sequence[tuple[Text, str, str]]) -> list[Both | None]:
        """Of each (prompt, first, second) that the first is better, shown first and second; None: it does not fit."""
        ids, judged = self._judged(rows)
        found = {} if judged is None else p_both(judged)
        return [found.get(each) for each in ids]

    def _judged(self, rows: Sequence[tuple[Text, str, str]]) -> tuple[list[str], Judged | None]:
        """The rows' ids, and what the judge says: the same of equal rows, which it sees once; None where none fits."""
        ids = [content_id(*row) for row in rows]
        unique = {each: (each, *row) for each, row in zip(ids, rows, strict=True)}
        try:
            judged = self.judge.judge_rows(list(unique.values())) if rows else None
        except NoneFits:
            judged = None
        if judged is not None:
            check_finite(judged.judgments.select("pair_id", "p_a"), self.judge.name, "rewards")
            if judged.rewards is not None:
                check_finite(judged.rewards, self.judge.name, "rewards")
        return ids, judged


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
        prompt: Any = _as_list((extra_info or {}).get("prompt"))
        if not prompt:
            raise ValueError("expected extra_info['prompt'], the conversation that was answered, got none")
        if reward.mode == "reference" and _text(ground_truth) is None:
            raise ValueError("expected ground_truth, the reference response that this judge compares with, got none")
        (found,) = reward([prompt], [solution_str], reference=[ground_truth])
        if found is None:
            raise ValueError("expected a response that fits the judge's context, got a longer one")
        return found

    return compute_score


def compares(judge: Judge) -> bool:
    """Whether a judge says only which of two responses is better; PairRM's scores depend on the other one, too."""
    return judge.objective != "BradleyTerry"


def _text(completion: Any) -> str | None:
    """The text of a completion: of turns the last one's, of a turn's parts (TRL's form beside images) the texts.

    Turns and parts may be arrays, as they are where they were read from Parquet, and texts may stand bare in both.
    """
    turns = _as_list(completion)
    if isinstance(turns, list):
        last = turns[-1] if turns else None
        completion = _as_list(last.get("content")) if isinstance(last, dict) else last
    if isinstance(completion, list):
        parts = [{"type": "text", "text": part} if isinstance(part, str) else part for part in completion]
        completion = "".join(part["text"] for part in parts if part.get("type") == "text")
    return completion


def _as_list(value: Any) -> Any:
    return value.tolist() if hasattr(value, "tolist") else value


def _is_text(turn: dict[str, Any]) -> bool:
    return isinstance(turn["content"], str)


def _plain(prompt: Text) -> Text:
    """Of turns role and content alone, as text: data sets fill in keys that other rows have."""
    if isinstance(prompt, str) or all(turn.keys() == {"role", "content"} and _is_text(turn) for turn in prompt):
        return prompt
    return [{"role": turn["role"], "content": _text([turn]) or ""} for turn in prompt]
