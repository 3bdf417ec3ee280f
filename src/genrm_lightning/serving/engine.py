"""The judge behind the queue: batches of pairs that it compares, or of conversations that it writes a judgment to."""

from __future__ import annotations

import math
import sys
import traceback
from collections.abc import Hashable, Sequence
from hashlib import blake2b
from json import dumps
from typing import Any

import polars as pl

from data_tools.errors import UserError
from genrm_lightning.backbone import load_renderer
from genrm_lightning.budget import REMEDY, NoneFits
from genrm_lightning.errors import NotFinite
from genrm_lightning.judges.base import Judge, Judged
from genrm_lightning.judges.memory import pairs_of
from genrm_lightning.judges.reading import ReadingJudge
from genrm_lightning.judges.sampled import SampledJudge
from genrm_lightning.samplers.base import PromptRefused, Request, SamplingSettings
from genrm_lightning.serving.health import is_answer
from genrm_lightning.serving.refusals import Refused, Unfit
from genrm_lightning.serving.works import PAIRS, Chat, Drawing, Pair, Written

_TRIED = Pair.of("Name an animal.", "a fox", "the sky")  # by the server itself
_Asked = tuple[int, Request, int]  # place in the batch, what is asked, tokens of its prompt


class Engine:
    """One judge, loaded once. Called by one thread at a time.

    Args:
        judge: any but a file of scores.
        aloud: whether what goes wrong inside is told on stderr.
    """

    def __init__(self, judge: Judge, aloud: bool = True) -> None:
        self.judge, self.aloud = judge, aloud
        self._ends: tuple[str, ...] = ()

    def load(self) -> None:
        """Load the judge, which its first batch would do else.

        Raises:
            UserError: it cannot be loaded.
        """
        self.judge.open()
        if isinstance(self.judge, ReadingJudge) or self.writes:
            tokenizer = load_renderer(self.judge.backbone).tokenizer
            self._ends = tuple({tokenizer.eos_token, tokenizer.pad_token})

    def without_end(self, text: str) -> str:
        """A response without the end and padding tokens behind it, which OpenRLHF sends as text."""
        end = len(text)  # without a copy for each: there may be hundreds of thousands of them
        while self._ends and text.endswith(self._ends, 0, end):
            end -= next(len(mark) for mark in self._ends if text.endswith(mark, 0, end))
        return text[:end]

    @property
    def _served(self) -> bool:
        """Whether another server samples."""
        return isinstance(self.judge, SampledJudge) and self.judge.sampler.served is not None

    @property
    def writes(self) -> bool:
        """Whether it can be asked to write: its sampler is in this process."""
        return isinstance(self.judge, SampledJudge) and self.judge.sampler.kind == "local"

    def __call__(self, group: Hashable, works: list[Any]) -> list[Any]:
        """A result of each work (Judged of that pair alone, or Written), or the Refused that says why there is none."""
        if isinstance(group, Drawing):
            return self._chats(group, works)
        unique = {work.pair_id: work for work in works}
        found = dict(zip(unique, self._pairs(list(unique.values())), strict=True))
        return [found[work.pair_id] for work in works]

    def works(self) -> bool:
        """Whether the judge answers about a pair that no client has sent."""
        return is_answer(self(PAIRS, [_TRIED])[0])

    def _pairs(self, works: Sequence[Pair]) -> list[Judged | Refused]:
        """Where the batch fails it is judged in halves, so that a pair that cannot be judged harms no other one."""
        refused: dict[str, PromptRefused] = {}
        try:
            rows = pairs_of([(work.pair_id, work.prompt, work.first, work.second) for work in works])
            if self._served:
                judged, refused = self.judge.judge_each(rows, "the request")
            else:
                judged = self.judge.judge_now(rows, "the request")
        except NoneFits:
            return [Unfit("the pair")] * len(works)
        except BaseException as error:  # a panic of a library in Rust is no Exception
            # A model that is away would not answer for the half of them either.
            away = self._served and isinstance(error, UserError) and not _too_long(error)
            if len(works) > 1 and not away:
                half = len(works) // 2
                return self._pairs(works[:half]) + self._pairs(works[half:])
            return [self._refusal(error)] * len(works)
        return [self._result(work.pair_id, judged, refused) for work in works]

    def _result(self, pair_id: str, judged: Judged, refused: dict[str, PromptRefused]) -> Judged | Refused:
        if pair_id in judged.dropped:
            return Unfit("the pair")
        if pair_id in refused:
            error = refused[pair_id]
            if 400 <= error.status < 500:  # what a server says of a request and not of itself
                return Refused(400, f"the model behind this server refuses the pair: {error.said}")
            return self._refusal(error)
        mine = _only(judged, pair_id)
        return mine if _finite(mine) else _no_number()

    def _chats(self, drawing: Drawing, works: Sequence[Chat]) -> list[Written | Refused]:
        judge = self.judge
        assert isinstance(judge, SampledJudge)
        sampler, settings = judge.opened, drawing.settings(judge.sampling)
        found: dict[int, Written | Refused] = {}
        asked: list[_Asked] = []
        for place, work in enumerate(works):
            name = blake2b(dumps(work.messages).encode(), digest_size=16).hexdigest()
            request = Request(name, False, work.messages, n_samples=work.n)
            try:
                length = len(sampler.renderer.prompt(work.messages))
            except BaseException as error:  # the chat template's, or a panic of the tokenizer's
                found[place] = self._refusal(error)
                continue
            try:
                sampler.check([request], settings)
            except UserError:
                found[place] = Unfit(f"the conversation of {length} tokens with a judgment of {drawing.max_tokens}")
                continue
            asked.append((place, request, length))
        found |= self._written(asked, settings, f"chat|{drawing.seed}")
        return [found[place] for place in range(len(works))]

    def _written(self, asked: list[_Asked], settings: SamplingSettings, salt: str) -> dict[int, Written | Refused]:
        """Place -> what is written there; in halves where a conversation fails, as with pairs."""
        found: dict[int, Written | Refused] = {}
        try:
            for index, samples in self.judge.opened.sample([request for _, request, _ in asked], settings, salt):
                place, _, length = asked[index]
                sound = all(math.isfinite(sample.p_a) for sample in samples)
                found[place] = Written(samples, length) if sound else _no_number()
        except BaseException as error:
            if len(asked) == 1:
                return {asked[0][0]: self._refusal(error)}
            left = [one for one in asked if one[0] not in found]
            half = (len(left) + 1) // 2
            for some in (left[:half], left[half:]):
                found |= self._written(some, settings, salt) if some else {}
        return found

    def _refusal(self, error: BaseException) -> Refused:
        """What a single pair or batch is told that the judge failed on."""
        if isinstance(error, NotFinite):
            return _no_number()
        if _too_long(error):
            return Unfit("the pair")
        if isinstance(error, UserError) and not self._served:
            return Refused(400, str(error))  # a role that the template refuses
        if isinstance(error, UserError):
            if self.aloud:
                print(f"serve: {error}", file=sys.stderr, flush=True)
            return Refused(502, "the model behind this server could not be asked; its log says more")
        if self.aloud:
            traceback.print_exception(error, file=sys.stderr)
        return Refused(500, f"the judge failed on the request ({type(error).__name__}); the server's log says more")


def _finite(judged: Judged) -> bool:
    columns = [judged.judgments["p_a"]]
    if judged.rewards is not None:
        columns += [judged.rewards["chosen_reward"], judged.rewards["rejected_reward"]]
    return all(column.is_finite().all() for column in columns)


def _too_long(error: BaseException) -> bool:
    """Whether it is what a pair is told under too_long: error; its remedy is for files."""
    return isinstance(error, UserError) and not isinstance(error, PromptRefused) and REMEDY in str(error)


def _no_number() -> Refused:
    return Refused(500, "the judge's answer is no number (NaN or infinite); its weights or their dtype may be to blame")


def _only(judged: Judged, pair_id: str) -> Judged:
    mine = pl.col("pair_id") == pair_id
    rewards = None if judged.rewards is None else judged.rewards.filter(mine)
    return Judged(judged.judgments.filter(mine), rewards)
