"""The sampler behind a server: any that speaks OpenAI's /chat/completions or /completions.

A sample is two requests: a rationale, cut where the local sampler cuts it, and the verdict behind it
(:mod:`~genrm_lightning.samplers.dialect` has the ways). Servers return text, so a sample has no token ids and is
tokenised from its text where it is trained on; log-probabilities are the server's where it tells them, else null.
Where it tells none, its tokens are not known either, and a rationale may pass its budget by the few tokens that are
asked for beyond.

Each sample's seed is a hash of (pair, order, sample index, iteration, seed), so a server that honours seeds draws a
sample the same in any company; few do so to the bit.
"""

from __future__ import annotations

import asyncio
import math
import queue
import sys
import threading
from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future
from contextlib import closing
from typing import TYPE_CHECKING

from data_tools.judging import Verdict, parse
from data_tools.order import hash64, unit
from genrm_lightning.budget import REMEDY
from genrm_lightning.samplers.base import PromptRefused, Request, Sample, Sampler, SamplingSettings
from genrm_lightning.samplers.client import Client, Refusal, Unanswered, brief
from genrm_lightning.samplers.dialect import Dialect, counted_at_most, learn
from genrm_lightning.samplers.replies import Rationale, Reply, cut, p_of_a, replies

if TYPE_CHECKING:
    from genrm_lightning.rendering import Renderer
    from genrm_lightning.samplers.choice import OpenAISettings

_ROOM = 16  # tokens for the model's own verdict behind a rationale that fills its budget
_TAIL = 33  # bits of a hash that are dropped: seeds of 31 bits are taken everywhere


