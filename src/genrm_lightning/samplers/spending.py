"""What a server's answers cost: a budget that is never passed, and a pace that is kept."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from data_tools.errors import UserError
from genrm_lightning.samplers.replies import Usage

if TYPE_CHECKING:
    from genrm_lightning.samplers.choice import OpenAISettings

_PER = 1e6  # tokens that a price is for


class Budget:
    """Tokens spent and under way, against the caps of the settings."""

    def __init__(self, settings: OpenAISettings) -> None:
        self.settings = settings
        self.before = settings.spent  # by samplers that this call of a command had for its earlier stages
        self.spent, self.reserved = (0, 0), (0, 0)
        self.requests = 0
        self._changed = asyncio.Event()

    async def reserve(self, cost: tuple[int, int]) -> None:
        """Take up to ``cost`` tokens of prompt and completion, once what is under way leaves room for it.

        Raises:
            UserError: they might pass a cap, whatever becomes of the rest.
        """
        while self._beyond(self.before, self.spent, self.reserved, cost):
            if name := self._beyond(self.before, self.spent, cost):
                cap = getattr(self.settings, name)
                raise UserError(
                    f"sampler.openai.{name}: stopped before {cap:,g} could be passed ({self}); finished shards are "
                    "kept, the one under way is not (a smaller shard_size loses less): to go on run the same command "
                    "again, with the same cap or a higher one (each call may spend it)"
                )
            self._changed.clear()
            await self._changed.wait()
        self.reserved = (self.reserved[0] + cost[0], self.reserved[1] + cost[1])

    def _beyond(self, *parts: tuple[int, int]) -> str | None:
        """The cap that these tokens together would pass."""
        total = tuple(map(sum, zip(*parts, strict=True)))
        wholes = {"budget_tokens": sum(total), "budget_money": self.money(total)}
        caps = {name: getattr(self.settings, name) for name in wholes}
        return next((n for n, cap in caps.items() if cap is not None and wholes[n] > cap), None)

    def settle(self, cost: tuple[int, int], used: Usage | None) -> None:
        """Give ``cost`` back and count what was used; None: nothing. What the server does not count costs ``cost``."""
        self.reserved = (self.reserved[0] - cost[0], self.reserved[1] - cost[1])
        if used is not None:
            own = [cost[i] if n is None else n for i, n in enumerate((used.prompt, used.completion))]
            self.spent = (self.spent[0] + own[0], self.spent[1] + own[1])
            self.settings.spent = (self.before[0] + self.spent[0], self.before[1] + self.spent[1])
            self.requests += 1
        self._changed.set()

    def money(self, tokens: tuple[int, ...]) -> float:
        prices = (self.settings.price_prompt or 0.0, self.settings.price_completion or 0.0)
        return sum(n * price / _PER for n, price in zip(tokens, prices, strict=True))

    def __str__(self) -> str:
        said = f"{self.requests:,} requests, {self.spent[0]:,} tokens of prompts, {self.spent[1]:,} of completions"
        return f"{said}, {self.money(self.spent):,.4g} in money" if self.settings.price_prompt is not None else said


class Pace:
    """So much a minute, evenly: a request waits until what went before is paid off."""

    def __init__(self, a_minute: float | None) -> None:
        self.seconds = 60 / a_minute if a_minute else 0.0  # for one
        self.free = 0.0

    def take(self, n: float) -> float:
        """Seconds to wait for ``n`` more."""
        start = max(time.monotonic(), self.free)
        self.free = start + n * self.seconds
        return start - time.monotonic()

    def correct(self, n: float) -> None:
        """``n`` more (or fewer) were taken than was thought."""
        self.free += n * self.seconds
