"""What each endpoint does with a request that has been read."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from genrm_lightning.judges.base import Judge
from genrm_lightning.ranking.rewards import JudgeReward, compares
from genrm_lightning.ranking.tournament import MOST
from genrm_lightning.serving import answers
from genrm_lightning.serving.batching import Batcher
from genrm_lightning.serving.engine import Engine
from genrm_lightning.serving.health import Health
from genrm_lightning.serving.limits import Limits
from genrm_lightning.serving.metrics import Metrics
from genrm_lightning.serving.queued import QueuedJudge
from genrm_lightning.serving.refusals import Refused, Unfit, stopping
from genrm_lightning.serving.shapes import ChatAsked, ClassifyAsked, CompareAsked, RewardAsked, ScoreAsked, Text, turns
from genrm_lightning.serving.works import PAIRS, Chat, Drawing, Pair, sizes

_THREADS = 64  # requests whose rewards are computed at a time: their threads mostly wait for the queue


class Service:
    """One judge and its queue.

    Args:
        name: what the judge is called in answers.
    """

    def __init__(self, judge: Judge, name: str, limits: Limits) -> None:
        self.judge, self.name, self.limits = judge, name, limits
        self.metrics = Metrics()
        self.engine = Engine(judge)
        self.batcher = Batcher(
            self._judged, most=limits.batch, wait=limits.wait_ms / 1000, capacity=limits.queue,
            room=(limits.characters, limits.tokens), size=sizes, taken_back=self.metrics.taken_back,
        )  # fmt: skip
        self.health = Health(limits.seconds, self.engine.works)
        self.timers: set[asyncio.Timeout] = set()  # of the requests that are read and answered
        self.threads = ThreadPoolExecutor(min(_THREADS, limits.queue), "rewards")
        self.stopping = self.ended = False
        self.in_flight = 0
        self.metrics.watch("queue_length", lambda: self.batcher.waiting)
        self.metrics.watch("requests_in_flight", lambda: self.in_flight)

    def start(self) -> None:
        """Load the judge, and begin to take requests.

        Raises:
            UserError: it cannot be loaded.
        """
        self.engine.load()
        self.batcher.start()

    @property
    def status(self) -> str:
        """ok, stopping, or failing: the judge does not answer."""
        if self.stopping:
            return "stopping"
        return "failing" if self.health.failing or not self.batcher.alive else "ok"

    def _judged(self, group: Hashable, works: list[Any]) -> list[Any]:
        self.metrics.batch(len(works))
        with self.health.batch() as results:
            results.append(self.engine(group, works))
        return results[0]

    def end(self) -> None:
        """Answer all requests that are under way, also those that are still read: their time is over. For the event
        loop's thread."""
        self.ended = True
        self.close(0)
        for timer in self.timers:
            if not timer.expired():
                timer.reschedule(asyncio.get_running_loop().time())

    def close(self, seconds: float = 5.0) -> bool:
        """Refuse what is still open; whether nothing runs any more after so many seconds."""
        ended = self.batcher.close(seconds)
        self.threads.shutdown(wait=False)  # what waits for a thread is told by the queue that all is over
        return ended

    async def get_reward(self, asked: RewardAsked, deadline: float) -> dict[str, Any]:
        if len(asked.query) != len(asked.prompts):
            raise Refused(400, f"query has {len(asked.query)} items, prompts {len(asked.prompts)}; send one of each")
        self._check_items(len(asked.query))
        both = zip(asked.query, asked.prompts, strict=True)
        texts = [self._response(i, query, prompt) for i, (query, prompt) in enumerate(both)]
        labels = asked.labels
        if labels is not None and len(labels) != len(texts):
            raise Refused(400, f"labels has {len(labels)} items, query {len(texts)}; send one of each, or none")
        if labels is not None and all(label is None or label == "" for label in labels):
            labels = None
        found = await self._rewards(list(map(turns, asked.prompts)), texts, labels, "query", deadline)
        return answers.rewards(found)

    async def classify(self, asked: ClassifyAsked, deadline: float) -> dict[str, Any]:
        self._check_model(asked.model)
        given = [asked.messages] if asked.input is None and asked.messages is not None else asked.input
        if not isinstance(given, list) or (asked.input is not None and asked.messages is not None):
            raise Refused(400, f"{_CLASSIFY}, not text that a chat template has rendered" if given else _CLASSIFY)
        if not all(isinstance(one, list) and one and not isinstance(one[0], int) for one in given):
            raise Refused(400, f"{_CLASSIFY}, not text that a chat template has rendered, nor token ids")
        self._check_items(len(given))
        prompts, texts = [], []
        for i, conversation in enumerate(given):
            *before, last = conversation
            if last.role != "assistant" or not before:
                raise Refused(400, f"input.{i}: must end with the assistant's turn, and have another one before it")
            prompts.append(turns(before))
            texts.append(last.content)
        found = await self._rewards(prompts, texts, None, "input", deadline)
        return answers.classes(self._activated(found, asked.activated), self.name)

    async def score(self, asked: ScoreAsked, deadline: float) -> dict[str, Any]:
        self._check_model(asked.model)
        prompts: list[Any] = [asked.text_1] if isinstance(asked.text_1, str) else list(map(turns, asked.text_1))
        texts = [asked.text_2] if isinstance(asked.text_2, str) else asked.text_2
        self._check_items(len(texts))
        if len(prompts) == 1:
            prompts *= len(texts)
        if len(prompts) != len(texts):
            raise Refused(400, f"text_1 has {len(prompts)} items, text_2 {len(texts)}; send one prompt, or one of each")
        found = await self._rewards(prompts, texts, None, "text_2", deadline)
        return answers.scores(self._activated(found, asked.activated), self.name)

    async def compare(self, asked: CompareAsked, deadline: float) -> dict[str, Any]:
        self._check_model(asked.model)
        pair = Pair.of(turns(asked.prompt), asked.response_a, asked.response_b)
        (judged,) = await self._ask(PAIRS, [pair])
        self.metrics.tokens(judged.tokens)
        return answers.comparison(pair.pair_id, judged, self.name)

    async def chat(self, asked: ChatAsked, deadline: float) -> dict[str, Any]:
        self._check_model(asked.model)
        if not self.engine.writes:
            raise Refused(400, f"the judge '{self.name}' writes nothing here; ask it with /compare")
        if asked.stream:
            raise Refused(400, "stream: a judgment comes in one piece, when its verdict is there; leave the field out")
        if asked.messages[-1].role != "user":
            raise Refused(400, "messages: must end with a user's turn, which the judge answers")
        if asked.max_tokens is not None and asked.max_completion_tokens not in (None, asked.max_tokens):
            raise Refused(400, "max_tokens: is another number than max_completion_tokens; send one of them")
        self._check_items(asked.n)
        base = self.judge.sampling
        drawing = Drawing(
            base.temperature if asked.temperature is None else asked.temperature,
            base.top_p if asked.top_p is None else asked.top_p,
            asked.max_tokens or asked.max_completion_tokens or base.rationale_tokens,
            self.judge.seed if asked.seed is None else asked.seed,
        )
        if asked.n * drawing.max_tokens > self.limits.tokens:
            raise Refused(
                413, f"n times max_tokens is more than the {self.limits.tokens} of one request; ask for less at a time"
            )
        (written,) = await self._ask(drawing, [Chat(turns(asked.messages), asked.n)])
        answer = answers.completion(written, self.name)
        self.metrics.tokens(answer["usage"]["completion_tokens"])
        return answer

    async def _ask(self, group: Any, works: Sequence[Any]) -> list[Any]:
        """What the queue says of all of them. Cancelled at the deadline, by the caller, it takes them back."""
        return await asyncio.gather(*map(asyncio.wrap_future, self.batcher.submit(group, works)))

    async def _rewards(
        self, prompts: list[Any], texts: list[str], labels: list[Any] | None, field: str, deadline: float
    ) -> list[float]:
        """A reward of each response, as offline (:class:`~genrm_lightning.ranking.rewards.JudgeReward`)."""
        if not texts:
            return []
        queued = QueuedJudge(self.judge, self.batcher, deadline)
        columns: dict[str, Any] = {}
        if compares(queued):
            if labels is None:
                self._check_groups(prompts, field)
            elif not all(isinstance(label, str) and label for label in labels):
                raise Refused(400, "labels: must hold a reference response, a text, of each query, or of none")
            else:
                columns["reference"] = labels
        reward = JudgeReward(queued)
        try:
            work = asyncio.get_running_loop().run_in_executor(self.threads, lambda: reward(prompts, texts, **columns))
        except RuntimeError:  # the threads are shut down
            raise stopping() from None
        try:
            found = await work
        except asyncio.CancelledError:
            queued.give_up()
            raise
        self.metrics.tokens(queued.written)
        if None in found:
            raise Unfit(f"{field}.{found.index(None)}:")
        return found

    def _check_groups(self, prompts: list[Any], field: str) -> None:
        """Of a judge that compares responses, without references."""
        known = {id(prompt): json.dumps(prompt) for prompt in prompts}  # one may stand for all of them
        sizes = Counter(known[id(prompt)] for prompt in prompts)
        for i, prompt in enumerate(prompts):
            n = sizes[known[id(prompt)]]
            if n == 1:
                raise Refused(
                    400,
                    f"{field}.{i}: this judge compares responses, and here is one alone; send several to its prompt, "
                    "or a reference response in labels of /get_reward",
                )
            if n > MOST:
                raise Refused(400, f"{field}.{i}: {n} responses to one prompt; at most {MOST} are compared")

    def _check_items(self, n: int) -> None:
        if n > self.limits.items:
            raise Refused(413, f"{n} items are more than the {self.limits.items} of one request; send fewer at a time")

    def _check_model(self, model: str | None) -> None:
        if model is not None and model != self.name:
            raise Refused(404, f"model: there is only '{self.name}' here; name it, or leave the field out")

    def _response(self, i: int, query: Text, prompt: Text) -> str:
        """What stands behind the prompt in a query, without the token that ended it."""
        if isinstance(query, str) and isinstance(prompt, str) and query.startswith(prompt):
            return self.engine.without_end(query.removeprefix(prompt))
        if isinstance(query, list) and query[:-1] == prompt and query[-1].role == "assistant":
            return query[-1].content
        raise Refused(400, f"query.{i}: does not begin with its prompt; send the prompt, and the response behind it")

    def _activated(self, found: list[float], activated: bool) -> list[float]:
        """Of a reward model's scores probabilities, as vLLM does; others are probabilities anyhow."""
        return found if compares(self.judge) or not activated else [answers.sigmoid(score) for score in found]


_CLASSIFY = "input: must be conversations, lists of messages that end with the assistant's turn (one may be messages)"
