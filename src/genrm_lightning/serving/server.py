"""The process: a socket, uvicorn, and an end that leaves nobody without an answer."""

from __future__ import annotations

import asyncio
import ipaddress
import math
import os
import resource
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic
from types import FrameType
from typing import Any

from data_tools.errors import UserError
from genrm_lightning.serving import extra
from genrm_lightning.serving.app import make_app
from genrm_lightning.serving.protocol import patient
from genrm_lightning.serving.service import Service

with extra():
    import uvicorn

_LAST = 5  # seconds for answers to be sent once all is settled
_BACKLOG = 1024  # connections that wait to be accepted
_AT_ONCE = 32  # of them that are accepted in one turn of the loop
_TURNS = 6  # of the loop until one that is too many is closed again
_SPARE = 64  # file descriptors for all but connections
_QUIET = 60.0  # seconds before the same trouble is said again


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def bound(host: str, port: int) -> socket.socket:
    """A socket that listens there; port 0: any free one.

    Raises:
        UserError: the port is taken, or the address is none of this machine.
    """
    if not 0 <= port < 1 << 16:  # the system would take it modulo 65536
        raise UserError(f"--port: {port}: is no port; name one below 65536")
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family, backlog=_BACKLOG)
    except OSError as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(
            f"--host, --port: {host}:{port}: {reason}; name an address of this machine, a free port"
        ) from None


def most_connections(queue: int) -> int:
    """Connections at a time: several for each request that may be under way, and as many as there are files left for.

    Args:
        queue: requests that may be under way.
    """
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if files == resource.RLIM_INFINITY:
        return _BACKLOG + 4 * queue
    left = files - _open_files() - _TURNS * _AT_ONCE - _SPARE
    return min(_BACKLOG + 4 * queue, max(left, files // 4))  # of few files a burst may take the last ones


def _open_files() -> int:
    try:
        return len(os.listdir("/dev/fd"))
    except OSError:
        return _SPARE


class Server(uvicorn.Server):
    """Ends on SIGTERM or Ctrl-C: no new requests, those under way are finished, or refused after the time of grace.

    A second signal ends it at once.
    """

    def __init__(self, service: Service, token: str) -> None:
        limits = service.limits
        super().__init__(
            uvicorn.Config(
                make_app(service, token),
                http=patient(limits.head, limits.seconds, most_connections(limits.queue)),
                ws="none",
                lifespan="off",
                backlog=_AT_ONCE,
                timeout_keep_alive=math.ceil(limits.head),
                timeout_graceful_shutdown=_LAST + 1,
                server_header=False,
                access_log=False,
                log_level="error",  # nothing that a client sends makes the log grow
            )
        )
        self.service = service
        self._last: float | None = None  # when grace ends
        self._told = -math.inf  # when it was said that there are no files left

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """As uvicorn's, which raises the signals once more at the end: but who ends when told to has not failed."""
        before = {each: signal.signal(each, self.handle_exit) for each in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for each, handler in before.items():
                signal.signal(each, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self.service.stopping:
            self.should_exit = self.force_exit = True
        self.service.stopping = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        asyncio.get_running_loop().set_exception_handler(self._trouble)
        await super().startup(sockets)
        for each in sockets or ():
            each.listen(_BACKLOG)  # what waits there takes no file; uvicorn said how many are accepted at once

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's; but whoever does not read his last answer is let go of, and no request ends in a traceback."""
        timer = asyncio.get_running_loop().call_later(_LAST, self._let_go)
        try:
            await super().shutdown(sockets)
        finally:
            timer.cancel()
            if self.server_state.connections:  # a second signal
                self._let_go()
                await asyncio.sleep(0.1)

    def _let_go(self) -> None:
        for connection in list(self.server_state.connections):
            connection.let_go()

    def _trouble(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """What goes wrong in the loop; a line a minute where files run out, not a traceback for each connection."""
        if "out of system resource" not in context.get("message", ""):
            loop.default_exception_handler(context)
        elif monotonic() - self._told > _QUIET:
            self._told = monotonic()
            print(f"serve: no connection could be accepted: {context.get('exception')}", file=sys.stderr, flush=True)

    async def on_tick(self, counter: int) -> bool:
        if self.service.stopping:
            now = monotonic()
            if self._last is None:
                self._last = now + self.service.limits.grace
            if self.service.in_flight and now >= self._last:
                self.service.end()  # they are told so
                return True
            if not self.service.in_flight:
                return True
        return await super().on_tick(counter)
