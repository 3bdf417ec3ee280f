"""HTTP/1.1 as uvicorn speaks it, to clients that take their time, or come in numbers."""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import Any, ClassVar

from genrm_lightning.serving import extra

with extra():
    import h11
    from uvicorn.protocols.http.h11_impl import H11Protocol

_AT_ONCE = struct.pack("ii", 1, 0)  # SO_LINGER: what is not sent yet is thrown away
_AHEAD = 1 << 16  # bytes of next requests that are read while one is answered: what comes behind them is a farewell


class Protocol(H11Protocol):
    """Ends a connection whose next request does not come, or whose client does not read its answers.

    uvicorn would wait for the rest of a head, and for room to write, for ever. What comes behind an answer and belongs
    to a body that nobody reads counts as waiting, too. A body that is read has the time of its request.

    A client that leaves is noticed while it is answered, though it has sent a part of its next request; with more
    than 64 KiB of them sent ahead it is noticed once it is answered.
    """

    head: ClassVar[float] = 10.0  # seconds for a head
    reading: ClassVar[float] = 120.0  # seconds in which a client must make room for answers
    most: ClassVar[float] = float("inf")  # connections; what comes beyond them is closed
    _timer: asyncio.TimerHandle | None = None
    _unread: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        if len(self.connections) > self.most:
            transport.abort()
        else:
            self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.conn.their_state is h11.DONE and len(self.conn.trailing_data[0]) <= _AHEAD:
            self.flow.resume_reading()  # uvicorn stops at the next request's first byte, and would see no end
        self._watch()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._watch()

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._unread is None:
            self._unread = self.loop.call_later(self.reading, self.let_go)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._unread = _stopped(self._unread)

    def connection_lost(self, exc: Exception | None) -> None:
        self._timer, self._unread = _stopped(self._timer), _stopped(self._unread)
        super().connection_lost(exc)

    def let_go(self) -> None:
        """End it, whatever is not read yet; else the system would go on to offer megabytes of it."""
        self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
        self.transport.abort()

    def _watch(self) -> None:
        """Let the time run while there is nothing to answer, or all is answered and the rest is to be read."""
        if not self.transport.is_closing() and self.conn.our_state not in (h11.IDLE, h11.DONE):
            self._timer = _stopped(self._timer)
        elif self._timer is None:
            self._timer = self.loop.call_later(self.head, self._over)

    def _over(self) -> None:
        """Close it, which waits for what is not read yet, but not for ever."""
        self.transport.close()
        self._timer = self.loop.call_later(self.reading, self.let_go)


def _stopped(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()


def patient(head: float, reading: float, most: int) -> type[Protocol]:
    """A protocol that waits so long, for so many."""
    return type("Patient", (Protocol,), {"head": head, "reading": reading, "most": most})
