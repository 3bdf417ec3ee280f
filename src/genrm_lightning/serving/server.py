"""The process: a socket, uvicorn, and an end that leaves nobody without an answer."""

from __future__ import annotations

import ipaddress
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic
from types import FrameType

from data_tools.errors import UserError
from genrm_lightning.serving import extra
from genrm_lightning.serving.app import make_app
from genrm_lightning.serving.protocol import patient
from genrm_lightning.serving.service import Service

with extra():
    import uvicorn

_LAST = 5  # seconds for answers to be sent once all is settled


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
        return socket.create_server(address[:2], family=family, backlog=1024)
    except OSError as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(
            f"--host, --port: {host}:{port}: {reason}; name an address of this machine, a free port"
        ) from None


class Server(uvicorn.Server):
    """Ends on SIGTERM or Ctrl-C: no new requests, those under way are finished, or refused after the time of grace.

    A second signal ends it at once.
    """

    def __init__(self, service: Service, token: str) -> None:
        super().__init__(
            uvicorn.Config(
                make_app(service, token),
                http=patient(service.limits.head),
                ws="none",
                lifespan="off",
                timeout_graceful_shutdown=_LAST,
                server_header=False,
                access_log=False,
                log_level="error",  # nothing that a client sends makes the log grow
            )
        )
        self.service = service
        self._last: float | None = None  # when grace ends

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
