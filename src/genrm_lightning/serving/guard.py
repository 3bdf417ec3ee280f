"""What stands before every endpoint: a count, a token, and room."""

from __future__ import annotations

import base64
import binascii
import hmac
from time import perf_counter
from typing import Any

from genrm_lightning.serving import extra
from genrm_lightning.serving.refusals import Refused, full, stopping
from genrm_lightning.serving.service import Service

with extra():
    from fastapi.responses import JSONResponse
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

_IN_PASSING = 1 << 16  # bytes of a body that nobody reads: so much is buffered anyhow


class Guard:
    """Counts requests, asks for the token, and lets none in while the server is being stopped or has too many.

    Who has no token takes no place of those who have one, and no body of his is read.
    """

    def __init__(self, app: ASGIApp, service: Service, token: str, paths: set[str]) -> None:
        self.app, self.service, self.token, self.paths = app, service, token.encode(), paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        service, begun, status, unread = self.service, perf_counter(), 500, _long_body(scope)

        async def reading() -> Message:
            nonlocal unread
            message = await receive()
            unread = unread and message.get("more_body", False)
            return message

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                if unread:  # else all of it would be taken in, for the connection's next request
                    message["headers"] = [*message.get("headers", ()), (b"connection", b"close")]
            await send(message)

        refused = self._refused(scope)
        counted = refused is None and scope["path"] != "/health"
        service.in_flight += counted
        try:
            await (self.app if refused is None else refusal(refused, scope["path"]))(scope, reading, watched)
        finally:
            service.in_flight -= counted
            endpoint = scope["path"] if scope["path"] in self.paths else "other"
            service.metrics.request(endpoint, status, perf_counter() - begun)

    def _refused(self, scope: Scope) -> Refused | None:
        if scope["path"] == "/health":
            return None
        given = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
        if not any(hmac.compare_digest(one, self.token) for one in _tokens(given)):
            return Refused(
                401, "the token is missing or wrong; send it as 'Authorization: Bearer TOKEN'",
                {"WWW-Authenticate": "Bearer"},
            )  # fmt: skip
        if scope["method"] != "POST":
            return None
        if self.service.stopping:
            return stopping()
        return full() if self.service.in_flight >= self.service.limits.queue else None


def _long_body(scope: Scope) -> bool:
    """Whether a body is announced that is not read in passing, or that its client may keep back if it is refused."""
    headers = dict(scope["headers"])
    if b"expect" in headers:
        return True
    declared = headers.get(b"content-length", b"0")
    return b"transfer-encoding" in headers or not declared.isdigit() or int(declared) > _IN_PASSING


def _tokens(header: bytes) -> list[bytes]:
    """What an Authorization header holds: a bearer's token, or the password of a URL (http://x:TOKEN@host:port)."""
    scheme, _, value = header.strip().partition(b" ")
    if scheme.lower() == b"basic":
        try:
            return [base64.b64decode(value.strip(), validate=True).partition(b":")[2]]
        except binascii.Error:
            return []
    return [value.strip()] if scheme.lower() == b"bearer" else []


def refusal(refused: Refused, path: str) -> JSONResponse:
    """One sentence, under /v1 in the object that OpenAI's clients look for it in."""
    said: Any = refused.sentence
    if path.startswith("/v1/"):
        kind = "invalid_request_error" if refused.status < 500 else "server_error"
        said = {"message": refused.sentence, "type": kind, "param": None, "code": refused.status}
    return JSONResponse({"error": said}, refused.status, refused.headers)
