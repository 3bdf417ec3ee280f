"""HTTP/1.1 as uvicorn speaks it, to clients that take their time."""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar

from genrm_lightning.serving import extra

with extra():
    import h11
    from uvicorn.protocols.http.h11_impl import H11Protocol


class Protocol(H11Protocol):
    """Closes a connection whose next request does not come: uvicorn would wait for the rest of a head for ever.

    What comes behind an answer and belongs to a body that nobody reads counts as waiting, too. A body that is read has
    the time of its request.
    """

    seconds: ClassVar[float] = 10.0  # for a head
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop()
        super().connection_lost(exc)

    def _watch(self) -> None:
        """Let the time run while there is nothing to answer."""
        if self.transport.is_closing() or self.conn.our_state not in (h11.IDLE, h11.DONE):
            self._stop()
        elif self._timer is None:
            self._timer = self.loop.call_later(self.seconds, self.transport.close)

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def patient(seconds: float) -> type[Protocol]:
    """A protocol that waits so long for a head."""
    return type("Patient", (Protocol,), {"seconds": seconds})
