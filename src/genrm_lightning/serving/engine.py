"""What a batch is: pairs that the judge compares, or conversations that it writes a judgment to."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from json import dumps
from typing import Any

import polars as pl

from data_tools.errors import DiskFull, UserError
from genrm_lightning.backbone import load_renderer
from genrm_lightning.budget import NoneFits
from genrm_lightning.judges.base import Judge, Judged
from genrm_lightning.judges.memory import Turns, content_id, judge_in_memory, pairs_of
from genrm_lightning.judges.reading import ReadingJudge
from genrm_lightning.judges.sampled import SampledJudge
from genrm_lightning.samplers.base import Request, Sample, SamplingSettings
from genrm_lightning.serving.refusals import Refused, Unfit

PAIRS = "pairs"  # the group of all pairs: any of them may share a batch


@dataclass(frozen=True)
class Pair:
    """A pair to compare; its id is one of its content."""

    pair_id: str
    prompt: str | Turns
    first: str
    second: str

    @classmethod
    def of(cls, prompt: str | Turns, first: str, second: str) -> Pair:
        return cls(content_id(prompt, first, second), prompt, first, second)


@dataclass(frozen=True)
class Chat:
    """A conversation to write judgments to."""

    messages: Turns
    n: int


@dataclass(frozen=True)
class Drawing:
    """How judgments to a conversation are drawn: what conversations of one batch share."""

    temperature: float
    top_p: float
    max_tokens: int
    seed: int

    def settings(self, base: SamplingSettings) -> SamplingSettings:
        """At a temperature of 0 the likeliest token, and the likelier letter."""
        greedy = self.temperature == 0
        return SamplingSettings(
            n_samples=1,
            temperature=1.0 if greedy else self.temperature,
            top_p=1e-9 if greedy else self.top_p,
            verdict_temperature=1e-6 if greedy else base.verdict_temperature,
            rationale_tokens=self.max_tokens,
            batch_tokens=base.batch_tokens,
        )


@dataclass(frozen=True)
class Written:
    """Judgments to a conversation, and the tokens of its prompt."""

    samples: list[Sample]
    prompt_tokens: int


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

    def _pairs(self, works: Sequence[Pair]) -> list[Judged | Refused]:
        """Where the batch fails it is judged in halves, so that a pair that cannot be judged harms no other one."""
        rows = pairs_of([(work.pair_id, work.prompt, work.first, work.second) for work in works])
        try:
            judged = judge_in_memory(self.judge, rows, "the request")
        except NoneFits:
            return [Unfit("the pair")] * len(works)
        except BaseException as error:  # a panic of a library in Rust is no Exception
            if len(works) > 1 and not self._served:  # a server that did not answer would not do so for the half of them
                half = len(works) // 2
                return self._pairs(works[:half]) + self._pairs(works[half:])
            return [self._refusal(error)]
        return [Unfit("the pair") if work.pair_id in judged.dropped else _only(judged, work.pair_id) for work in works]

    def _chats(self, drawing: Drawing, works: Sequence[Chat]) -> list[Written | Refused]:
        judge = self.judge
        assert isinstance(judge, SampledJudge)
        sampler, settings = judge.opened, drawing.settings(judge.sampling)
        found: dict[int, Written | Refused] = {}
        asked: list[tuple[int, Request, int]] = []
        for place, work in enumerate(works):
            name = blake2b(dumps(work.messages).encode(), digest_size=16).hexdigest()
            request = Request(name, False, work.messages, n_samples=work.n)
            try:
                length = len(sampler.renderer.prompt(work.messages))
            except UserError as error:  # of the chat template
                found[place] = Refused(400, str(error))
                continue
            try:
                sampler.check([request], settings)
            except UserError:
                found[place] = Unfit(f"the conversation of {length} tokens with a judgment of {drawing.max_tokens}")
                continue
            asked.append((place, request, length))
        try:
            for index, samples in sampler.sample([one for _, one, _ in asked], settings, f"chat|{drawing.seed}"):
                place, _, length = asked[index]
                found[place] = Written(samples, length)
        except BaseException as error:
            found |= {place: self._refusal(error) for place, _, _ in asked if place not in found}
        return [found[place] for place in range(len(works))]

    def _refusal(self, error: BaseException) -> Refused:
        """What a single pair or batch is told that the judge failed on."""
        if isinstance(error, DiskFull):
            traceback.print_exception(error, file=sys.stderr)
            return Refused(503, "the server has no room left on its disk; send the request again later")
        if isinstance(error, UserError) and not self._served:
            return Refused(400, str(error))  # a role that the template refuses, a pair too long under too_long: error
        if self.aloud:
            traceback.print_exception(error, file=sys.stderr)
        if isinstance(error, UserError):
            return Refused(502, "the model behind this server could not be asked; its log says more")
        return Refused(500, f"the judge failed on the request ({type(error).__name__}); the server's log says more")


def _only(judged: Judged, pair_id: str) -> Judged:
    mine = pl.col("pair_id") == pair_id
    rewards = None if judged.rewards is None else judged.rewards.filter(mine)
    return Judged(judged.judgments.filter(mine), rewards)