class OpenAISampler(Sampler):
    """Samples from a served model, many requests at a time.

    Args:
        settings: of the server.
        renderer: of the served model, where its tokenizer is at hand.
        key: API key.
    """

    def __init__(self, settings: OpenAISettings, renderer: Renderer | None = None, key: str | None = None) -> None:
        self.settings, self.renderer = settings, renderer
        self.client = Client(settings, key, _say)
        self.dialect: Dialect | None = None
        self.letters: Counter[str] = Counter()  # where verdicts came from
        # A loop of its own, in a thread: the caller may have one, and requests go on while it works.
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="openai", daemon=True)
        self._thread.start()

    def check(self, requests: Sequence[Request], settings: SamplingSettings) -> None:
        """Ask the server what it can do, and say it in a line."""
        if self.dialect is None and requests:
            learning = learn(self.client, self.settings, self.renderer, settings.n_samples)
            self.dialect = self._start(learning).result()
            one = "all samples of a prompt in one request" if self.dialect.together else "one request a sample"
            _say(f"openai: {self.settings.url}, model '{self.settings.model}': {self.dialect}; {one}")

    def reading(self) -> str | None:
        """What the server was found able to do; settings do not say, and one that is started anew may do otherwise."""
        return None if self.dialect is None else self.dialect.reading

    def sample(
        self, requests: Sequence[Request], settings: SamplingSettings, salt: str
    ) -> Iterator[tuple[int, list[Sample]]]:
        with closing(self._drawn(requests, settings, salt)) as drawn:  # what is under way ends with the first refusal
            for place, samples in drawn:
                if isinstance(samples, PromptRefused):
                    raise samples
                yield place, samples

    def attempt(
        self, requests: Sequence[Request], settings: SamplingSettings, salt: str
    ) -> Generator[tuple[int, list[Sample] | PromptRefused]]:
        """As :meth:`Sampler.attempt`; a prompt that the server fails on is soon given up where it answers others."""
        return self._drawn(requests, settings, salt, others_wait=True)

    def _drawn(
        self, requests: Sequence[Request], settings: SamplingSettings, salt: str, others_wait: bool = False
    ) -> Generator[tuple[int, list[Sample] | PromptRefused]]:
        self.check(requests, settings)
        done: queue.SimpleQueue[tuple[int, list[Sample] | PromptRefused] | None] = queue.SimpleQueue()
        future = self._start(self._all(requests, settings, salt, done, others_wait))
        future.add_done_callback(lambda _: done.put(None))
        try:
            while (item := done.get()) is not None:
                yield item
            future.result()
        finally:
            future.cancel()

    def close(self) -> None:
        """Let go of the connections, and say what was spent."""
        if self._loop.is_closed():
            return
        self._start(self.client.close()).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        if self.client.budget.requests:
            again = ", ".join(f"{kind} {n}" for kind, n in sorted(self.client.again.items()))
            _say(f"openai: {self.client.budget}" + (f"; tried again: {again}" if again else ""))
        if self.letters["own"] or self.letters["none"]:
            _say(
                f"openai: of {self.letters.total():,} verdicts the server gave neither letter "
                f"{self.letters['own'] + self.letters['none']:,} times: {self.letters['own']:,} are then what the "
                f"model's own text says, {self.letters['none']:,} are open (p_a 0.5)"
            )

    def _start(self, coroutine) -> Future:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    async def _all(
        self, requests: Sequence[Request], settings: SamplingSettings, salt: str, done, others_wait: bool
    ) -> None:
        brief.set(others_wait)  # for the tasks made here
        slots = asyncio.Semaphore(self.settings.concurrency)
        found: dict[int, dict[int, Sample]] = {}
        refused: set[int] = set()

        async def draw(place: int, indices: range) -> int:
            async with slots:  # rationale and verdict in one slot: the prompt is still in the server's cache
                if place in refused:
                    return place
                try:
                    samples = await self._samples(requests[place], indices, settings, salt)
                except PromptRefused as error:
                    if place not in refused:
                        done.put((place, error))
                    refused.add(place)
                    return place
                found[place].update(zip(indices, samples, strict=True))
            return place

        tasks = []
        for place, request in enumerate(requests):
            found[place] = {}
            asked = request.indices(settings)
            several = [asked] if self.dialect.together else [range(i, i + 1) for i in asked]
            tasks += [asyncio.create_task(draw(place, indices)) for indices in several]
        try:
            for finished in asyncio.as_completed(tasks):
                place = await finished
                asked = requests[place].indices(settings)
                if len(found[place]) == len(asked) and place not in refused:
                    done.put((place, [found[place][i] for i in asked]))
                    found[place] = {}
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _samples(self, request: Request, indices: range, settings: SamplingSettings, salt: str) -> list[Sample]:
        written = await self._written(request, indices, settings, salt)
        for index in indices[len(written) :]:  # a server may give fewer than it was asked for
            written += await self._written(request, range(index, index + 1), settings, salt)
        return [
            await self._judged(request, i, reply, settings, salt) for i, reply in zip(indices, written, strict=True)
        ]

    async def _written(self, request: Request, indices: range, settings: SamplingSettings, salt: str) -> list[Reply]:
        seed = hash64("server", _key(request, indices[0], salt)) >> _TAIL
        draw = {"temperature": settings.temperature, "top_p": settings.top_p}
        tokens = settings.rationale_tokens + _ROOM
        found = await self._ask(request, self.dialect.rationale(request.messages, len(indices), tokens, seed, draw))
        return found[: len(indices)]

    async def _judged(
        self, request: Request, index: int, reply: Reply, settings: SamplingSettings, salt: str
    ) -> Sample:
        rationale = cut(reply, settings.rationale_tokens)
        path, body = self.dialect.verdict(request.messages, rationale.text)
        answer = (await self._ask(request, (path, body)))[0]
        repeated = body["messages"][-1]["content"] if self.dialect.way == "continue" else ""
        p_a = p_of_a(answer, repeated, self.dialect.way == "ask")
        own = parse(reply.text)
        if p_a is None:
            self.letters["none" if own is Verdict.INVALID else "own"] += 1
            p_a = {Verdict.A: 1.0, Verdict.B: 0.0}.get(own, 0.5)
        else:
            self.letters["server"] += 1
        is_a = unit("vote", _key(request, index, salt)) < _tempered(p_a, settings.verdict_temperature)
        return _sample(rationale, own, Verdict.A if is_a else Verdict.B, p_a)

    async def _ask(self, request: Request, asked: tuple[str, dict]) -> list[Reply]:
        path, body = asked
        try:
            return await self.client.post(path, body, counted_at_most(body, self.dialect.limit), replies)
        except Refusal as refusal:
            raise PromptRefused(
                f"pair '{request.pair_id}': its judge prompt was refused: {refusal}; if it is too long, {REMEDY}",
                refusal.status,
                str(refusal),
            ) from None
        except Unanswered as error:
            raise PromptRefused(str(error), 502, str(error)) from None


def _key(request: Request, index: int, salt: str) -> str:
    return f"{request.pair_id}|{request.swapped}|{index}|{salt}"


def _tempered(p: float, temperature: float) -> float:
    """``p`` with its log-odds divided by ``temperature``."""
    if not 0 < p < 1:
        return p
    return 1 / (1 + math.exp(max(-700.0, min(700.0, -math.log(p / (1 - p)) / temperature))))


def _sample(rationale: Rationale, own: Verdict, vote: Verdict, p_a: float) -> Sample:
    known = rationale.logprobs
    return Sample(
        rationale=rationale.text,
        token_ids=None,
        verdict=own,
        vote=vote,
        p_a=p_a,
        logp=None if known is None else sum(known),
        mean_token_prob=None if known is None else sum(map(math.exp, known)) / len(known) if known else 1.0,
        n_tokens=rationale.n_tokens,
        finish_reason=rationale.finish_reason,
    )


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
