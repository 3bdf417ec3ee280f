"""Requests to a server that may fail: tried again where that can help, paced, and stopped at a budget."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import Callable
from contextvars import ContextVar
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, TypeVar

from data_tools.errors import UserError
from data_tools.visible import visible
from genrm_lightning.samplers.replies import Garbage, Usage, usage
from genrm_lightning.samplers.spending import Budget, Pace

if TYPE_CHECKING:
    import httpx2

    from genrm_lightning.samplers.choice import OpenAISettings

_FIRST_WAIT, _LONGEST_WAIT = 0.5, 30.0  # seconds between tries; they double
_FAULTS = 8  # answers that are none, of one request, before it is given up
_BRIEF_FAULTS = 3  # the same where others wait for it, of a server that answered somebody in the last
_WELL = 60.0  # seconds
_QUIET = 60.0  # seconds before a fault of the same kind is said again
_MOST_BYTES = 32 << 20  # of an answer
_SHOWN = 300  # characters of the server's own words
_DENIED = (401, 402, 403, 407)
_BUSY = (408, 409, 425)
_AWAY = (502, 503, 504)  # a gateway's words for a server that is not there
_NEVER = (501, 505)

# Whether others of the call wait until this request is given up: its prompt may be what the server fails on.
brief: ContextVar[bool] = ContextVar("brief", default=False)

T = TypeVar("T")


class Refusal(Exception):
    """The server answered that it will not do this, now or later; its own words, made harmless."""

    def __init__(self, said: str, status: int) -> None:
        super().__init__(said)
        self.status = status


class Unanswered(UserError):
    """One request had no answer that is one, however often it was sent; others may have."""


class _Fault(Exception):
    """Something that another try may mend. ``wait``: seconds that the server asks for; ``billed``: it worked on it."""

    def __init__(self, kind: str, said: str, wait: float | None = None, billed: bool = False) -> None:
        super().__init__(said)
        self.kind, self.wait, self.billed = kind, wait, billed


class Client:
    """Asks one server; used from one event loop.

    Args:
        settings: address, pace, patience and budget.
        key: sent as a bearer token; never shown.
        say: takes lines about what happens.
    """

    def __init__(self, settings: OpenAISettings, key: str | None, say: Callable[[str], None]) -> None:
        import httpx2  # of the extra: reading the settings needs none of it

        self.settings, self.key, self.say = settings, key, say
        self.budget = Budget(settings)
        self.again: Counter[str] = Counter()  # tries that failed, by kind
        self._requests, self._tokens = Pace(settings.requests_per_minute), Pace(settings.tokens_per_minute)
        self._answered = 0.0  # when the server last did what was asked
        self._held = 0.0  # no request before this time: the server asked to wait
        self._said: dict[str, float] = {}
        self._down: float | None = None  # since when
        self._faults = (httpx2.HTTPError, httpx2.StreamError, OSError)
        limits = httpx2.Limits(max_connections=settings.concurrency)
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        # A proxy of the environment is for the world outside.
        self._http = httpx2.AsyncClient(
            headers=headers, limits=limits, timeout=settings.timeout, trust_env=not settings.is_local
        )

    async def close(self) -> None:
        await self._http.aclose()

    async def post(self, path: str, body: dict[str, Any], cost: tuple[int, int], read: Callable[[Any], T]) -> T:
        """What ``read`` makes of the answer to ``body``.

        Args:
            cost: tokens of prompt and completion that it may take at most.
            read: raises Garbage where the answer is none; it is then asked for again.

        Raises:
            Refusal: the server will not do it.
            UserError: the key is refused, the budget is spent, or the server did not answer for the settings' patience.
        """
        faults, first = Counter(), 0.0
        while True:
            await self.budget.reserve(cost)
            used: Usage | None = None
            try:
                await self._turn(sum(cost))
                answer = await self._send(path, body)
                used = usage(answer)
                result = read(answer)
                self._well(used, cost)
                return result
            except (_Fault, Garbage) as error:
                fault = error if isinstance(error, _Fault) else _Fault("garbage", str(error), billed=True)
                used = used or (Usage(None, None) if fault.billed else None)
            finally:
                self.budget.settle(cost, used)
            first = first or time.monotonic()
            faults[fault.kind] += 1
            wait = self._wait(fault, faults, max(first, self._answered))
            await asyncio.sleep(wait)

    async def _turn(self, tokens: int) -> None:
        await asyncio.sleep(max(self._requests.take(1), self._tokens.take(tokens)))
        while (wait := self._held - time.monotonic()) > 0:
            await asyncio.sleep(wait)

    def _well(self, used: Usage, cost: tuple[int, int]) -> None:
        now = time.monotonic()
        if self._down is not None:
            self.say(f"openai: the server answers again, after {now - self._down:.0f} s")
            self._down = None
        self._answered = now
        known = [limit if n is None else n for n, limit in zip((used.prompt, used.completion), cost, strict=True)]
        self._tokens.correct(sum(known) - sum(cost))

    def _wait(self, fault: _Fault, faults: Counter[str], since: float) -> float:
        """Seconds until the next try; says what happened. Raises UserError where there is none."""
        now = time.monotonic()
        patience = self.settings.patience
        where, said = self.settings.url, str(fault)
        self.again[fault.kind] += 1
        on = "finished shards are kept: run the same command again to go on"
        if fault.wait is not None and fault.wait > patience:
            raise UserError(
                f"sampler.openai.url: {where}: {said}, and asks to wait {fault.wait:.0f} s, more than "
                f"sampler.openai.patience ({patience:g}); {on} then"
            )
        if now - since > patience:
            raise UserError(f"sampler.openai.url: {where}: {said}; no answer for {patience:g} s; {on} once it answers")
        most = _BRIEF_FAULTS if brief.get() and self._answered and now - self._answered < _WELL else _FAULTS
        if fault.kind not in ("connection", "rate") and faults[fault.kind] >= most:
            raise Unanswered(f"sampler.openai.url: {where}: {said}, {most} times for one request; {on}")
        # Jitter changes no sample: it only keeps requests from coming back all at once.
        wait = min(_LONGEST_WAIT, _FIRST_WAIT * 2 ** (faults[fault.kind] - 1)) * random.uniform(0.5, 1)
        if fault.wait is not None:
            wait = max(fault.wait, 0.0) + wait / 10
            self._held = max(self._held, now + fault.wait)
        if now - self._said.get(fault.kind, -_QUIET) >= _QUIET:
            self._said[fault.kind] = now
            asked = f" (it asks for {fault.wait:.0f} s)" if fault.wait else ""
            self.say(f"openai: {said}{asked}; trying again, for up to {patience:g} s")
            if fault.kind == "connection":
                self._down = self._down or now
        return wait

    async def _send(self, path: str, body: dict[str, Any]) -> Any:
        """The answer's JSON. Raises _Fault, Refusal or UserError."""
        begun = False  # an answer that breaks off was worked on
        try:
            async with (
                asyncio.timeout(self.settings.timeout),
                self._http.stream("POST", f"{self.settings.base}{path}", json=body) as response,
            ):
                begun, data = True, bytearray()
                async for piece in response.aiter_bytes():
                    data += piece
                    if len(data) > _MOST_BYTES:
                        raise _Fault("garbage", f"an answer of more than {_MOST_BYTES >> 20} MiB", billed=True)
        except TimeoutError:
            raise _Fault("connection", f"no answer within {self.settings.timeout:g} s", billed=True) from None
        except self._faults as error:
            raise _Fault("connection", self._shown(str(error).strip() or type(error).__name__), billed=begun) from None
        self._check(response, bytes(data))
        try:
            return json.loads(data)
        except (ValueError, RecursionError):  # cut off, an HTML page, bytes that are no text
            raise _Fault("garbage", "the server's answer is not JSON, or cut off", billed=True) from None

    def _check(self, response: httpx2.Response, data: bytes) -> None:
        status = response.status_code
        if 200 <= status < 300:
            return
        said = f"the server answered {status}"
        words = self._words(data)
        said = f"{said} ({words})" if words else said
        # A key that was good is not refused: of one prompt a gateway says 403 that its filter will not have.
        if status in _DENIED and not (status == 403 and self._answered):
            named = self.settings.key_env or "none is named"
            raise UserError(
                f"sampler.openai.key_env: {said}; the key is read from the environment variable that "
                f"sampler.openai.key_env names ({named})"
            )
        if status == 429 and "insufficient_quota" in words:
            raise UserError(f"sampler.openai.url: {said}; finished shards are kept: run the same command again then")
        if status == 429 or (status == 503 and "retry-after" in response.headers):
            raise _Fault("rate", said, _retry_after(response.headers.get("retry-after")))
        if status in _AWAY:
            raise _Fault("connection", said)
        if status in _BUSY or (status >= 500 and status not in _NEVER):
            raise _Fault(f"status {status}", said)
        if 300 <= status < 400:
            said += f", which leads to {self._shown(response.headers.get('location', 'nowhere'))}; give that address"
        raise Refusal(said, status)

    def _words(self, data: bytes) -> str:
        """The server's own message, in one harmless line."""
        try:
            found = json.loads(data)
        except (ValueError, RecursionError):
            return ""  # a page of a proxy
        for name in ("error", "message", "detail"):
            while isinstance(found, dict) and name in found:
                code = found.get("code")
                found = found[name]
                if isinstance(found, str) and isinstance(code, str) and code not in found:
                    found = f"{found}, {code}"
        return self._shown(found if isinstance(found, str) else json.dumps(found))

    def _shown(self, text: str) -> str:
        text = " ".join(visible(text).split())
        if self.key:
            text = text.replace(self.key, "[key]")
        return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _retry_after(value: str | None) -> float | None:
    """Seconds of a Retry-After header: a number, or a date."""
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(value).timestamp() - time.time()
        except (TypeError, ValueError):
            return None
    return max(0.0, seconds) if seconds == seconds else None
